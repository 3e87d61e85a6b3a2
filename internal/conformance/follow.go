package conformance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Follow: it yields the events that Events returns, also of other stores, and ends with its context.

// follower runs Follow in a goroutine until it is stopped.
type follower struct {
	events chan remediation.Event
	stop   func() // ends Follow and waits for it
	err    error  // the errors of Follow, valid after stop
}

// startFollower follows the events after an id.
func startFollower(t *testing.T, l *remediation.Ledger, after int64) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f, ended := &follower{events: make(chan remediation.Event, 10_000)}, make(chan struct{})
	go func() {
		defer close(ended)
		for e, err := range l.Follow(ctx, after) {
			if err != nil {
				f.err = errors.Join(f.err, err)
				continue // Follow must end by itself
			}
			f.events <- e
		}
	}()
	f.stop = func() { cancel(); <-ended }
	t.Cleanup(f.stop)
	return f
}

// next returns the next n events.
func (f *follower) next(t *testing.T, n int) []remediation.Event {
	t.Helper()
	var got []remediation.Event
	for len(got) < n {
		select {
		case e := <-f.events:
			got = append(got, e)
		case <-time.After(time.Minute):
			t.Fatalf("only %d of %d events arrived", len(got), n)
		}
	}
	return got
}

// wantNoMore stops the follower and expects no further event and no error.
func (f *follower) wantNoMore(t *testing.T) {
	t.Helper()
	f.stop()
	if len(f.events) > 0 || f.err != nil {
		t.Errorf("%d more events, %v", len(f.events), f.err)
	}
}

func (l *ledger) TestFollowYieldsTheSameEventsAsEvents(t *testing.T) {
	for range 60 { // two events each
		l.mustCreate(t, newAction(normal))
	}
	l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Pending)}, 1000)...) // Follow reads pages of 500
	old := l.mustEvents(t, 0)
	for _, seen := range []int{0, 1, 119, 120, 619, 620, 621, 1119, 1120} {
		after := int64(0)
		if seen > 0 {
			after = old[seen-1].ID
		}
		f := startFollower(t, l.Ledger, after)
		before := l.lastEvent(t)
		got := f.next(t, len(old)-seen)
		l.mustCreate(t, newAction(normal))
		got = append(got, f.next(t, len(l.mustEvents(t, before)))...)
		old = l.mustEvents(t, 0)
		same(t, "events that arrived", got, old[seen:])
		f.wantNoMore(t)
	}
}

func (l *ledger) TestFollowYieldsEveryKindOfChange(t *testing.T) {
	f := startFollower(t, l.Ledger, 0)
	seen := l.lastEvent(t)
	wantEventsOf := func(what string) {
		t.Helper()
		want := l.mustEvents(t, seen)
		if len(want) == 0 {
			t.Fatalf("%s wrote no event", what)
		}
		same(t, what, f.next(t, len(want)), want)
		seen = l.lastID(want)
	}
	for _, path := range [][]step{{approve, start, complete}, {approve, start, fail}, {reject}, {approve, withdraw}} {
		a := l.mustCreate(t, newAction(paused))
		wantEventsOf("Create")
		for _, s := range path {
			a = l.advance(t, a, s)
			wantEventsOf(s.name)
		}
	}
	approved, rejected := l.storePending(t, 2), l.storePending(t, 2)
	wantEventsOf("several Creates")
	if _, err := l.ApproveMany(t.Context(), approved, "bob"); err != nil {
		t.Fatal(err)
	}
	wantEventsOf("ApproveMany")
	if _, err := l.RejectMany(t.Context(), rejected, "bob", "no"); err != nil {
		t.Fatal(err)
	}
	wantEventsOf("RejectMany")
	l.mustClaim(t, normal)
	wantEventsOf("Claim")
	l.clock.tick()
	l.mustFailOverdue(t, time.Second, 10)
	wantEventsOf("FailOverdue")
	l.clock.tick()
	l.mustClearOutput(t, l.clock.now, 10)
	wantEventsOf("ClearOutput")
	l.mustPrune(t, l.clock.now, 50)
	wantEventsOf("Prune")
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	wantEventsOf("raw SQL")
	f.wantNoMore(t)
}

func (l *ledger) TestFollowYieldsChangesOfAnotherStore(t *testing.T) {
	here, there := startFollower(t, l.Ledger, 0), startFollower(t, l.on(l.db.Another(t)), 0)
	for i := range 6 {
		seen := l.lastEvent(t)
		writer := l.Ledger
		if i%2 == 0 {
			writer = l.on(l.db.Another(t))
		}
		l.runLifecycles(t, writer, 2)
		want := l.mustEvents(t, seen)
		same(t, "follower on the first store", here.next(t, len(want)), want)
		same(t, "follower on another store", there.next(t, len(want)), want)
	}
	here.wantNoMore(t)
	there.wantNoMore(t)
}

func (l *ledger) TestFollowYieldsOnlyCommittedTransactions(t *testing.T) {
	f := startFollower(t, l.Ledger, 0)
	for _, keep := range []bool{false, true, false, true} {
		seen := l.lastEvent(t)
		tx := l.db.Begin(t)
		l.runLifecycles(t, l.on(tx.Store), 2)
		if !keep {
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		want := l.mustEvents(t, seen)
		same(t, "events of the committed transaction", f.next(t, len(want)), want)
	}
	f.wantNoMore(t)
}

func (l *ledger) TestFollowWithManyWritersMissesAndRepeatsNothing(t *testing.T) {
	here, there := startFollower(t, l.Ledger, 0), startFollower(t, l.on(l.db.Another(t)), 0)
	late := make(chan *follower, 1)
	var once sync.Once
	race(l.racers(t, 64), func(_ int, writer *remediation.Ledger) {
		l.runLifecycles(t, writer, rounds(5))
		once.Do(func() { late <- startFollower(t, l.Ledger, 0) })
	})
	want := l.mustEvents(t, 0)
	for _, f := range []*follower{here, there, <-late} {
		same(t, "events that the follower got", f.next(t, len(want)), want)
		f.wantNoMore(t)
	}
}

func (l *ledger) TestFollowEndsWithItsContextWithoutError(t *testing.T) {
	l.runLifecycles(t, l.Ledger, 5)
	all := l.mustEvents(t, 0)
	run := func(what string, ctx context.Context, after int64, want int, body func(n int) (proceed bool)) {
		t.Helper()
		n := 0
		for _, err := range l.Follow(ctx, after) {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if n++; !body(n) {
				break
			}
		}
		same(t, what, n, want)
	}
	proceed := func(int) bool { return true }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run("number of events with a cancelled context", ctx, 0, 0, proceed)

	ctx, cancel = context.WithCancel(t.Context())
	run("number of events until the loop cancels", ctx, 0, 3, func(n int) bool {
		if n == 3 {
			cancel()
		}
		return true
	})

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	run("number of events until a break", ctx, 0, 7, func(n int) bool { return n < 7 })
	wantError(t, "the context after a break", ctx.Err(), nil)

	// The context ends before and after the first polls of the store.
	for _, wait := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 400 * time.Millisecond} {
		ctx, cancel = context.WithTimeout(t.Context(), wait)
		run("number of events without changes", ctx, l.lastID(all), 0, proceed)
		if ctx.Err() == nil {
			t.Errorf("Follow ended before its context")
		}
		cancel()
	}
	l.runLifecycles(t, l.Ledger, 1) // earlier calls do not disturb a later one
	f := startFollower(t, l.Ledger, l.lastID(all))
	f.next(t, 1)
	f.stop()
}

func (l *ledger) TestFollowInputIsValidated(t *testing.T) {
	n := 0
	for e, err := range l.Follow(t.Context(), -1) {
		badInput(t, err, "after")
		same(t, "event beside the error", e, remediation.Event{})
		n++
	}
	same(t, "number of errors", n, 1)

	var none context.Context
	wantPanic(t, "Follow", func() error {
		for range l.Follow(none, 0) {
			t.Error("Follow with a nil context yields")
		}
		return nil
	})
	f := startFollower(t, l.Ledger, 0) // earlier calls do not disturb a later one
	l.mustCreate(t, newAction(normal))
	f.next(t, 2)
	f.wantNoMore(t)
}
