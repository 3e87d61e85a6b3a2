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

func (l *ledger) mustFailOverdue(t *testing.T, olderThan time.Duration, limit int) []remediation.Action {
	t.Helper()
	closed, err := l.FailOverdue(t.Context(), olderThan, limit)
	if err != nil {
		t.Fatal(err)
	}
	return closed
}

// unreported is what a sweep must make of an executing action.
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
		t.Fatalf("closed %v, want the one that is overdue", closed)
	}
	if s := closed[0].Stderr; s == nil || !strings.Contains(*s, limit.String()) {
		t.Errorf("stderr is %v, want it to say %s", s, limit)
	}
	want := failedOverdue(executing, l.clock.now, closed[0].Stderr)
	same(t, "FailOverdue", closed[0], want)
	same(t, "the row", l.mustGet(t, executing.ID), want)
	same(t, "closed again", len(l.mustFailOverdue(t, limit, 10)), 0)

	// What a program says about how long in a zone of its own, or finer than a microsecond, counts the same.
	executing = l.actionIn(t, remediation.Executing)
	l.clock.now = executing.ExecutedAt.Add(limit + 999).In(time.FixedZone("+0545", 5*3600+45*60))
	same(t, "closed within the same microsecond", len(l.mustFailOverdue(t, limit, 10)), 0)
	l.clock.now = l.clock.now.Add(time.Microsecond)
	closed = l.mustFailOverdue(t, limit, 10)
	same(t, "closed in the next", ids(closed), []int64{executing.ID})
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
	same(t, "closed within the longest time there is", len(l.mustFailOverdue(t, math.MaxInt64, 100)), 0)
}

func (l *ledger) TestFailOverdueClosesTheOldestFirstUpToTheLimit(t *testing.T) {
	for n := 1; n <= 6; n++ { // however few there are, and whatever the planner makes of that
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
			same(t, "what executes still", l.count(t, "remediation_actions WHERE status = 'executing'"), len(all)-len(want))
			all = all[len(want):]
		}
		same(t, "closed at last", len(l.mustFailOverdue(t, time.Minute, 2)), 0)
	}

	same(t, "closed of none", len(l.mustFailOverdue(t, time.Minute, 2)), 0)
}

// PostgreSQL has other plans for a table that it believes to be small, and must not run the subselect once for each row.
func (l *ledger) TestFailOverdueRespectsTheLimitUnderEveryQueryPlan(t *testing.T) {
	for _, n := range []int{20, 300} {
		many := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Executing)}, n)...)
		slices.Reverse(many)
		l.clock.now = at(0).AddDate(0, 0, 1)
		same(t, "closed of many", ids(l.mustFailOverdue(t, time.Minute, 7)), many[:7])
		l.exec(t, "ANALYZE")
		same(t, "closed of more", ids(l.mustFailOverdue(t, time.Minute, 5)), many[7:12])
		same(t, "closed of the rest", ids(l.mustFailOverdue(t, time.Minute, 1000)), many[12:])
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
		// One that passes over what others hold may find less than there is, so each goes on until all is closed.
		for l.count(t, "remediation_actions WHERE status = 'executing'") > 0 {
			list, err := racer.FailOverdue(t.Context(), time.Hour, 7)
			if err != nil {
				t.Error(err)
				return
			}
			if len(list) > 7 {
				t.Errorf("%d were closed at once, want 7 at most", len(list))
			}
			closed[i] = append(closed[i], list...)
		}
	})
	got := slices.Concat(closed...)
	slices.SortFunc(got, func(a, b remediation.Action) int { return cmp.Compare(b.ID, a.ID) })
	same(t, "what was closed", ids(got), all)
	for _, a := range got {
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
	same(t, "events of it", l.count(t, "remediation_events WHERE kind = 'failed'"), len(all))
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
		same(t, "afterwards", l.mustGet(t, executing.ID), want)
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
		t.Errorf("cancelled: %v", err)
	}
	same(t, "the row", l.mustGet(t, executing.ID), executing)
}

// The clock of a Pi without a battery begins in 1970 after each start. Its work gets done, and nothing takes what was
// claimed a moment ago for overdue, or a fresh result for an old one.
func (l *ledger) TestWrongAgentClockClosesAndDeletesNothingEarly(t *testing.T) {
	agent := remediation.New(l.db.Store, remediation.WithClock(func() time.Time { return time.Unix(3600, 0) }))
	claimed, err := agent.Claim(t.Context(), l.mustCreate(t, newAction(normal)).ServerID)
	if err != nil {
		t.Fatal(err)
	}
	l.clock.tick()
	same(t, "closed a minute after", ids(l.mustFailOverdue(t, time.Hour, 10)), []int64(nil))
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
			t.Errorf("outputs from before %s cleared: %d, %v", before, cleared, err)
		}
		pruned, err := l.Prune(t.Context(), before, 10)
		if err != nil || pruned != 0 {
			t.Errorf("actions from before %s pruned: %d, %v", before, pruned, err)
		}
	}
	same(t, "the fresh result", l.mustGet(t, finished.ID), finished)
	same(t, "the fresh decision", l.mustGet(t, rejected.ID), rejected)
	pruned, err := l.Prune(t.Context(), l.clock.now.Add(time.Second), 10)
	if err != nil || pruned != 2 {
		t.Errorf("pruned later: %d, %v, want 2", pruned, err)
	}
}
