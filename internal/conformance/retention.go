package conformance

import (
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Prune and ClearOutput, which delete old actions and their outputs.

// endedAt is a valid terminal action that ended at a time.
func endedAt(status remediation.Status, end time.Time) remediation.Action {
	a := example(status)
	if a.CompletedAt != nil {
		a.CompletedAt = &end
	} else {
		a.RejectedAt = &end
	}
	return a
}

func (l *ledger) mustPrune(t *testing.T, before time.Time, limit int) int64 {
	t.Helper()
	n, err := l.Prune(t.Context(), before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (l *ledger) mustClearOutput(t *testing.T, before time.Time, limit int) int64 {
	t.Helper()
	n, err := l.ClearOutput(t.Context(), before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (l *ledger) TestPruneDeletesTheActionsThatEndedFirst(t *testing.T) {
	var byEnd []int64 // ordered by end, which is the reverse order of the ids
	for i, status := range []remediation.Status{remediation.Failed, remediation.Rejected, remediation.Completed,
		remediation.Rejected, remediation.Completed, remediation.Failed, remediation.Completed} {
		byEnd = append([]int64{l.store(t, endedAt(status, at(50-i))).ID}, byEnd...)
	}
	for len(byEnd) > 0 {
		n := min(3, len(byEnd))
		same(t, "pruned", l.mustPrune(t, at(59), 3), int64(n))
		byEnd = byEnd[n:]
		got := ids(l.mustList(t, remediation.Filter{}))
		same(t, "the actions left", got, append([]int64(nil), byEnd...))
	}
	same(t, "pruned when none is left", l.mustPrune(t, at(59), 3), int64(0))
}

func (l *ledger) TestPruneBoundaryIsExclusive(t *testing.T) {
	for _, status := range []remediation.Status{remediation.Completed, remediation.Failed, remediation.Rejected} {
		end := at(40)
		a := l.store(t, endedAt(status, end))
		for _, before := range []time.Time{{}, end.Add(-time.Hour), end.Add(-time.Microsecond), end} {
			same(t, "pruned before "+before.String(), l.mustPrune(t, before, 10), int64(0))
		}
		same(t, "the row", l.mustGet(t, a.ID), a)
		same(t, "pruned", l.mustPrune(t, end.Add(time.Microsecond).In(time.FixedZone("-0900", -9*3600)), 10), int64(1))
	}
	for _, late := range []time.Time{at(0).AddDate(8000, 0, 0), time.Unix(1<<40, 0)} { // years with five digits
		l.store(t, endedAt(remediation.Failed, at(40)))
		cleared, err := l.ClearOutput(t.Context(), late, 10)
		if err != nil || cleared != 1 {
			t.Errorf("cleared before %s: %d, %v, want 1", late, cleared, err)
		}
		same(t, "pruned before "+late.String(), l.mustPrune(t, late, 10), int64(1))
	}
	for _, c := range []string{"created_at", "approved_at", "executed_at"} { // later than the end, by a wrong clock
		r := rowOf(endedAt(remediation.Failed, at(40)))
		r[c] = literal(at(45))
		l.exec(t, insertion("remediation_actions", r))
		for _, call := range []func(*testing.T, time.Time, int) int64{l.mustClearOutput, l.mustPrune} {
			same(t, "cleared or pruned at the latest time, "+c, call(t, at(45), 10), int64(0))
			same(t, "cleared or pruned after the latest time, "+c, call(t, at(46), 10), int64(1))
		}
	}
	// SQLite stores a whole second as a shorter text than its fractions, and must still sort both by time.
	second := at(40).Truncate(time.Second)
	for _, d := range []time.Duration{0, time.Microsecond, 500 * time.Millisecond, 999999 * time.Microsecond} {
		l.store(t, endedAt(remediation.Completed, second.Add(d)))
		same(t, "pruned at the end of the action", l.mustPrune(t, second.Add(d), 10), int64(0))
		same(t, "pruned after the end of the action", l.mustPrune(t, second.Add(d+time.Microsecond), 10), int64(1))
	}
}

func (l *ledger) TestPruneNeverDeletesOpenActions(t *testing.T) {
	var open []remediation.Action
	for _, a := range examples() {
		a = l.store(t, a)
		if !a.Status.Terminal() {
			open = append(open, a)
		}
	}
	l.store(t, withdrawn())
	for _, want := range []int64{1, 1, 1, 1, 0} { // older open actions don't count toward the limit
		same(t, "pruned", l.mustPrune(t, at(0).AddDate(100, 0, 0), 1), want)
	}
	for _, a := range open {
		same(t, "the row that is "+string(a.Status), l.mustGet(t, a.ID), a)
	}
	same(t, "actions left", len(l.mustList(t, remediation.Filter{})), len(open))
}

func (l *ledger) TestPruneKeepsTheEvents(t *testing.T) {
	a := l.actionIn(t, remediation.Failed)
	before := l.mustEvents(t, 0)
	same(t, "pruned", l.mustPrune(t, l.clock.tick(), 10), int64(1))
	_, err := l.Get(t.Context(), a.ID)
	wantError(t, "Get", err, remediation.ErrNotFound)
	after := l.mustEvents(t, 0)
	same(t, "the events before", after[:len(before)], before)
	got := after[len(before):]
	if len(got) != 1 {
		t.Fatalf("new events are %v, want one of kind deleted", got)
	}
	got[0].ID, got[0].OccurredAt = 0, time.Time{}
	same(t, "the new event", got[0], remediation.Event{
		ActionID: a.ID, ServerID: paused, Kind: remediation.EventDeleted, Detail: new(string(remediation.Failed)),
	})
}

// storeEnded stores n terminal actions that did not end in the order of their ids.
func (l *ledger) storeEnded(t *testing.T, n int) {
	t.Helper()
	list := make([]remediation.Action, n)
	for i := range list {
		list[i] = endedAt([]remediation.Status{remediation.Completed, remediation.Failed}[i%2], at(3+i*37%50))
	}
	l.fill(t, list...)
}

// repeatUntilNone repeats call until left returns 0, as a nightly job does, and returns the sum of the counts.
func repeatUntilNone(t *testing.T, call func() (int64, error), left func() int) (sum int64) {
	for left() > 0 {
		n, err := call()
		if err != nil {
			t.Error(err)
			return sum
		}
		sum += n
	}
	return sum
}

func (l *ledger) TestPruneRaceDeletesEachActionOnce(t *testing.T) {
	racers := l.racers(t, 6)
	for range 3 {
		l.storeEnded(t, 200)
		open := l.actionIn(t, remediation.Executing)
		events := l.count(t, "remediation_events WHERE kind = 'deleted'")
		counts := make([]int64, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			counts[i] = repeatUntilNone(t,
				func() (int64, error) { return racer.Prune(t.Context(), at(59), []int{7, 30, 90}[i/2]) },
				func() int { return l.count(t, "remediation_actions WHERE status IN ('completed', 'failed')") })
		})
		var sum int64
		for _, n := range counts {
			sum += n
		}
		same(t, "the sum of the counts", sum, int64(200))
		same(t, "events of kind deleted", l.count(t, "remediation_events WHERE kind = 'deleted'")-events, 200)
		same(t, "the open action", l.mustGet(t, open.ID), open)
	}
}

func (l *ledger) TestClearOutputClearsOnlyStdoutAndStderr(t *testing.T) {
	empty, half := example(remediation.Completed), example(remediation.Failed)
	empty.Stdout, empty.Stderr = nil, nil
	half.Stdout = nil
	var all []remediation.Action
	for _, a := range append(examples(), withdrawn(), empty, half) {
		all = append(all, l.store(t, a))
	}
	events := l.mustEvents(t, 0)
	same(t, "cleared at the exclusive boundary", l.mustClearOutput(t, at(3), 100), int64(0))
	same(t, "cleared", l.mustClearOutput(t, at(4), 100), int64(3)) // completed, failed, and the one without stdout
	for _, a := range all {
		a.Stdout, a.Stderr = nil, nil
		same(t, "the row that is "+string(a.Status), l.mustGet(t, a.ID), a)
	}
	same(t, "cleared again", l.mustClearOutput(t, at(4), 100), int64(0))
	same(t, "the events before", l.mustEvents(t, 0)[:len(events)], events)

	// Empty text is an output too.
	a := example(remediation.Completed)
	a.Stdout, a.Stderr = new(""), new("")
	l.store(t, a)
	same(t, "actions with empty text cleared", l.mustClearOutput(t, at(4), 100), int64(1))

	executing := l.actionIn(t, remediation.Executing)
	same(t, "open actions cleared", l.mustClearOutput(t, at(59), 100), int64(0))
	l.advance(t, executing, complete) // Finish can still report its output
}

func (l *ledger) TestClearOutputClearsTheActionsThatEndedFirst(t *testing.T) {
	var byEnd []remediation.Action
	for i := range 5 {
		byEnd = append([]remediation.Action{l.store(t, endedAt(remediation.Completed, at(50-i)))}, byEnd...)
	}
	for cleared := 0; cleared < len(byEnd); {
		n := min(2, len(byEnd)-cleared)
		same(t, "cleared", l.mustClearOutput(t, at(59), 2), int64(n))
		cleared += n
		for i, a := range byEnd {
			if i < cleared {
				a.Stdout, a.Stderr = nil, nil
			}
			same(t, "the row", l.mustGet(t, a.ID), a)
		}
	}
	same(t, "cleared again", l.mustClearOutput(t, at(59), 2), int64(0))
}

// The two calls can't deadlock: on PostgreSQL each skips the rows that the other has locked.
func (l *ledger) TestClearOutputRaceWithPruneCountsEachActionOnce(t *testing.T) {
	racers := l.racers(t, 6)
	for range 4 {
		l.storeEnded(t, 200)
		counts := make([]int64, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			limit := []int{11, 40, 90}[i/2]
			if i%2 == 0 {
				counts[i] = repeatUntilNone(t, func() (int64, error) { return racer.ClearOutput(t.Context(), at(59), limit) },
					func() int { return l.count(t, "remediation_actions WHERE stdout IS NOT NULL OR stderr IS NOT NULL") })
				return
			}
			counts[i] = repeatUntilNone(t, func() (int64, error) { return racer.Prune(t.Context(), at(59), limit) },
				func() int { return l.count(t, "remediation_actions") })
		})
		same(t, "pruned", counts[1]+counts[3]+counts[5], int64(200))
		if cleared := counts[0] + counts[2] + counts[4]; cleared > 200 {
			t.Errorf("%d outputs were cleared, want 200 at most", cleared)
		}
	}
}

func (l *ledger) TestDatabaseAllowsClearingBothOutputsOrNeither(t *testing.T) {
	both := []string{"stdout = NULL, stderr = NULL"}
	half := []string{"stdout = NULL", "stderr = NULL", "stdout = 'other'", "stderr = 'other'", "stdout = '', stderr = ''",
		"stdout = NULL, stderr = 'other'", "stdout = 'other', stderr = NULL", "stdout = stderr, stderr = stdout"}
	for _, status := range []remediation.Status{remediation.Completed, remediation.Failed} {
		a := example(status)
		a.Stdout, a.Stderr = new("out\n"), new("err\n")
		a = l.store(t, a)
		for _, set := range half {
			l.wontUpdate(t, a, set)
		}
		for _, set := range []string{"exit_code = NULL", "completed_at = NULL", "approved_by = NULL", "executed_at = NULL",
			"command = ''", "approved_by = 'mallory'", "exit_code = 7", "status = 'failed'", "status = status"} {
			l.wontUpdate(t, a, both[0]+", "+set)
		}
		if err := l.update(t, a.ID, both[0]); err != nil {
			t.Fatalf("clear both outputs: %v", err)
		}
		a.Stdout, a.Stderr = nil, nil
		same(t, "the row", l.mustGet(t, a.ID), a)
		for _, set := range []string{"stdout = 'other'", "stderr = ''", "stdout = 'a', stderr = 'b'"} {
			l.wontUpdate(t, a, set) // a cleared output can't be written again
		}
	}
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		a := l.store(t, example(status))
		l.wontUpdate(t, a, "stdout = 'early'")
		l.wontUpdate(t, a, "stdout = 'early', stderr = NULL")
	}
	// A result may come without output, but an output can't come without a result.
	executing := l.store(t, example(remediation.Executing))
	l.wontUpdate(t, executing, "stdout = '', stderr = ''")
}

func (l *ledger) TestClearOutputAndPruneInTheCallersTransaction(t *testing.T) {
	a := l.actionIn(t, remediation.Completed)
	for _, keep := range []bool{false, true} {
		tx := l.db.Begin(t)
		inTx := l.on(tx.Store)
		cleared, err := inTx.ClearOutput(t.Context(), l.clock.now.Add(time.Hour), 10)
		if err != nil || cleared != 1 {
			t.Fatalf("ClearOutput: %d, %v", cleared, err)
		}
		pruned, err := inTx.Prune(t.Context(), l.clock.now.Add(time.Hour), 10)
		if err != nil || pruned != 1 {
			t.Fatalf("Prune: %d, %v", pruned, err)
		}
		if keep {
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			same(t, "actions left", len(l.mustList(t, remediation.Filter{})), 0)
			continue
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
}
