package conformance

import (
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests that raw SQL can change the fields of an action only by a valid transition: what was approved is what runs.

// otherValues has a different value for the id and each column of given and audit.
var otherValues = row{
	"id":        "id + 1000",
	"server_id": quote(paused), "action_type": "'reboot'", "service_name": "'sshd'", "command": "'rm -rf /'",
	"created_at": literal(at(30)), "created_by": "'mallory'",
	"approved_at": literal(at(30)), "approved_by": "'mallory'",
	"rejected_at": literal(at(30)), "rejected_by": "'mallory'", "rejection_reason": "'never said'",
	"executed_at": literal(at(30)), "completed_at": literal(at(30)), "exit_code": "7", "stdout": "'other'", "stderr": "'other'",
}

// nulls has NULL for some columns of given.
var nulls = row{"service_name": "NULL", "command": "NULL", "created_at": "NULL", "created_by": "NULL"}

func (l *ledger) TestRequestedFieldsNeverChange(t *testing.T) {
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		for _, c := range append([]string{"id"}, given...) {
			l.wontUpdate(t, a, otherValues.set(c))
		}
		for c := range nulls {
			l.wontUpdate(t, a, nulls.set(c))
		}
		l.wontUpdate(t, a, "command = command || ' && reboot'")
		if err := l.update(t, a.ID, rowOf(a).set(given...)); err != nil {
			t.Errorf("%s: writing the same values again: %v", a.Status, err)
		}

		a.ServiceName = nil
		l.wontUpdate(t, l.store(t, a), otherValues.set("service_name"))
	}
}

func (l *ledger) TestAC5_AuditFieldIsWrittenOnceWithItsTransition(t *testing.T) {
	for _, a := range append(examples(), withdrawn()) {
		a, r := l.store(t, a), rowOf(a)
		for _, c := range audit {
			l.wontUpdate(t, a, otherValues.set(c))
			if r[c] != "NULL" {
				l.wontUpdate(t, a, r.toggled(c).set(c))
			}
		}
	}
	// Fields that are optional in a status can't be filled after the transition either.
	completed, failed := example(remediation.Completed), example(remediation.Failed)
	completed.Stdout, completed.Stderr = nil, nil
	failed.Stdout, failed.Stderr, failed.ExitCode = nil, nil, nil
	for _, a := range []remediation.Action{completed, failed} {
		a = l.store(t, a)
		for _, c := range optional[a.Status] {
			l.wontUpdate(t, a, otherValues.set(c))
		}
	}
}

func (l *ledger) TestTransitionChangesNoOtherField(t *testing.T) {
	for _, tr := range transitions() {
		from := l.store(t, tr.from)
		for _, c := range append([]string{"id"}, given...) {
			l.wontUpdate(t, from, tr.set()+", "+otherValues.set(c))
		}
		for _, c := range audit {
			if rowOf(tr.from)[c] != "NULL" {
				l.wontUpdate(t, from, tr.set()+", "+otherValues.set(c))
			}
		}
	}
	// Without its approval, a withdrawn action would pass for one that was rejected.
	approved := l.store(t, example(remediation.Approved))
	l.wontUpdate(t, approved, rowOf(withdrawn()).set("status", "rejected_at", "rejected_by", "rejection_reason")+
		", approved_at = NULL, approved_by = NULL")
	// With an approval, a rejected action would pass for one that was withdrawn.
	pending := l.store(t, example(remediation.Pending))
	l.wontUpdate(t, pending, rowOf(withdrawn()).set("status", "rejected_at", "rejected_by", "rejection_reason",
		"approved_at", "approved_by"))
}

func (l *ledger) TestAC7_ActionKeepsItsAlertAsLongAsTheAlertExists(t *testing.T) {
	alert, other := l.mustAddAlert(t, normal), l.mustAddAlert(t, normal)
	for _, a := range append(examples(), withdrawn()) {
		a.AlertID = &alert
		a = l.store(t, a)
		l.wontUpdate(t, a, "alert_id = NULL")
		l.wontUpdate(t, a, "alert_id = "+number(other))
		if err := l.update(t, a.ID, "alert_id = "+number(alert)); err != nil {
			t.Errorf("%s: writing the same alert again: %v", a.Status, err)
		}
	}
	for _, tr := range transitions() {
		tr.from.AlertID = &alert
		l.wontUpdate(t, l.store(t, tr.from), tr.set()+", alert_id = NULL")
	}
}

func (l *ledger) TestInsertCannotOverwriteAnAction(t *testing.T) {
	insert := func(id int64) string {
		r := rowOf(example(remediation.Pending))
		r["id"], r["command"] = number(id), "'rm -rf /'"
		columns := append([]string{"id"}, given...)
		return "INSERT INTO remediation_actions (" + strings.Join(columns, ", ") + ") VALUES " + r.values(columns)
	}
	for _, a := range append(examples(), withdrawn()) {
		a = l.store(t, a)
		for _, query := range []string{
			insert(a.ID),
			insert(a.ID) + " ON CONFLICT (id) DO UPDATE SET command = excluded.command",
		} {
			if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
				t.Errorf("%s was accepted", query)
			}
			same(t, "after "+query, l.mustGet(t, a.ID), a)
		}
	}
	l.exec(t, insert(1000000)) // the same statement with an unused id
}

// The host program owns the table of servers and may write it. Pause and Unpause accept every state that they find, and
// are no-ops if the server is already in that mode.
func (l *ledger) TestAC3_HostMayWriteTheServersTable(t *testing.T) {
	since := func(serverID, want string) {
		t.Helper()
		if l.count(t, "servers WHERE id = "+quote(serverID)+" AND paused_at "+want) != 1 {
			t.Errorf("%s: paused_at is not %s", serverID, want)
		}
	}
	const later = "'2026-11-23 13:00:00+00:00'"
	for _, set := range []string{"paused_at = " + later, "is_paused = TRUE, paused_at = " + later} {
		l.exec(t, "UPDATE servers SET "+set+" WHERE id = "+quote(paused))
	}
	l.clock.tick()
	l.mustPause(t, paused)
	since(paused, "= "+later)
	l.exec(t, "UPDATE servers SET paused_at = NULL WHERE id = "+quote(paused))
	l.mustPause(t, paused)
	since(paused, "IS NULL")
	l.exec(t, "UPDATE servers SET paused_at = "+later+" WHERE id = "+quote(normal))
	l.mustUnpause(t, normal)
	since(normal, "IS NULL")
	l.mustUnpause(t, normal)
	l.mustPause(t, normal)
	since(normal, "= "+literal(l.clock.now))
}

func (l *ledger) TestAlertOfAnotherServerIsRefused(t *testing.T) {
	alert := l.mustAddAlert(t, paused)
	a := newAction(normal)
	a.AlertID = &alert
	_, err := l.Create(t.Context(), a)
	wantError(t, "Create", err, remediation.ErrAlertNotFound)
	linked := example(remediation.Pending)
	linked.AlertID = &alert
	l.wontInsert(t, "remediation_actions", rowOf(linked))
	l.wontUpdate(t, l.store(t, example(remediation.Pending)), "alert_id = "+number(alert))
}
