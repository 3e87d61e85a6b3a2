package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the constraints of the tables. Most of them use raw SQL because the calls validate their input first.

// insertion returns the INSERT of a row into a table.
func insertion(table string, r row) string {
	columns := slices.Sorted(maps.Keys(r))
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + r.values(columns)
}

// wontInsert expects that the INSERT of a row is refused.
func (l *ledger) wontInsert(t *testing.T, table string, r row) {
	t.Helper()
	before := l.count(t, table)
	if _, err := l.db.Raw.ExecContext(t.Context(), insertion(table, r)); err == nil {
		t.Errorf("%s was accepted", insertion(table, r))
	}
	same(t, "number of rows in "+table, l.count(t, table), before)
}

func (l *ledger) TestDatabaseRefusesRowWithoutRequiredColumn(t *testing.T) {
	action := rowOf(example(remediation.Pending))
	maps.DeleteFunc(action, func(_, value string) bool { return value == "NULL" })
	delete(action, "service_name") // optional
	for table, r := range map[string]row{
		"servers":             {"id": "'web-2'", "is_paused": "FALSE"},
		"alerts":              {"server_id": quote(normal), "title": "'down'"},
		"remediation_actions": action,
	} {
		for column := range r {
			incomplete := maps.Clone(r)
			incomplete[column] = "NULL"
			l.wontInsert(t, table, incomplete)
		}
		l.exec(t, insertion(table, r))
	}
}

func (l *ledger) TestDatabaseRefusesRowOfUnknownServer(t *testing.T) {
	a := example(remediation.Pending)
	a.ServerID = "nowhere"
	l.wontInsert(t, "remediation_actions", rowOf(a))
	l.wontInsert(t, "alerts", row{"server_id": "'nowhere'", "title": "'down'"})
}

func (l *ledger) TestDeletingTheServerDeletesItsAlerts(t *testing.T) {
	alert, kept := l.mustAddAlert(t, normal), l.mustAddAlert(t, paused)
	a := newAction(normal)
	a.AlertID = &alert
	l.mustCreate(t, a)
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	same(t, "number of remaining alerts", l.count(t, "alerts"), 1)
	same(t, "the alert of the other server", l.count(t, "alerts WHERE id = "+number(kept)), 1)
}

func (l *ledger) TestIDOfADeletedRowIsNotReused(t *testing.T) {
	newest := func(table string) (id int64) {
		t.Helper()
		if err := l.db.Raw.QueryRowContext(t.Context(), "SELECT max(id) FROM "+table).Scan(&id); err != nil {
			t.Fatalf("largest id of %s: %v", table, err)
		}
		return id
	}
	tables := []string{"alerts", "remediation_actions", "remediation_events"}
	deleted := map[string]int64{}
	for range 2 {
		l.mustAddAlert(t, normal)
		l.mustCreate(t, newAction(normal))
		for _, table := range tables {
			id := newest(table)
			if id <= deleted[table] {
				t.Errorf("new row of %s has id %d, but id %d was used before", table, id, deleted[table])
			}
		}
		for _, table := range tables {
			deleted[table] = newest(table)
			l.exec(t, "DELETE FROM "+table)
		}
	}
}

func (l *ledger) TestInsertWithAnExistingIDIsRefused(t *testing.T) {
	alert := l.mustAddAlert(t, normal)
	l.mustCreate(t, newAction(normal))
	event := l.mustEvents(t, 0)[0]
	l.wontInsert(t, "servers", row{"id": quote(normal)})
	l.wontInsert(t, "alerts", row{"id": number(alert), "server_id": quote(normal), "title": "'down'"})
	l.wontInsert(t, "remediation_events", row{"id": number(event.ID), "action_id": "7", "server_id": quote(normal),
		"kind": "'created'", "occurred_at": literal(at(0))})
}

func (l *ledger) TestWritingTheSameAuditFieldsIsANoOp(t *testing.T) {
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		if err := l.update(t, a.ID, rowOf(a).set(audit...)); err != nil {
			t.Errorf("%s: %v", a.Status, err)
		}
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
}

func (l *ledger) TestAC7_ActionWithoutAlertCanBeLinkedLater(t *testing.T) {
	alert := l.mustAddAlert(t, normal)
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		if err := l.update(t, a.ID, "alert_id = "+number(alert)); err != nil {
			t.Errorf("%s: %v", a.Status, err)
		}
		a.AlertID = &alert
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
}

func (l *ledger) TestAC6_DatabaseRefusesTextAsExitCode(t *testing.T) {
	r := rowOf(example(remediation.Failed))
	r["exit_code"] = "'one'"
	if _, err := l.insert(t, r); err == nil {
		t.Error("a row with the exit code 'one' was accepted")
	}
	executing := l.store(t, example(remediation.Executing))
	// l.update can't be used: PostgreSQL refuses this literal even if no row matches.
	query := "UPDATE remediation_actions SET " + r.set("status", "completed_at", "exit_code") + " WHERE id = " + number(executing.ID)
	if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
		t.Errorf("%s was accepted", query)
	}
	same(t, "the row", l.mustGet(t, executing.ID), executing)
}

func (l *ledger) TestAC7_UnknownAlertIsRefusedWhileAnotherExists(t *testing.T) {
	a := newAction(normal)
	a.AlertID = new(l.mustAddAlert(t, normal) + 1)
	got, err := l.Create(t.Context(), a)
	wantError(t, "Create", err, remediation.ErrAlertNotFound)
	same(t, "Create", got, remediation.Action{})
}

func (l *ledger) TestUnpausingAnotherServerReleasesNothing(t *testing.T) {
	held := l.mustCreate(t, newAction(normal))
	l.mustPause(t, normal)
	l.mustUnpause(t, paused)
	l.nothingToClaim(t, normal)
	_, err := l.Start(t.Context(), held.ID)
	refused(t, err, remediation.TransitionError{ID: held.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
}

func (l *ledger) TestExplainIgnoresOtherServers(t *testing.T) {
	l.advance(t, l.mustCreate(t, newAction(normal)), start) // not ahead of actions on another server
	l.mustUnpause(t, paused)
	held := l.mustCreate(t, newAction(paused))
	same(t, "the reason", l.mustExplain(t, held.ID).Reason, remediation.ReasonUnclaimed)
	l.mustPause(t, paused)
	same(t, "the reason in maintenance", l.mustExplain(t, held.ID).Reason, remediation.ReasonMaintenance)
}

// Before the rules, SQLite stored any value as a mode, such as the text 'true' that another language writes for a
// boolean. Every value but FALSE counts as maintenance.
func (l *ledger) TestUnreadableModeCountsAsMaintenance(t *testing.T) {
	before := l.mustCreate(t, newAction(normal))
	l.db.BeforeRules(t, func() { l.exec(t, "UPDATE servers SET is_paused = 'true' WHERE id = "+quote(normal)) })
	same(t, "status of a new action", l.mustCreate(t, newAction(normal)).Status, remediation.Pending)
	same(t, "the reason", l.mustExplain(t, before.ID).Reason, remediation.ReasonMaintenance)
	l.nothingToClaim(t, normal)
	_, err := l.Start(t.Context(), before.ID)
	refused(t, err, remediation.TransitionError{ID: before.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
	l.mustUnpause(t, normal)
	same(t, "claimed", l.mustClaim(t, normal).ID, before.ID)
}
