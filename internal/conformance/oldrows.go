package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Old rows predate the rules of the database, and the rules refuse them now. An old row never starts, can always be
// ended, and keeps no other action from being claimed.

// insertOld inserts a row with the rules switched off, as an older program wrote it, and returns the stored action.
func (l *ledger) insertOld(t *testing.T, r row) remediation.Action {
	t.Helper()
	var ids []int64
	var err error
	l.db.BeforeRules(t, func() { ids, err = l.insert(t, r) })
	if err != nil {
		t.Fatal(err)
	}
	return l.mustGet(t, ids[0])
}

// A row that fits its status is often protected by several rules at once. A row with an audit field too many or too few
// shows whether each rule works alone: the row never moves toward execution, and it can always be ended.
func (l *ledger) TestUpdatesOfOldRowsFollowTheRules(t *testing.T) {
	for _, tr := range transitions() {
		for _, c := range audit {
			lacks := rowOf(tr.from)[c] != "NULL"
			old := l.insertOld(t, rowOf(tr.from).toggled(c))
			fills := slices.DeleteFunc(slices.Clone(tr.fills), func(f string) bool { return f == c })
			set := rowOf(tr.to).set(append(fills, "status")...)
			if !tr.to.Status.Terminal() {
				l.wontUpdate(t, old, set)
				l.wontUpdate(t, old, tr.set())
				l.wontUpdate(t, old, set+", "+sample.set(c))
			}
			if !lacks {
				l.wontUpdate(t, old, set+", "+c+" = NULL")
				l.wontUpdate(t, old, set+", "+otherValues.set(c))
			}
			for _, other := range audit {
				if other != c && !slices.Contains(tr.fills, other) && rowOf(tr.from)[other] == "NULL" {
					l.wontUpdate(t, old, set+", "+sample.set(other))
				}
			}
			if lacks && tr.to.Status.Terminal() {
				l.wontUpdate(t, old, tr.set()+", "+sample.set(c)) // a missing field can't be filled in later
			}
			if fits := c != "exit_code" || lacks || tr.to.Status == remediation.Completed; tr.to.Status.Terminal() && fits {
				l.exec(t, "UPDATE remediation_actions SET "+set+" WHERE id = "+number(old.ID))
			}
		}
	}
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		for _, c := range []string{"stdout", "stderr"} {
			l.wontUpdate(t, l.insertOld(t, rowOf(example(status)).toggled(c)), "stdout = NULL, stderr = NULL")
		}
	}
}

// invalidRows returns rows of a status that each have one audit field too many, too few or empty.
func invalidRows(status remediation.Status) []row {
	good := rowOf(example(status))
	var list []row
	for _, c := range audit {
		list = append(list, good.toggled(c))
	}
	if good["approved_by"] != "NULL" {
		emptyApprover := maps.Clone(good)
		emptyApprover["approved_by"] = "''"
		list = append(list, emptyApprover)
	}
	emptyReason := maps.Clone(good)
	emptyReason["rejection_reason"] = "''"
	return append(list, emptyReason)
}

// wantEnded is the expected result of a step that ends an old row: recorded fields stay, and missing ones are filled.
func wantEnded(old remediation.Action, s step, at time.Time) remediation.Action {
	want := s.after(old, at)
	keepRecorded(&want.RejectedAt, old.RejectedAt)
	keepRecorded(&want.RejectedBy, old.RejectedBy)
	keepRecorded(&want.RejectionReason, old.RejectionReason)
	keepRecorded(&want.CompletedAt, old.CompletedAt)
	keepRecorded(&want.ExitCode, old.ExitCode)
	keepRecorded(&want.Stdout, old.Stdout)
	keepRecorded(&want.Stderr, old.Stderr)
	if want.Status != remediation.Rejected && want.ExitCode != nil {
		want.Status = remediation.Failed
		if *want.ExitCode == 0 {
			want.Status = remediation.Completed
		}
	}
	return want
}

func keepRecorded[T any](field **T, recorded *T) {
	if recorded != nil {
		*field = recorded
	}
}

// everyBulkCallSkips expects each bulk call to refuse an old row and to decide a valid one in the same call.
func (l *ledger) everyBulkCallSkips(t *testing.T, old remediation.Action) {
	t.Helper()
	for _, m := range bulkCalls {
		l.bulkCallSkips(t, m, old)
	}
}

// bulkCallSkips is everyBulkCallSkips for one bulk call.
func (l *ledger) bulkCallSkips(t *testing.T, m bulkCall, old remediation.Action) {
	t.Helper()
	good := l.store(t, example(remediation.Pending))
	outcomes, err := m.call(t, l.Ledger, []int64{old.ID, good.ID})
	if err != nil {
		t.Fatalf("%s beside %+v: %v", m.step.name, old, err)
	}
	want := remediation.TransitionError{ID: old.ID, From: old.Status, To: m.step.to}
	if old.Status == m.step.from {
		want.Why = remediation.ReasonNoApproval
	}
	refused(t, outcomes[0].Err, want)
	same(t, "the old row", l.mustGet(t, old.ID), old)
	if got := outcomes[1]; got.Err != nil || got.Action.Status != m.step.to {
		t.Errorf("%s beside %+v: %+v", m.step.name, old, got)
	}
}

func (l *ledger) TestPendingOldRowsCanBeRejectedButNotApproved(t *testing.T) {
	for _, r := range invalidRows(remediation.Pending) {
		old := l.insertOld(t, r)
		same(t, "the reason", l.mustExplain(t, old.ID).Reason, remediation.ReasonNoApproval)
		_, err := l.Approve(t.Context(), old.ID, "bob")
		refusedFor(t, err, old.ID, approve, remediation.ReasonNoApproval)
		l.bulkCallSkips(t, approveAll, old)
		want := wantEnded(old, reject, l.clock.tick())
		got, err := l.Reject(t.Context(), old.ID, "carol", "not on a Friday")
		if err != nil {
			t.Fatalf("reject %+v: %v", old, err)
		}
		same(t, "Reject", got, want)
		same(t, "the stored row after Reject", l.mustGet(t, old.ID), want)

		old = l.insertOld(t, r)
		want = wantEnded(old, reject, l.clock.tick())
		outcomes, err := rejectAll.call(t, l.Ledger, []int64{old.ID})
		if err != nil || outcomes[0].Err != nil {
			t.Fatalf("reject %+v: %v, %+v", old, err, outcomes)
		}
		same(t, "the row after RejectMany", l.mustGet(t, old.ID), want)
	}
}

func (l *ledger) TestApprovedOldRowsCanBeWithdrawnButNeverStart(t *testing.T) {
	for _, r := range invalidRows(remediation.Approved) {
		old, good := l.insertOld(t, r), l.store(t, example(remediation.Approved))
		same(t, "the old row's reason", l.mustExplain(t, old.ID).Reason, remediation.ReasonNoApproval)
		if e := l.mustExplain(t, good.ID); e.Reason != remediation.ReasonUnclaimed || e.Behind != 0 {
			t.Errorf("beside %+v: %s", old, e)
		}
		same(t, "claimed", l.mustClaim(t, normal).ID, good.ID)
		l.nothingToClaim(t, normal)
		_, err := l.Start(t.Context(), old.ID)
		refusedFor(t, err, old.ID, start, remediation.ReasonNoApproval)
		same(t, "the old row", l.mustGet(t, old.ID), old)
		want := wantEnded(old, withdraw, l.clock.tick())
		got, err := l.Withdraw(t.Context(), old.ID, "dave", "the alert is gone")
		if err != nil {
			t.Fatalf("withdraw %+v: %v", old, err)
		}
		same(t, "Withdraw", got, want)
		same(t, "the stored row after Withdraw", l.mustGet(t, old.ID), want)
		l.advance(t, l.mustGet(t, good.ID), complete) // so that the next round starts without a running action
	}
}

func (l *ledger) TestExecutingOldRowsCanBeFinished(t *testing.T) {
	for _, r := range invalidRows(remediation.Executing) {
		for _, s := range []step{complete, fail} {
			old, next := l.insertOld(t, r), l.store(t, example(remediation.Approved))
			recorded := old.CompletedAt != nil || old.ExitCode != nil
			if e := l.mustExplain(t, old.ID); e.Reason != remediation.ReasonExecuting || (e.Detail != "") != recorded {
				t.Errorf("Explain of %+v: %s", old, e)
			}
			if behind := l.mustExplain(t, next.ID).Behind; (behind == old.ID) == recorded {
				t.Errorf("beside %+v the next action is behind %d", old, behind)
			}
			want := wantEnded(old, s, l.clock.tick())
			got, err := s.call(t.Context(), l.Ledger, normal, old.ID)
			if err != nil {
				t.Fatalf("%s of %+v: %v", s.name, old, err)
			}
			same(t, s.name, got, want)
			same(t, "the stored row after "+s.name, l.mustGet(t, old.ID), want)
			l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(next.ID))
		}
	}
}

func (l *ledger) TestOldRowsAreTreatedByStatusNotByAuditFields(t *testing.T) {
	with := func(status, fields remediation.Status) remediation.Action {
		r := rowOf(example(fields))
		r["status"] = quote(string(status))
		return l.insertOld(t, r)
	}
	for _, status := range remediation.Statuses() {
		if status != remediation.Approved {
			with(status, remediation.Approved)
			good := l.store(t, example(remediation.Approved))
			if e := l.mustExplain(t, good.ID); status != remediation.Executing && e.Behind != 0 {
				t.Errorf("beside an old row that is %s: %s", status, e)
			}
			same(t, "claimed beside an old row that is "+string(status), l.mustClaim(t, normal).ID, good.ID)
			l.nothingToClaim(t, normal)
			l.exec(t, "DELETE FROM remediation_actions") // so that no row is left over in the next round
		}
	}
	l.clock.now = at(0).AddDate(0, 0, 1)
	for _, status := range remediation.Statuses() {
		if status != remediation.Executing {
			with(status, remediation.Executing)
			good := l.store(t, example(remediation.Executing))
			closed := l.mustFailOverdue(t, time.Hour, 1)
			same(t, "closed beside an old row that is "+string(status), ids(closed), []int64{good.ID})
		}
	}
	for _, status := range remediation.Statuses() {
		if status != remediation.Pending {
			l.everyBulkCallSkips(t, with(status, remediation.Pending))
		}
	}
}

func (l *ledger) TestFailOverdueClosesOldRows(t *testing.T) {
	l.clock.now = at(0).AddDate(0, 0, 1)
	now := l.clock.now
	failOverdue := step{to: remediation.Failed, fill: func(a *remediation.Action, at time.Time) {
		a.CompletedAt, a.Stderr = &at, new("no result came within 1h0m0s")
	}}
	for _, r := range invalidRows(remediation.Executing) {
		old, good := l.insertOld(t, r), l.store(t, example(remediation.Executing))
		closed := l.mustFailOverdue(t, time.Hour, 10)
		same(t, "closed", ids(closed), []int64{old.ID, good.ID})
		same(t, "the old row", closed[0], wantEnded(old, failOverdue, now))
		same(t, "closed by the next call", len(l.mustFailOverdue(t, time.Hour, 10)), 0)
	}
}

func (l *ledger) TestClearOutputSkipsOldRowsThatAreOpen(t *testing.T) {
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		old := l.insertOld(t, rowOf(example(status)).toggled("stdout"))
		for _, c := range []string{"stdout", "stderr"} {
			l.exec(t, insertion("remediation_actions", rowOf(endedAt(remediation.Failed, at(40))).toggled(c)))
			cleared, err := l.ClearOutput(t.Context(), at(59), 1)
			if err != nil || cleared != 1 {
				t.Errorf("cleared beside an old row that is %s, of an action without %s: %d, %v, want 1", status, c, cleared, err)
			}
		}
		same(t, "the old row", l.mustGet(t, old.ID), old)
	}
}

// timedOutAction is an action in status timed_out, which the newest version of the Python original writes.
func timedOutAction() remediation.Action {
	a := endedAt(remediation.Failed, at(40))
	a.Status, a.ExitCode = "timed_out", new(int64(-1))
	return a
}

func (l *ledger) TestTimedOutIsReadAndNeverWritten(t *testing.T) {
	old, next := l.insertOld(t, rowOf(timedOutAction())), l.store(t, example(remediation.Approved))
	want := timedOutAction()
	want.ID = old.ID
	same(t, "Get", old, want)
	want.Stdout, want.Stderr = nil, nil
	for _, f := range []remediation.Filter{
		{Status: "timed_out"}, {Status: "timed_out", ServerID: normal}, {Status: "timed_out", ActionType: want.ActionType},
		{Status: "timed_out", ServerID: normal, ActionType: want.ActionType},
	} {
		same(t, "List", l.mustList(t, f), []remediation.Action{want})
	}
	same(t, "counts of timed_out", l.mustCounts(t, "timed_out"), map[remediation.Status]int64{"timed_out": 1})
	same(t, "statuses counted by default", len(l.mustCounts(t)), len(remediation.Statuses()))
	l.wantExplanation(t, remediation.Explanation{ActionID: old.ID, ServerID: normal, Status: "timed_out",
		Reason: remediation.ReasonFinished, Since: at(40), By: *old.ApprovedBy, Detail: "-1"},
		"timed out at "+at(40).Format(time.DateTime), "with exit code -1")
	same(t, "Behind of the next action", l.mustExplain(t, next.ID).Behind, int64(0))
	same(t, "claimed beside it", l.mustClaim(t, normal).ID, next.ID)

	for _, s := range steps {
		_, err := s.call(t.Context(), l.Ledger, normal, old.ID)
		refused(t, err, remediation.TransitionError{ID: old.ID, From: "timed_out", To: s.to})
	}
	l.everyBulkCallSkips(t, old)
	for _, status := range remediation.Statuses() {
		r := rowOf(example(status))
		l.wontUpdate(t, old, r.set("status"))
		l.wontUpdate(t, old, r.set(append(audit, "status")...))
	}
	for _, set := range []string{"status = status", "exit_code = 0", "stdout = 'other'", "stdout = NULL",
		"command = 'true'"} {
		l.wontUpdate(t, old, set)
	}
	executing := l.store(t, example(remediation.Executing))
	l.wontUpdate(t, executing, rowOf(timedOutAction()).set("status", "completed_at", "exit_code"))
	if _, err := l.insert(t, rowOf(timedOutAction())); err == nil {
		t.Error("an INSERT of a row with status timed_out was accepted")
	}

	l.exec(t, "DELETE FROM remediation_actions WHERE status <> 'timed_out'")
	same(t, "cleared at the exclusive boundary", l.mustClearOutput(t, at(40), 10), int64(0))
	same(t, "cleared after the boundary", l.mustClearOutput(t, at(41), 10), int64(1))
	want.Stdout, want.Stderr = nil, nil
	same(t, "the row without outputs", l.mustGet(t, old.ID), want)
	same(t, "pruned at the exclusive boundary", l.mustPrune(t, at(40), 10), int64(0))
	same(t, "pruned after the boundary", l.mustPrune(t, at(41), 10), int64(1))
	_, err := l.Get(t.Context(), old.ID)
	wantError(t, "Get", err, remediation.ErrNotFound)
}

// The ledger returns an unknown status unchanged. It can't tell whether that status is terminal, so Prune and
// ClearOutput skip the row.
func (l *ledger) TestUnknownStatusesAreReadAndNeverPruned(t *testing.T) {
	r := rowOf(timedOutAction())
	for _, status := range []remediation.Status{"cancelled", "Pending", remediation.Status(strings.Repeat("é", 20))} {
		r["status"] = quote(string(status))
		old := l.insertOld(t, r)
		same(t, "the status", l.mustList(t, remediation.Filter{Limit: 1})[0].Status, status)
		same(t, "the row", l.mustGet(t, old.ID).Status, status)
		same(t, "cleared", l.mustClearOutput(t, at(59), 10), int64(0))
		same(t, "pruned", l.mustPrune(t, at(59), 10), int64(0))
	}
}
