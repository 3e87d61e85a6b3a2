package conformance

import (
	"math"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Heartbeat and MaxRuntimeSeconds, which decide when FailOverdue closes an executing action.

func (l *ledger) mustHeartbeat(t *testing.T, a remediation.Action) remediation.Action {
	t.Helper()
	got, err := l.Heartbeat(t.Context(), a.ServerID, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (l *ledger) TestHeartbeatPostponesFailOverdue(t *testing.T) {
	a, silent := l.actionIn(t, remediation.Executing), l.actionIn(t, remediation.Executing)
	for range 3 {
		l.clock.now = l.clock.now.Add(50 * time.Minute)
		want := a
		want.HeartbeatAt = new(l.clock.now)
		a = l.mustHeartbeat(t, a)
		same(t, "Heartbeat", a, want)
		same(t, "the row", l.mustGet(t, a.ID), want)
		for _, closed := range l.mustFailOverdue(t, time.Hour, 10) {
			same(t, "closed", closed.ID, silent.ID)
		}
	}
	same(t, "the action without heartbeats", l.mustGet(t, silent.ID).Status, remediation.Failed)
	l.clock.now = a.HeartbeatAt.Add(time.Hour)
	same(t, "closed at the limit", len(l.mustFailOverdue(t, time.Hour, 10)), 0)
	l.clock.now = l.clock.now.Add(time.Microsecond)
	closed := l.mustFailOverdue(t, time.Hour, 10)
	same(t, "closed after the limit", closed,
		[]remediation.Action{failedOverdue(a, l.clock.now, new("no result came within 1h0m0s"))})
}

func (l *ledger) TestHeartbeatWritesNoEventAndReturnsACancelRequest(t *testing.T) {
	a := l.actionIn(t, remediation.Executing)
	last := l.lastEvent(t)
	same(t, "cancel_requested_at", l.mustHeartbeat(t, a).CancelRequestedAt, (*time.Time)(nil))
	same(t, "events", len(l.mustEvents(t, last)), 0)
	if _, err := l.RequestCancel(t.Context(), a.ID, "erin", "wrong host"); err != nil {
		t.Fatal(err)
	}
	a = l.mustHeartbeat(t, a)
	same(t, "cancel_reason", a.CancelReason, new("wrong host"))
	same(t, "command", a.Command, "systemctl restart nginx")
}

func (l *ledger) TestHeartbeatNeedsAnExecutingActionOfTheServer(t *testing.T) {
	for _, status := range remediation.Statuses() {
		a := l.actionIn(t, status)
		_, err := l.Heartbeat(t.Context(), normal, a.ID)
		wantError(t, "Heartbeat for another server's action", err, remediation.ErrNotFound)
		if status != remediation.Executing {
			_, err = l.Heartbeat(t.Context(), a.ServerID, a.ID)
			refused(t, err, remediation.TransitionError{ID: a.ID, From: status, To: remediation.Executing})
		}
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
	_, err := l.Heartbeat(t.Context(), normal, 4711)
	wantError(t, "Heartbeat for an unknown action", err, remediation.ErrNotFound)
	_, err = l.Heartbeat(t.Context(), "", 1)
	badInput(t, err, "server_id")
}

func (l *ledger) TestHeartbeatNeverMovesBack(t *testing.T) {
	a := l.actionIn(t, remediation.Executing)
	l.clock.now = at(30)
	want := l.mustHeartbeat(t, a)
	for _, minute := range []int{20, -500, 30} {
		l.clock.now = at(minute)
		same(t, "Heartbeat", l.mustHeartbeat(t, a), want)
	}
}

func (l *ledger) TestHeartbeatRaceWithFailOverdueHasOneWinner(t *testing.T) {
	racers := l.racers(t, 2)
	for range rounds(30) {
		a := l.actionIn(t, remediation.Executing)
		l.clock.now = l.clock.now.Add(2 * time.Hour)
		var beat remediation.Action
		var stopped error
		var closed []remediation.Action
		race(racers, func(i int, racer *remediation.Ledger) {
			var err error
			if i == 0 {
				beat, stopped = racer.Heartbeat(t.Context(), paused, a.ID)
			} else if closed, err = racer.FailOverdue(t.Context(), time.Hour, 10); err != nil {
				t.Error(err)
			}
		})
		if stopped != nil {
			refused(t, stopped, remediation.TransitionError{ID: a.ID, From: remediation.Failed, To: remediation.Executing})
			same(t, "closed", ids(closed), []int64{a.ID})
			continue
		}
		same(t, "closed although the heartbeat succeeded", len(closed), 0)
		same(t, "closed after the heartbeat", len(l.mustFailOverdue(t, time.Hour, 10)), 0)
		same(t, "the row", l.mustGet(t, a.ID), beat)
		l.mustStep(t, beat, complete)
	}
}

func (l *ledger) TestDatabaseRefusesInvalidHeartbeats(t *testing.T) {
	const beat = "heartbeat_at = "
	for _, status := range remediation.Statuses() {
		a := l.actionIn(t, status)
		if status != remediation.Executing {
			l.wontUpdate(t, a, beat+literal(at(50)))
			continue
		}
		for _, value := range []string{"'infinity'", "'10000-01-01 00:00:00+00'"} {
			l.wontUpdate(t, a, beat+value)
		}
		l.clock.now = at(40)
		a = l.mustHeartbeat(t, a)
		finishing := literal(at(41)) + ", status = 'completed', exit_code = 0, completed_at = " + literal(at(42))
		for _, set := range []string{"NULL", literal(at(39)), finishing} {
			l.wontUpdate(t, a, beat+set)
		}
		if err := l.update(t, a.ID, beat+literal(at(41))); err != nil {
			t.Error(err)
		}
	}
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Rejected} {
		a := example(status)
		a.HeartbeatAt = new(at(30))
		if _, err := l.insert(t, rowOf(a)); err == nil {
			t.Errorf("a %s row with a heartbeat was accepted", status)
		}
	}
	a := example(remediation.Completed)
	a.HeartbeatAt = new(at(30))
	stored := l.store(t, a)
	same(t, "the row", l.mustGet(t, stored.ID), stored)
}

func (l *ledger) TestFailOverdueClosesActionsPastTheirMaxRuntime(t *testing.T) {
	n := newAction(paused)
	n.MaxRuntimeSeconds = new(int64(90))
	for range 2 {
		a := l.advance(t, l.mustCreate(t, n), approve, start)
		l.clock.now = a.ExecutedAt.Add(90 * time.Second)
		a = l.mustHeartbeat(t, a)
		same(t, "closed at the limit", len(l.mustFailOverdue(t, math.MaxInt64, 10)), 0)
		l.clock.now = l.clock.now.Add(time.Microsecond)
		a = l.mustHeartbeat(t, a) // a heartbeat does not extend MaxRuntimeSeconds
		same(t, "closed after the limit", l.mustFailOverdue(t, math.MaxInt64, 10),
			[]remediation.Action{failedOverdue(a, l.clock.now, new("no result came within its 90 seconds"))})
	}
	n.MaxRuntimeSeconds = new(int64(math.MaxInt32))
	a := l.advance(t, l.mustCreate(t, n), approve, start)
	l.clock.now = a.ExecutedAt.Add(time.Hour + time.Microsecond)
	same(t, "closed by olderThan before MaxRuntimeSeconds", l.mustFailOverdue(t, time.Hour, 10),
		[]remediation.Action{failedOverdue(a, l.clock.now, new("no result came within 1h0m0s"))})
}

// The runtime counts from the latest time of the action, so that a wrong clock at its start closes nothing early.
func (l *ledger) TestMaxRuntimeCountsFromTheLatestTime(t *testing.T) {
	n := newAction(paused)
	n.MaxRuntimeSeconds = new(int64(60))
	a := l.advance(t, l.mustCreate(t, n), approve)
	approvedAt := *a.ApprovedAt
	l.clock.now = approvedAt.Add(-time.Hour)
	a = l.mustStep(t, a, start)
	l.clock.now = approvedAt.Add(time.Minute)
	same(t, "closed", len(l.mustFailOverdue(t, math.MaxInt64, 10)), 0)
	l.clock.now = l.clock.now.Add(time.Microsecond)
	same(t, "closed", ids(l.mustFailOverdue(t, math.MaxInt64, 10)), []int64{a.ID})

	last := time.Date(9999, 12, 31, 23, 59, 58, 0, time.UTC)
	l.clock.now = last
	a = l.mustCreate(t, func() remediation.NewAction { n.ServerID = normal; return n }())
	a = l.mustClaim(t, normal)
	l.clock.now = last.Add(time.Second)
	same(t, "closed before the runtime ends after year 9999", len(l.mustFailOverdue(t, math.MaxInt64, 10)), 0)
	l.mustStep(t, a, complete)
}
