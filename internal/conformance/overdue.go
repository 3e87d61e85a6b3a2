package conformance

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of FailOverdue, which closes executing actions whose result is overdue.

func (l *ledger) mustFailOverdue(t *testing.T, olderThan time.Duration, limit int) []remediation.Action {
	t.Helper()
	closed, err := l.FailOverdue(t.Context(), olderThan, limit)
	if err != nil {
		t.Fatal(err)
	}
	return closed
}

// failedOverdue is an executing action as FailOverdue must leave it.
func failedOverdue(a remediation.Action, at time.Time, stderr *string) remediation.Action {
	a.Status, a.CompletedAt, a.Stderr = remediation.Failed, &at, stderr
	return a
}

func (l *ledger) TestFailOverdueClosesActionsThatRanLongerThanAllowed(t *testing.T) {
	const limit = 90 * time.Second
	executing := l.actionIn(t, remediation.Executing)
	since := *executing.ExecutedAt
	for _, age := range []time.Duration{0, time.Microsecond, limit - time.Microsecond, limit} {
		l.clock.now = since.Add(age)
		same(t, "closed after "+age.String(), len(l.mustFailOverdue(t, limit, 10)), 0)
		same(t, "the row after "+age.String(), l.mustGet(t, executing.ID), executing)
	}
	l.clock.now = since.Add(limit + time.Microsecond)
	closed := l.mustFailOverdue(t, limit, 10)
	if len(closed) != 1 {
		t.Fatalf("closed %v, want the overdue action", closed)
	}
	if s := closed[0].Stderr; s == nil || !strings.Contains(*s, limit.String()) {
		t.Errorf("stderr is %v, want it to say %s", s, limit)
	}
	want := failedOverdue(executing, l.clock.now, closed[0].Stderr)
	same(t, "FailOverdue", closed[0], want)
	same(t, "the row", l.mustGet(t, executing.ID), want)
	same(t, "closed by the next call", len(l.mustFailOverdue(t, limit, 10)), 0)

	// The zone of the clock and fractions of a microsecond make no difference.
	executing = l.actionIn(t, remediation.Executing)
	l.clock.now = executing.ExecutedAt.Add(limit + 999).In(time.FixedZone("+0545", 5*3600+45*60))
	same(t, "closed within the same microsecond", len(l.mustFailOverdue(t, limit, 10)), 0)
	l.clock.now = l.clock.now.Add(time.Microsecond)
	closed = l.mustFailOverdue(t, limit, 10)
	same(t, "closed in the next microsecond", ids(closed), []int64{executing.ID})
	same(t, "the row", l.mustGet(t, executing.ID), closed[0])
}

func (l *ledger) TestFailOverdueClosesOnlyExecutingActions(t *testing.T) {
	in := map[remediation.Status]remediation.Action{}
	for _, status := range remediation.Statuses() {
		in[status] = l.actionIn(t, status)
	}
	l.clock.now = l.clock.now.AddDate(10, 0, 0)
	same(t, "closed", ids(l.mustFailOverdue(t, time.Hour, 100)), []int64{in[remediation.Executing].ID})
	for status, a := range in {
		if status != remediation.Executing {
			same(t, "the row that is "+string(status), l.mustGet(t, a.ID), a)
		}
	}
	same(t, "closed with the longest duration", len(l.mustFailOverdue(t, math.MaxInt64, 100)), 0)
}

func (l *ledger) TestFailOverdueClosesTheOldestFirstUpToTheLimit(t *testing.T) {
	for n := 1; n <= 6; n++ { // the query plan may depend on the number of rows
		l.exec(t, "DELETE FROM remediation_actions")
		var all []int64
		for range n {
			all = append(all, l.actionIn(t, remediation.Executing).ID)
		}
		l.exec(t, "ANALYZE")
		l.clock.now = l.clock.now.Add(time.Hour)
		for len(all) > 0 {
			want := all[:min(2, len(all))]
			same(t, "closed", ids(l.mustFailOverdue(t, time.Minute, 2)), want)
			same(t, "still executing", l.count(t, "remediation_actions WHERE status = 'executing'"), len(all)-len(want))
			all = all[len(want):]
		}
		same(t, "closed when none is left", len(l.mustFailOverdue(t, time.Minute, 2)), 0)
	}

	same(t, "closed when none is left", len(l.mustFailOverdue(t, time.Minute, 2)), 0)
}

// PostgreSQL plans differently for a table that it takes to be small. No plan may run the subselect once for each row,
// because each run would apply the limit anew.
func (l *ledger) TestFailOverdueRespectsTheLimitUnderEveryQueryPlan(t *testing.T) {
	for _, n := range []int{20, 300} {
		many := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Executing)}, n)...)
		slices.Reverse(many)
		l.clock.now = at(0).AddDate(0, 0, 1)
		same(t, "closed before ANALYZE", ids(l.mustFailOverdue(t, time.Minute, 7)), many[:7])
		l.exec(t, "ANALYZE")
		same(t, "closed after ANALYZE", ids(l.mustFailOverdue(t, time.Minute, 5)), many[7:12])
		same(t, "closed with a limit above the rest", ids(l.mustFailOverdue(t, time.Minute, 1000)), many[12:])
	}
}

func (l *ledger) TestFinishAfterFailOverdueIsRefused(t *testing.T) {
	executing := l.actionIn(t, remediation.Executing)
	l.clock.now = l.clock.now.Add(time.Hour)
	closed := l.mustFailOverdue(t, time.Minute, 10)
	for _, late := range []step{complete, fail} {
		l.clock.tick()
		_, err := late.call(t.Context(), l.Ledger, paused, executing.ID)
		refused(t, err, remediation.TransitionError{ID: executing.ID, From: remediation.Failed, To: late.to})
	}
	same(t, "the row", l.mustGet(t, executing.ID), closed[0])
}

func (l *ledger) TestFailOverdueRaceClosesEachActionOnce(t *testing.T) {
	racers := l.racers(t, 8)
	all := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Executing)}, 150)...)
	l.clock.now = at(0).AddDate(0, 0, 1)
	closed := make([][]remediation.Action, len(racers))
	race(racers, func(i int, racer *remediation.Ledger) {
		// A call skips rows that other transactions have locked, so each racer repeats it until none is left.
		for l.count(t, "remediation_actions WHERE status = 'executing'") > 0 {
			list, err := racer.FailOverdue(t.Context(), time.Hour, 7)
			if err != nil {
				t.Error(err)
				return
			}
			if len(list) > 7 {
				t.Errorf("one call closed %d actions, want 7 at most", len(list))
			}
			closed[i] = append(closed[i], list...)
		}
	})
	got := slices.Concat(closed...)
	slices.SortFunc(got, func(a, b remediation.Action) int { return cmp.Compare(b.ID, a.ID) })
	same(t, "closed", ids(got), all)
	for _, a := range got {
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
	same(t, "events of kind failed", l.count(t, "remediation_events WHERE kind = 'failed'"), len(all))
}

func (l *ledger) TestFailOverdueRaceWithFinishHasOneWinner(t *testing.T) {
	racers := l.racers(t, 4)
	for range rounds(20) {
		executing := l.actionIn(t, remediation.Executing)
		l.clock.now = l.clock.now.Add(time.Hour)
		finished, errs := make([]remediation.Action, len(racers)), make([]error, len(racers))
		swept := make([][]remediation.Action, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			if i/2%2 == 0 {
				finished[i], errs[i] = complete.call(t.Context(), racer, paused, executing.ID)
				return
			}
			var err error
			if swept[i], err = racer.FailOverdue(t.Context(), time.Minute, 10); err != nil {
				t.Error(err)
			}
		})
		row := l.mustGet(t, executing.ID)
		won := slices.Concat(swept...)
		for i := range racers {
			if i/2%2 == 0 && errs[i] == nil {
				won = append(won, finished[i])
			} else if i/2%2 == 0 {
				refused(t, errs[i], remediation.TransitionError{ID: row.ID, From: row.Status, To: remediation.Completed})
			}
		}
		same(t, "the winner", won, []remediation.Action{row})
	}
}

func (l *ledger) TestFailOverdueInTheCallersTransaction(t *testing.T) {
	executing := l.actionIn(t, remediation.Executing)
	l.clock.now = l.clock.now.Add(time.Hour)
	for _, keep := range []bool{false, true} {
		tx := l.db.Begin(t)
		closed, err := l.on(tx.Store).FailOverdue(t.Context(), time.Minute, 10)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "closed in the transaction", ids(closed), []int64{executing.ID})
		want, end := executing, tx.Rollback
		if keep {
			want, end = closed[0], tx.Commit
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		same(t, "the row after the transaction", l.mustGet(t, executing.ID), want)
	}
}

func (l *ledger) TestFailOverdueValidatesItsInput(t *testing.T) {
	executing := l.actionIn(t, remediation.Executing)
	l.clock.now = l.clock.now.Add(time.Hour)
	for _, olderThan := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
		closed, err := l.FailOverdue(t.Context(), olderThan, 10)
		badInput(t, err, "older_than")
		same(t, "closed", len(closed), 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.FailOverdue(ctx, time.Minute, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("FailOverdue with a cancelled context: %v", err)
	}
	same(t, "the row", l.mustGet(t, executing.ID), executing)
}

// The clock of a Raspberry Pi without a battery restarts in 1970. Its agent can still claim and finish actions: a fresh
// claim is not overdue, and a fresh result is not old enough to clear or prune.
func (l *ledger) TestWrongAgentClockClosesAndDeletesNothingEarly(t *testing.T) {
	agent := remediation.New(l.db.Store, remediation.WithClock(func() time.Time { return time.Unix(3600, 0) }))
	claimed, err := agent.Claim(t.Context(), l.mustCreate(t, newAction(normal)).ServerID)
	if err != nil {
		t.Fatal(err)
	}
	l.clock.tick()
	same(t, "closed a minute later", ids(l.mustFailOverdue(t, time.Hour, 10)), []int64(nil))
	finished, err := agent.Finish(t.Context(), normal, claimed.ID, remediation.Result{Stdout: "up"})
	if err != nil {
		t.Fatal(err)
	}
	rejected, err := agent.Reject(t.Context(), l.mustCreate(t, newAction(paused)).ID, "carol", "no")
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []time.Time{l.clock.now.AddDate(-1, 0, 0), at(0)} {
		cleared, err := l.ClearOutput(t.Context(), before, 10)
		if err != nil || cleared != 0 {
			t.Errorf("ClearOutput before %s: %d, %v, want 0", before, cleared, err)
		}
		pruned, err := l.Prune(t.Context(), before, 10)
		if err != nil || pruned != 0 {
			t.Errorf("Prune before %s: %d, %v, want 0", before, pruned, err)
		}
	}
	same(t, "the fresh result", l.mustGet(t, finished.ID), finished)
	same(t, "the fresh decision", l.mustGet(t, rejected.ID), rejected)
	pruned, err := l.Prune(t.Context(), l.clock.now.Add(time.Second), 10)
	if err != nil || pruned != 2 {
		t.Errorf("Prune after both have ended: %d, %v, want 2", pruned, err)
	}
}
