package conformance

import (
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of RequestCancel, which records a request and does not stop the action.

func (l *ledger) TestCancelRequestIsRecordedAndAdvisory(t *testing.T) {
	for _, end := range []step{complete, fail} {
		a := l.actionIn(t, remediation.Executing)
		last := l.lastEvent(t)
		want := a
		want.CancelRequestedAt, want.CancelRequestedBy, want.CancelReason = new(l.clock.tick()), new("erin"), new("wrong host")
		got, err := l.RequestCancel(t.Context(), a.ID, "erin", "wrong host")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "RequestCancel", got, want)
		same(t, "the row", l.mustGet(t, a.ID), want)
		sameEvents(t, "events of RequestCancel", l.mustEvents(t, last), []remediation.Event{{ActionID: a.ID, ServerID: a.ServerID,
			Kind: remediation.EventCancelRequested, Actor: new("erin"), OccurredAt: l.clock.now, Detail: new("wrong host")}})
		e := l.mustExplain(t, a.ID)
		same(t, "reason", e.Reason, remediation.ReasonExecuting)
		if !strings.Contains(e.String(), "erin") {
			t.Errorf("%q doesn't name the person who asked to cancel", e)
		}
		last = l.lastEvent(t)
		_, err = l.RequestCancel(t.Context(), a.ID, "frank", "again")
		refused(t, err, remediation.TransitionError{ID: a.ID, From: remediation.Executing, To: remediation.Rejected})
		if !strings.Contains(err.Error(), "erin") {
			t.Errorf("%q doesn't name the person who asked first", err)
		}
		same(t, "number of events of a second request", len(l.mustEvents(t, last)), 0)
		l.clock.tick()
		l.mustStep(t, want, end)
	}
}

func (l *ledger) TestCancelRequestNeedsAnExecutingAction(t *testing.T) {
	for status, hint := range map[remediation.Status]string{
		remediation.Pending: "Reject", remediation.Approved: "Withdraw",
		remediation.Rejected: "rejected", remediation.Completed: "completed", remediation.Failed: "failed",
	} {
		a := l.actionIn(t, status)
		_, err := l.RequestCancel(t.Context(), a.ID, "erin", "wrong host")
		refused(t, err, remediation.TransitionError{ID: a.ID, From: status, To: remediation.Rejected})
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%q doesn't say %s", err, hint)
		}
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
	_, err := l.RequestCancel(t.Context(), 4711, "erin", "wrong host")
	wantError(t, "RequestCancel of an unknown action", err, remediation.ErrNotFound)
}

func (l *ledger) TestCancelRequestRaceHasOneWinner(t *testing.T) {
	racers := l.racers(t, 16)
	a := l.actionIn(t, remediation.Executing)
	last := l.lastEvent(t)
	outcomes := make([]error, len(racers))
	race(racers, func(i int, racer *remediation.Ledger) {
		_, outcomes[i] = racer.RequestCancel(t.Context(), a.ID, "erin", "attempt "+number(int64(i)))
	})
	winners := 0
	for i, err := range outcomes {
		if err == nil {
			winners++
			same(t, "reason", l.mustGet(t, a.ID).CancelReason, new("attempt "+number(int64(i))))
			continue
		}
		refused(t, err, remediation.TransitionError{ID: a.ID, From: remediation.Executing, To: remediation.Rejected})
	}
	same(t, "number of winners", winners, 1)
	same(t, "number of events", len(l.mustEvents(t, last)), 1)
}

func (l *ledger) TestCancelRequestRacingWithFinishIsRecordedOrRefused(t *testing.T) {
	racers := l.racers(t, 2)
	for range rounds(20) {
		a := l.actionIn(t, remediation.Executing)
		var cancelErr error
		race(racers, func(i int, racer *remediation.Ledger) {
			if i == 0 {
				_, cancelErr = racer.RequestCancel(t.Context(), a.ID, "erin", "wrong host")
			} else if _, err := complete.call(t.Context(), racer, paused, a.ID); err != nil {
				t.Error(err)
			}
		})
		got := l.mustGet(t, a.ID)
		same(t, "status", got.Status, remediation.Completed)
		same(t, "cancel request recorded", got.CancelRequestedAt != nil, cancelErr == nil)
		if cancelErr != nil {
			refused(t, cancelErr, remediation.TransitionError{ID: a.ID, From: remediation.Completed, To: remediation.Rejected})
		}
	}
}

func (l *ledger) TestCancelRequestRulesApplyToRawSQL(t *testing.T) {
	set := func(minute int, by, reason string) string {
		return "cancel_requested_at = " + literal(at(minute)) + ", cancel_requested_by = " + by + ", cancel_reason = " + reason
	}
	good := set(50, "'erin'", "'wrong host'")
	for _, status := range remediation.Statuses() {
		a := l.actionIn(t, status)
		if status != remediation.Executing {
			l.wontUpdate(t, a, good)
			continue
		}
		for _, bad := range []string{
			set(50, "''", "'wrong host'"), set(50, "'erin'", "''"), set(50, "NULL", "'wrong host'"), set(50, "'erin'", "NULL"),
			"cancel_requested_at = " + literal(at(50)), "cancel_requested_by = 'erin'", "cancel_reason = 'wrong host'",
			"cancel_requested_by = 'erin', cancel_reason = 'wrong host'",
			"cancel_requested_at = 'infinity', cancel_requested_by = 'erin', cancel_reason = 'wrong host'",
			good + ", status = 'completed', exit_code = 0, completed_at = " + literal(at(51)),
		} {
			l.wontUpdate(t, a, bad)
		}
		if err := l.update(t, a.ID, good); err != nil {
			t.Fatal(err)
		}
		a = l.mustGet(t, a.ID)
		for _, bad := range []string{set(51, "'erin'", "'wrong host'"), set(50, "'frank'", "'wrong host'"), set(50, "'erin'", "'no'"),
			"cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL", "cancel_reason = NULL"} {
			l.wontUpdate(t, a, bad)
		}
	}
	for _, status := range remediation.Statuses() {
		a := example(status)
		a.CancelRequestedAt, a.CancelRequestedBy, a.CancelReason = new(at(30)), new("erin"), new("wrong host")
		stored, err := l.insert(t, rowOf(a))
		if accepted := err == nil; accepted != (a.ExecutedAt != nil) {
			t.Errorf("insert of a %s row with a cancel request: %v", status, err)
		} else if accepted {
			a.ID = stored[0]
			same(t, "the row", l.mustGet(t, a.ID), a)
		}
		for _, column := range []string{"cancel_requested_at", "cancel_requested_by", "cancel_reason"} {
			r := rowOf(a)
			r[column] = "NULL"
			if _, err := l.insert(t, r); err == nil {
				t.Errorf("a %s row with a cancel request but without %s was accepted", status, column)
			}
		}
	}
}

func (l *ledger) TestCancelRequestInTheCallersTransaction(t *testing.T) {
	a := l.actionIn(t, remediation.Executing)
	tx := l.db.Begin(t)
	inTx := l.on(tx.Store)
	if _, err := inTx.RequestCancel(t.Context(), a.ID, "erin", "wrong host"); err != nil {
		t.Fatal(err)
	}
	_, err := inTx.RequestCancel(t.Context(), a.ID, "erin", "wrong host")
	refused(t, err, remediation.TransitionError{ID: a.ID, From: remediation.Executing, To: remediation.Rejected})
	got, err := inTx.Heartbeat(t.Context(), paused, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "cancel_requested_by in the transaction", got.CancelRequestedBy, new("erin"))
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	same(t, "after the rollback", l.mustGet(t, a.ID), a)
}
