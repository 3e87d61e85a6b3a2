package conformance

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of NotBefore, ExpiresAt and Expire: when an action may start, and what happens once it has expired.

// between is an action that may start at minute notBefore or later, and before minute expires. A negative value means
// no limit.
func between(serverID string, notBefore, expires int) remediation.NewAction {
	a := newAction(serverID)
	if notBefore >= 0 {
		a.NotBefore = new(at(notBefore))
	}
	if expires >= 0 {
		a.ExpiresAt = new(at(expires))
	}
	return a
}

// refusedFor expects err to be the *TransitionError of a step that is refused for a reason other than the status.
func refusedFor(t *testing.T, err error, id int64, s step, why remediation.Reason) {
	t.Helper()
	refused(t, err, remediation.TransitionError{ID: id, From: s.from, To: s.to, Why: why})
}

func (l *ledger) mustExpire(t *testing.T, limit int) []remediation.Action {
	t.Helper()
	expired, err := l.Expire(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return expired
}

func (l *ledger) TestExpiredActionIsNeitherApprovedNorStarted(t *testing.T) {
	for _, late := range []time.Duration{0, time.Microsecond, time.Hour} {
		l.clock.now = at(0)
		pending := l.mustCreate(t, between(paused, -1, 10))
		approved := l.advance(t, l.mustCreate(t, between(paused, -1, 10)), approve)
		auto := l.mustCreate(t, between(normal, -1, 10))
		l.clock.now = at(10).Add(late)
		_, err := l.Approve(t.Context(), pending.ID, "bob")
		refusedFor(t, err, pending.ID, approve, remediation.ReasonExpired)
		outcomes, err := l.ApproveMany(t.Context(), []int64{pending.ID, approved.ID}, "bob")
		if err != nil {
			t.Fatal(err)
		}
		refusedFor(t, outcomes[0].Err, pending.ID, approve, remediation.ReasonExpired)
		refused(t, outcomes[1].Err,
			remediation.TransitionError{ID: approved.ID, From: remediation.Approved, To: remediation.Approved})
		for _, a := range []remediation.Action{approved, auto} {
			_, err = l.Start(t.Context(), a.ID)
			refusedFor(t, err, a.ID, start, remediation.ReasonExpired)
			l.nothingToClaim(t, a.ServerID)
			same(t, "the row", l.mustGet(t, a.ID), a)
		}
		same(t, "the pending row", l.mustGet(t, pending.ID), pending)

		l.clock.now = at(10).Add(-time.Microsecond)
		for _, s := range []step{approve, start} {
			pending = l.mustStep(t, pending, s)
		}
		same(t, "claimed in the last microsecond", l.mustClaim(t, normal).ID, auto.ID)
		l.mustStep(t, approved, withdraw)
	}
}

// mustStep makes a step at the current time of the clock, checks the returned action and returns it.
func (l *ledger) mustStep(t *testing.T, a remediation.Action, s step) remediation.Action {
	t.Helper()
	got, err := s.call(t.Context(), l.Ledger, a.ServerID, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, s.name, got, s.after(a, l.clock.now))
	return got
}

func (l *ledger) TestActionDoesNotStartBeforeNotBefore(t *testing.T) {
	for _, expires := range []int{-1, 20} {
		for _, early := range []time.Duration{time.Microsecond, 5 * time.Minute} {
			l.clock.now = at(0)
			claimed, started := l.mustCreate(t, between(normal, 10, expires)), l.mustCreate(t, between(normal, 10, expires))
			ahead := l.mustCreate(t, between(paused, 10, expires))
			l.clock.now = at(10).Add(-early)
			ahead = l.mustStep(t, ahead, approve) // an approval may come before NotBefore
			for _, a := range []remediation.Action{claimed, started, ahead} {
				_, err := l.Start(t.Context(), a.ID)
				refusedFor(t, err, a.ID, start, remediation.ReasonNotYetDue)
				l.nothingToClaim(t, a.ServerID)
				same(t, "the row", l.mustGet(t, a.ID), a)
			}
			l.clock.now = at(10)
			same(t, "claimed when due", l.mustClaim(t, normal), start.after(claimed, at(10)))
			l.mustStep(t, started, start)
			l.mustStep(t, ahead, start)
		}
	}
}

func (l *ledger) TestClaimTakesTheOldestDueActionThatHasNotExpired(t *testing.T) {
	l.mustPause(t, normal)
	type span struct{ notBefore, expires int }
	spans := []span{{-1, -1}, {-1, 5}, {-1, 30}, {5, -1}, {15, -1}, {5, 10}, {5, 30}, {15, 30}, {2, 3}}
	runnable := func(s span) bool { return s.notBefore <= 10 && (s.expires < 0 || s.expires > 10) }
	for rotated := range spans {
		l.clock.now = at(0)
		var want []int64
		for i := range 2 * len(spans) {
			s := spans[(i*(rotated+1)+rotated)%len(spans)]
			a := l.mustStep(t, l.mustCreate(t, between(normal, s.notBefore, s.expires)), approve)
			if runnable(s) {
				want = append(want, a.ID)
			}
		}
		l.clock.now = at(10)
		var got []int64
		for {
			a, err := l.Claim(t.Context(), normal)
			if errors.Is(err, remediation.ErrNothingToClaim) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, a.ID)
		}
		same(t, "claimed", got, want)
		l.clock.now = at(40)
		l.mustExpire(t, 0)
		for a := range l.All(t.Context(), remediation.Filter{Status: remediation.Approved}) {
			l.mustStep(t, a, withdraw)
		}
	}
}

func (l *ledger) TestLimitsAreStoredAsGiven(t *testing.T) {
	berlin := time.FixedZone("+0100", 3600)
	a := newAction(normal)
	a.NotBefore, a.ExpiresAt = new(at(-5).In(berlin).Add(999)), new(at(60).In(berlin).Add(1))
	a.MaxRuntimeSeconds, a.IdempotencyKey, a.DedupeKey = new(int64(90)), new("key of web-1"), new("nginx")
	created := l.mustCreate(t, a)
	want := created
	want.NotBefore, want.ExpiresAt, want.MaxRuntimeSeconds = new(at(-5)), new(at(60)), new(int64(90))
	want.IdempotencyKey, want.DedupeKey = new("key of web-1"), new("nginx")
	same(t, "Create", created, want)
	plain := l.mustCreate(t, newAction(normal))
	same(t, "Get", l.mustGet(t, created.ID), want)
	same(t, "List", l.mustList(t, remediation.Filter{}), []remediation.Action{plain, want})
	want = start.after(want, l.clock.tick())
	same(t, "Claim", l.mustClaim(t, normal), want)
	want.HeartbeatAt = new(l.clock.tick())
	got, err := l.Heartbeat(t.Context(), normal, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Heartbeat", got, want)
	want.CancelRequestedAt, want.CancelRequestedBy, want.CancelReason = new(l.clock.tick()), new("erin"), new("wrong host")
	if got, err = l.RequestCancel(t.Context(), want.ID, "erin", "wrong host"); err != nil {
		t.Fatal(err)
	}
	same(t, "RequestCancel", got, want)
	want = complete.after(want, l.clock.tick())
	same(t, "Finish", l.mustStep(t, got, complete), want)
	same(t, "Get at the end", l.mustGet(t, want.ID), want)
	want.Stdout, want.Stderr = nil, nil
	same(t, "List at the end", l.mustList(t, remediation.Filter{}), []remediation.Action{plain, want})
}

func (l *ledger) TestLimitsAreValidated(t *testing.T) {
	before := l.contents(t)
	for field, changes := range map[string][]func(a *remediation.NewAction){
		"expires_at": {
			func(a *remediation.NewAction) { a.ExpiresAt = new(at(0)) },
			func(a *remediation.NewAction) { a.ExpiresAt = new(at(0).Add(999)) }, // the same microsecond
			func(a *remediation.NewAction) { a.ExpiresAt = new(at(-1)) },
			func(a *remediation.NewAction) { a.ExpiresAt = new(time.Time{}) },
			func(a *remediation.NewAction) { a.ExpiresAt = new(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
			func(a *remediation.NewAction) { a.NotBefore, a.ExpiresAt = new(at(5)), new(at(5)) },
			func(a *remediation.NewAction) { a.NotBefore, a.ExpiresAt = new(at(5)), new(at(5).Add(999)) },
			func(a *remediation.NewAction) { a.NotBefore, a.ExpiresAt = new(at(6)), new(at(5)) },
		},
		"not_before": {
			func(a *remediation.NewAction) { a.NotBefore = new(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
			func(a *remediation.NewAction) { a.NotBefore = new(time.Unix(-1<<55, 0)) },
		},
		"max_runtime_seconds": {
			func(a *remediation.NewAction) { a.MaxRuntimeSeconds = new(int64(0)) },
			func(a *remediation.NewAction) { a.MaxRuntimeSeconds = new(int64(-1)) },
			func(a *remediation.NewAction) { a.MaxRuntimeSeconds = new(int64(1 << 31)) },
		},
	} {
		for i, change := range changes {
			for _, serverID := range []string{normal, paused} {
				a := newAction(serverID)
				change(&a)
				_, err := l.Create(t.Context(), a)
				if badInput(t, err, field); t.Failed() {
					t.Fatalf("%s, change %d", field, i)
				}
			}
		}
	}
	same(t, "what the refused calls left", l.contents(t), before)
	for _, n := range []int64{1, 1<<31 - 1} {
		a := newAction(normal)
		a.MaxRuntimeSeconds = &n
		a.NotBefore, a.ExpiresAt = new(at(-60)), new(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
		same(t, "max_runtime_seconds", l.mustCreate(t, a).MaxRuntimeSeconds, &n)
		l.mustClaim(t, normal)
	}
	same(t, "overdue", len(l.mustFailOverdue(t, time.Hour, 10)), 0)
	for _, limit := range []int{-1, 1001} {
		_, err := l.Expire(t.Context(), limit)
		badInput(t, err, "limit")
	}
}

// expiredAt is an action as Expire must leave it.
func expiredAt(a remediation.Action, at time.Time) remediation.Action {
	a.Status, a.RejectedAt, a.RejectedBy = remediation.Rejected, &at, new(remediation.AutoApprover)
	a.RejectionReason = new("expired at " + a.ExpiresAt.Format(time.DateTime) + " UTC")
	return a
}

func (l *ledger) TestExpireRejectsExpiredActionsThatHaveNotStarted(t *testing.T) {
	keyed := between(paused, -1, 10)
	keyed.DedupeKey = new("apt")
	pending := l.mustCreate(t, keyed)
	approved := l.advance(t, l.mustCreate(t, between(paused, 5, 10)), approve)
	auto := l.mustCreate(t, between(normal, -1, 10))
	executing := l.advance(t, l.mustCreate(t, between(paused, -1, 10)), approve, start)
	completed := l.advance(t, l.mustCreate(t, between(paused, -1, 10)), approve, start, complete)
	rejected := l.advance(t, l.mustCreate(t, between(paused, -1, 10)), reject)
	later, unlimited := l.mustCreate(t, between(paused, -1, 30)), l.actionIn(t, remediation.Pending)

	l.clock.now = at(10).Add(-time.Microsecond)
	same(t, "expired before ExpiresAt", len(l.mustExpire(t, 0)), 0)
	last := l.lastEvent(t)
	l.clock.now = at(10)
	want := []remediation.Action{expiredAt(pending, at(10)), expiredAt(approved, at(10)), expiredAt(auto, at(10))}
	same(t, "Expire", l.mustExpire(t, 0), want)
	var wantEvents []remediation.Event
	for _, a := range want {
		same(t, "the row", l.mustGet(t, a.ID), a)
		wantEvents = append(wantEvents, remediation.Event{ActionID: a.ID, ServerID: a.ServerID,
			Kind: remediation.EventRejected, Actor: a.RejectedBy, OccurredAt: at(10), Detail: a.RejectionReason})
	}
	events := l.mustEvents(t, last)
	slices.SortFunc(events, func(a, b remediation.Event) int { return int(a.ActionID - b.ActionID) })
	sameEvents(t, "events of Expire", events, wantEvents)
	for _, a := range []remediation.Action{executing, completed, rejected, later, unlimited} {
		same(t, "a row that Expire must not change", l.mustGet(t, a.ID), a)
	}
	same(t, "expired again", len(l.mustExpire(t, 0)), 0)
	keyed.ExpiresAt = new(at(30))
	l.mustCreate(t, keyed) // Expire released the key
}

func (l *ledger) TestExpireRejectsTheFirstToExpireUpToTheLimit(t *testing.T) {
	var want []int64
	for i := range 6 {
		want = append(want, l.mustCreate(t, between(paused, -1, 10-i)).ID)
	}
	l.clock.now = at(30)
	for len(want) > 0 { // the last created expire first
		same(t, "Expire", ids(l.mustExpire(t, 2)), want[len(want)-2:])
		want = want[:len(want)-2]
	}
	same(t, "expired again", len(l.mustExpire(t, 2)), 0)
}

func (l *ledger) TestExpireRaceRejectsEachActionOnce(t *testing.T) {
	racers := l.racers(t, 8)
	var want []int64
	for range 40 {
		want = append(want, l.mustCreate(t, between(paused, -1, 10)).ID, l.mustCreate(t, between(normal, -1, 10)).ID)
	}
	last := l.lastEvent(t)
	l.clock.now = at(10)
	expired := make([][]int64, len(racers))
	race(racers, func(i int, racer *remediation.Ledger) {
		for {
			got, err := racer.Expire(t.Context(), 7)
			if err != nil {
				t.Error(err)
			}
			if expired[i] = append(expired[i], ids(got)...); len(got) == 0 {
				return
			}
		}
	})
	// On PostgreSQL, Expire skips rows that another call has locked, so some may be left.
	all := append(slices.Concat(expired...), ids(l.mustExpire(t, 0))...)
	slices.Sort(all)
	same(t, "expired", all, want)
	same(t, "events", len(l.mustEvents(t, last)), len(want))
}

// Approve and Start read a clock just before the actions expire, and Expire reads one at that time.
func (l *ledger) TestExpireRaceWithApproveAndStartHasOneWinner(t *testing.T) {
	withClock := func(now time.Time) *remediation.Ledger {
		return remediation.New(l.db.Another(t), remediation.WithClock(func() time.Time { return now }))
	}
	before, after := withClock(at(10).Add(-time.Microsecond)), withClock(at(10))
	for range rounds(20) {
		l.clock.now = at(0)
		pending := l.mustCreate(t, between(paused, -1, 10)).ID
		approved := l.mustStep(t, l.mustCreate(t, between(paused, -1, 10)), approve).ID
		var expired []remediation.Action
		var approveErr, startErr error
		race([]*remediation.Ledger{before, before, after}, func(i int, racer *remediation.Ledger) {
			switch i {
			case 0:
				_, approveErr = racer.Approve(t.Context(), pending, "bob")
			case 1:
				_, startErr = racer.Start(t.Context(), approved)
			case 2:
				var err error
				if expired, err = racer.Expire(t.Context(), 0); err != nil {
					t.Error(err)
				}
			}
		})
		var notStarted []int64
		if approveErr != nil {
			refused(t, approveErr,
				remediation.TransitionError{ID: pending, From: remediation.Rejected, To: remediation.Approved})
		}
		if startErr != nil {
			notStarted = append(notStarted, approved)
			refused(t, startErr,
				remediation.TransitionError{ID: approved, From: remediation.Rejected, To: remediation.Executing})
		}
		l.clock.now = at(10)
		// An action that was approved in time still expires if it has not started.
		rest := append(ids(expired), ids(l.mustExpire(t, 0))...)
		slices.Sort(rest)
		same(t, "expired in total", slices.Compact(rest), append([]int64{pending}, notStarted...))
	}
}

func (l *ledger) TestExpireInTheCallersTransaction(t *testing.T) {
	a := l.mustCreate(t, between(paused, -1, 10))
	l.clock.now = at(10)
	for _, commit := range []bool{false, true} {
		tx := l.db.Begin(t)
		expired, err := l.on(tx.Store).Expire(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "Expire in the transaction", expired, []remediation.Action{expiredAt(a, at(10))})
		end, want := tx.Rollback, a
		if commit {
			end, want = tx.Commit, expired[0]
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		same(t, "the row after the transaction", l.mustGet(t, a.ID), want)
	}
}

func (l *ledger) TestExplainReportsExpiredAndNotYetDue(t *testing.T) {
	pending, due := l.mustCreate(t, between(paused, 10, 20)), l.mustCreate(t, between(normal, 10, 20))
	behind := l.mustCreate(t, newAction(normal))
	e := l.mustExplain(t, due.ID)
	same(t, "not yet due", e.Reason, remediation.ReasonNotYetDue)
	same(t, "detail", e.Detail, "2026-11-23 12:10:07 UTC")
	same(t, "pending", l.mustExplain(t, pending.ID).Reason, remediation.ReasonAwaitingApproval)
	same(t, "the action behind", l.mustExplain(t, behind.ID).Reason, remediation.ReasonUnclaimed)
	l.clock.now = at(10)
	same(t, "due", l.mustExplain(t, due.ID).Reason, remediation.ReasonUnclaimed)
	same(t, "the action behind", l.mustExplain(t, behind.ID).Behind, due.ID)
	l.clock.now = at(20)
	for _, a := range []remediation.Action{pending, due} {
		e := l.mustExplain(t, a.ID)
		same(t, "expired", e.Reason, remediation.ReasonExpired)
		same(t, "since", e.Since, at(20))
	}
	same(t, "the action behind", l.mustExplain(t, behind.ID).Reason, remediation.ReasonUnclaimed)
	l.mustExpire(t, 0)
	same(t, "after Expire", l.mustExplain(t, due.ID).Reason, remediation.ReasonRejected)
}

func (l *ledger) TestDatabaseEnforcesLimits(t *testing.T) {
	limited := func(status remediation.Status, notBefore, expires int) remediation.Action {
		a := example(status)
		n := between(normal, notBefore, expires)
		a.NotBefore, a.ExpiresAt = n.NotBefore, n.ExpiresAt
		return a
	}
	for _, a := range []remediation.Action{ // approved at minute 1, executed at minute 2
		limited(remediation.Pending, -1, 1), limited(remediation.Approved, 5, 6), limited(remediation.Approved, -1, 2),
		limited(remediation.Executing, 2, 3), limited(remediation.Completed, 2, 3), limited(remediation.Rejected, 9, 10),
	} {
		stored := l.store(t, a)
		same(t, "the row", l.mustGet(t, stored.ID), stored)
		for _, set := range []string{"expires_at = NULL", "not_before = NULL", "max_runtime_seconds = 5",
			"expires_at = " + literal(at(500)), "not_before = " + literal(at(-500)), "idempotency_key = 'new'"} {
			if a.NotBefore != nil || set != "not_before = NULL" {
				l.wontUpdate(t, stored, set)
			}
		}
	}
	for name, r := range map[string]row{
		"expired when created":                  rowOf(limited(remediation.Pending, -1, 0)),
		"expires before not_before":             rowOf(limited(remediation.Pending, 5, 4)),
		"expires at not_before":                 rowOf(limited(remediation.Pending, 5, 5)),
		"expired when approved":                 rowOf(limited(remediation.Approved, -1, 1)),
		"expired when executed":                 rowOf(limited(remediation.Executing, -1, 2)),
		"executed before not_before":            rowOf(limited(remediation.Executing, 3, -1)),
		"completed, executed before not_before": rowOf(limited(remediation.Completed, 3, -1)),
		"withdrawn, expired when approved": func() row {
			r := rowOf(withdrawn())
			r["expires_at"] = literal(at(1))
			return r
		}(),
	} {
		if _, err := l.insert(t, r); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for column, values := range map[string][]string{
		"max_runtime_seconds": {"0", "-1", "2147483648"},
		"not_before":          {"'infinity'", "'10000-01-01 00:00:00+00'", "'0000-01-01 00:00:00+00'", "'soon'", "''"},
		"expires_at":          {"'infinity'", "'10000-01-01 00:00:00+00'", "'later'", "''"},
	} {
		for _, value := range values {
			r := rowOf(example(remediation.Pending))
			r[column] = value
			if _, err := l.insert(t, r); err == nil {
				t.Errorf("%s = %s was accepted", column, value)
			}
		}
	}

	pending, approved := l.store(t, limited(remediation.Pending, 2, 10)), l.store(t, limited(remediation.Approved, 5, 10))
	approvedAt := func(minute int) string {
		return "status = 'approved', approved_by = 'bob', approved_at = " + literal(at(minute))
	}
	executedAt := func(minute int) string { return "status = 'executing', executed_at = " + literal(at(minute)) }
	for _, minute := range []int{10, 11} {
		l.wontUpdate(t, pending, approvedAt(minute))
		l.wontUpdate(t, pending, approvedAt(minute)+", expires_at = NULL")
		l.wontUpdate(t, approved, executedAt(minute))
		l.wontUpdate(t, approved, executedAt(minute)+", expires_at = "+literal(at(60)))
	}
	l.wontUpdate(t, approved, executedAt(4))
	l.wontUpdate(t, approved, executedAt(4)+", not_before = NULL")
	for id, set := range map[int64]string{pending.ID: approvedAt(9), approved.ID: executedAt(5)} {
		if err := l.update(t, id, set); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}
