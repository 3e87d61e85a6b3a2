package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// The constraints of the tables, tried with raw SQL: the calls never get as far as most of them.
var guards = []behaviour{
	{"DatabaseTakesNoRowThatLacksSomething", nothingIsLacking},
	{"DatabaseTakesNoRowOfAnUnknownServer", rowOfUnknownServer},
	{"AlertsGoWithTheirServer", alertsGoWithTheirServer},
	{"IdOfADeletedRowIsNotGivenAgain", idIsNotGivenAgain},
	{"WritingTheAuditFieldsThatAreThereChangesNothing", sameAuditIsAccepted},
	{"AC7_ActionWithoutAlertMayGetOne", alertMayComeLater},
	{"IdThatIsTakenIsRefused", takenIDIsRefused},
	{"AC6_DatabaseTakesNoTextAsExitCode", exitCodeIsANumber},
	{"AC7_UnknownAlertIsRefusedBesideAKnownOne", unknownBesideKnown},
	{"OnlyItsOwnServersMaintenanceHoldsAnAction", holdsByItsOwnServer},
	{"ExplainLooksAtItsOwnServer", explainLooksAtItsServer},
	{"OldRowsFollowTheRules", oldRowsFollowTheRules},
	{"OldRowsStopNoOther", oldRowsStopNoOther},
}

func insertion(table string, r row) string {
	columns := slices.Sorted(maps.Keys(r))
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES " + r.values(columns)
}

// wontInsert expects that the row is refused.
func (l *ledger) wontInsert(t *testing.T, table string, r row) {
	t.Helper()
	before := l.count(t, table)
	if _, err := l.db.Raw.ExecContext(t.Context(), insertion(table, r)); err == nil {
		t.Errorf("%s was accepted", insertion(table, r))
	}
	same(t, "rows of "+table, l.count(t, table), before)
}

func nothingIsLacking(t *testing.T, l *ledger) {
	action := rowOf(example(remediation.Pending))
	maps.DeleteFunc(action, func(_, value string) bool { return value == "NULL" })
	delete(action, "service_name") // which an action may lack
	for table, r := range map[string]row{
		"servers":             {"id": "'web-2'", "is_paused": "FALSE"},
		"alerts":              {"server_id": quote(normal), "title": "'down'"},
		"remediation_actions": action,
		"remediation_events":  {"action_id": "7", "server_id": quote(normal), "kind": "'created'", "occurred_at": literal(at(0))},
	} {
		for column := range r {
			lacking := maps.Clone(r)
			lacking[column] = "NULL"
			l.wontInsert(t, table, lacking)
		}
		l.exec(t, insertion(table, r))
	}
}

func rowOfUnknownServer(t *testing.T, l *ledger) {
	a := example(remediation.Pending)
	a.ServerID = "nowhere"
	l.wontInsert(t, "remediation_actions", rowOf(a))
	l.wontInsert(t, "alerts", row{"server_id": "'nowhere'", "title": "'down'"})
}

func alertsGoWithTheirServer(t *testing.T, l *ledger) {
	alert, kept := l.alert(t, normal), l.alert(t, paused)
	a := newAction(normal)
	a.AlertID = &alert
	l.create(t, a)
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	same(t, "alerts left", l.count(t, "alerts"), 1)
	same(t, "the other server's", l.count(t, "alerts WHERE id = "+number(kept)), 1)
}

func idIsNotGivenAgain(t *testing.T, l *ledger) {
	newest := func(table string) (id int64) {
		t.Helper()
		if err := l.db.Raw.QueryRowContext(t.Context(), "SELECT max(id) FROM "+table).Scan(&id); err != nil {
			t.Fatalf("the newest of %s: %v", table, err)
		}
		return id
	}
	tables := []string{"alerts", "remediation_actions", "remediation_events"}
	gone := map[string]int64{}
	for range 2 {
		l.alert(t, normal)
		l.create(t, newAction(normal))
		for _, table := range tables {
			id := newest(table)
			if id <= gone[table] {
				t.Errorf("id %d of %s is given again after %d was", id, table, gone[table])
			}
		}
		for _, table := range tables {
			gone[table] = newest(table)
			l.exec(t, "DELETE FROM "+table)
		}
	}
}

func takenIDIsRefused(t *testing.T, l *ledger) {
	alert := l.alert(t, normal)
	l.create(t, newAction(normal))
	event := l.events(t, 0)[0]
	l.wontInsert(t, "servers", row{"id": quote(normal)})
	l.wontInsert(t, "alerts", row{"id": number(alert), "server_id": quote(normal), "title": "'down'"})
	l.wontInsert(t, "remediation_events", row{"id": number(event.ID), "action_id": "7", "server_id": quote(normal),
		"kind": "'created'", "occurred_at": literal(at(0))})
}

func sameAuditIsAccepted(t *testing.T, l *ledger) {
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		if err := l.update(t, a.ID, rowOf(a).set(audit...)); err != nil {
			t.Errorf("%s: %v", a.Status, err)
		}
		same(t, "the row", l.get(t, a.ID), a)
	}
}

func alertMayComeLater(t *testing.T, l *ledger) {
	alert := l.alert(t, normal)
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		if err := l.update(t, a.ID, "alert_id = "+number(alert)); err != nil {
			t.Errorf("%s: %v", a.Status, err)
		}
		a.AlertID = &alert
		same(t, "the row", l.get(t, a.ID), a)
	}
}

func exitCodeIsANumber(t *testing.T, l *ledger) {
	r := rowOf(example(remediation.Failed))
	r["exit_code"] = "'one'"
	if _, err := l.insert(t, r); err == nil {
		t.Error("a row with the exit code 'one' was accepted")
	}
	executing := l.store(t, example(remediation.Executing))
	// PostgreSQL refuses such a literal before it looks for the row, so l.update is of no use here.
	query := "UPDATE remediation_actions SET " + r.set("status", "completed_at", "exit_code") + " WHERE id = " + number(executing.ID)
	if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
		t.Errorf("%s was accepted", query)
	}
	same(t, "the row", l.get(t, executing.ID), executing)
}

func unknownBesideKnown(t *testing.T, l *ledger) {
	a := newAction(normal)
	a.AlertID = new(l.alert(t, normal) + 1)
	got, err := l.Create(t.Context(), a)
	wantError(t, "Create", err, remediation.ErrAlertNotFound)
	same(t, "Create", got, remediation.Action{})
}

func holdsByItsOwnServer(t *testing.T, l *ledger) {
	held := l.create(t, newAction(normal))
	l.pause(t, normal)
	l.unpause(t, paused)
	l.nothingToClaim(t, normal)
	_, err := l.Start(t.Context(), held.ID)
	refused(t, err, remediation.TransitionError{ID: held.ID, From: remediation.Approved, To: remediation.Executing})
}

func explainLooksAtItsServer(t *testing.T, l *ledger) {
	l.take(t, l.create(t, newAction(normal)), start) // is before nothing of another server
	l.unpause(t, paused)
	held := l.create(t, newAction(paused))
	same(t, "the reason", l.explain(t, held.ID).Reason, remediation.ReasonUnclaimed)
	l.pause(t, paused)
	same(t, "the reason in maintenance", l.explain(t, held.ID).Reason, remediation.ReasonMaintenance)
}

// insertOld stores a row as an older program left it, whatever the rules say, and returns it as it reads.
func (l *ledger) insertOld(t *testing.T, r row) remediation.Action {
	t.Helper()
	// SQLite has a trigger of its own for inserts, which nothing here needs again.
	_, err := l.db.Raw.ExecContext(t.Context(), "DROP TRIGGER IF EXISTS remediation_actions_consistent_insert")
	isPostgres := err != nil
	if isPostgres {
		l.exec(t, "ALTER TABLE remediation_actions DISABLE TRIGGER remediation_actions_consistent")
	}
	ids, err := l.insert(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if isPostgres {
		l.exec(t, "ALTER TABLE remediation_actions ENABLE TRIGGER remediation_actions_consistent")
	}
	return l.get(t, ids[0])
}

// In a row that fits its status one rule often stands in for another. In one that has a field too many or too few, each
// must hold by itself.
func oldRowsFollowTheRules(t *testing.T, l *ledger) {
	for _, tr := range transitions() {
		for _, c := range audit {
			old := l.insertOld(t, rowOf(tr.from).toggled(c))
			if rowOf(tr.from)[c] != "NULL" {
				l.wontUpdate(t, old, tr.set()) // what is lacking stays so
				continue
			}
			fills := slices.DeleteFunc(slices.Clone(tr.fills), func(f string) bool { return f == c })
			set := rowOf(tr.to).set(append(fills, "status")...)
			l.wontUpdate(t, old, set+", "+c+" = NULL")
			l.wontUpdate(t, old, set+", "+changed.set(c))
			if slices.Contains(tr.fills, c) {
				if fits := c != "exit_code" || tr.to.Status == remediation.Completed; fits {
					l.exec(t, "UPDATE remediation_actions SET "+set+", "+filled.set(c)+" WHERE id = "+number(old.ID)) // what is there already
				}
				continue
			}
			l.wontUpdate(t, old, set)
			for _, other := range audit {
				if other != c && rowOf(tr.to)[other] == "NULL" {
					l.wontUpdate(t, old, set+", "+filled.set(other))
				}
			}
		}
	}
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		for _, c := range []string{"stdout", "stderr"} {
			l.wontUpdate(t, l.insertOld(t, rowOf(example(status)).toggled(c)), "stdout = NULL, stderr = NULL")
		}
	}
}

// A row that can't be decided, run or closed under the rules is passed over, so that the others are.
func oldRowsStopNoOther(t *testing.T, l *ledger) {
	l.clock.now = at(0).AddDate(0, 0, 1)
	decided := func(call string, old remediation.Action, outcomes []remediation.Outcome, err error) {
		t.Helper()
		if err != nil || outcomes[0].Err == nil || outcomes[1].Err != nil {
			t.Errorf("%s beside %+v: %v, %v", call, old, outcomes, err)
		}
		same(t, "the old row", l.get(t, old.ID), old)
	}
	for _, c := range audit {
		pair := func(status remediation.Status) (old, good remediation.Action) {
			return l.insertOld(t, rowOf(example(status)).toggled(c)), l.store(t, example(status))
		}
		old, good := pair(remediation.Pending)
		outcomes, err := l.ApproveMany(t.Context(), []int64{old.ID, good.ID}, "bob")
		decided("ApproveMany", old, outcomes, err)
		if _, err := l.Withdraw(t.Context(), good.ID, "dave", "no"); err != nil {
			t.Fatal(err)
		}
		good = l.store(t, example(remediation.Pending))
		outcomes, err = l.RejectMany(t.Context(), []int64{old.ID, good.ID}, "carol", "no")
		decided("RejectMany", old, outcomes, err)

		old, good = pair(remediation.Approved)
		if e := l.explain(t, good.ID); e.Behind != 0 {
			t.Errorf("with %s: %s", c, e)
		}
		same(t, "Claim beside an old row with "+c, l.claim(t, normal).ID, good.ID)
		l.nothingToClaim(t, normal)
		if _, err := complete.call(t.Context(), l.Ledger, normal, good.ID); err != nil {
			t.Fatal(err)
		}

		old, good = pair(remediation.Executing)
		same(t, "closed beside an old row with "+c, ids(l.sweep(t, time.Hour, 1)), []int64{good.ID})
		same(t, "the old row", l.get(t, old.ID), old)
		l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(old.ID)) // nothing is behind it in the next round
	}
	for _, status := range remediation.Statuses() {
		if status == remediation.Approved {
			continue
		}
		r := rowOf(example(remediation.Approved))
		r["status"] = quote(string(status))
		l.insertOld(t, r)
		good := l.store(t, example(remediation.Approved))
		same(t, "Claim beside "+string(status)+" with an approval", l.claim(t, normal).ID, good.ID)
	}
	for _, status := range remediation.Statuses()[1:] { // with no more than a pending one has
		bare := rowOf(example(remediation.Pending))
		bare["status"] = quote(string(status))
		old, good := l.insertOld(t, bare), l.store(t, example(remediation.Pending))
		outcomes, err := l.ApproveMany(t.Context(), []int64{old.ID, good.ID}, "bob")
		decided("ApproveMany", old, outcomes, err)
		good = l.store(t, example(remediation.Pending))
		outcomes, err = l.RejectMany(t.Context(), []int64{old.ID, good.ID}, "carol", "no")
		decided("RejectMany", old, outcomes, err)
	}
}
