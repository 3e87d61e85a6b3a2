package conformance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// follower is a program that follows the feed until it is stopped.
type follower struct {
	events chan remediation.Event
	stop   func() // and wait for its end
	err    error  // of the feed, once it has stopped
}

func follows(t *testing.T, l *remediation.Ledger, after int64) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f, ended := &follower{events: make(chan remediation.Event, 10_000)}, make(chan struct{})
	go func() {
		defer close(ended)
		for e, err := range l.Follow(ctx, after) {
			if err != nil {
				f.err = errors.Join(f.err, err)
				continue // it must end by itself
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
			t.Fatalf("only %d of %d events came", len(got), n)
		}
	}
	return got
}

// wantNoMore stops the follower, which must have nothing left and have met no error.
func (f *follower) wantNoMore(t *testing.T) {
	t.Helper()
	f.stop()
	if len(f.events) > 0 || f.err != nil {
		t.Errorf("%d more events, %v", len(f.events), f.err)
	}
}

func (l *ledger) TestFollowGivesWhatEventsGives(t *testing.T) {
	for range 60 { // more events than two pages hold
		l.mustCreate(t, newAction(normal))
	}
	old := l.mustEvents(t, 0)
	for _, seen := range []int{0, 1, 20, 69, 70, 119, 120} { // 50 and 51 from the end too
		after := int64(0)
		if seen > 0 {
			after = old[seen-1].ID
		}
		f := follows(t, l.Ledger, after)
		before := l.lastEvent(t)
		got := f.next(t, len(old)-seen)
		l.mustCreate(t, newAction(normal))
		got = append(got, f.next(t, len(l.mustEvents(t, before)))...)
		old = l.mustEvents(t, 0)
		same(t, "what came", got, old[seen:])
		f.wantNoMore(t)
	}
}

func (l *ledger) TestFollowShowsEveryKindOfChange(t *testing.T) {
	f := follows(t, l.Ledger, 0)
	seen := l.lastEvent(t)
	shows := func(what string) {
		t.Helper()
		want := l.mustEvents(t, seen)
		if len(want) == 0 {
			t.Fatalf("%s left no event", what)
		}
		same(t, what, f.next(t, len(want)), want)
		seen = l.lastOf(want)
	}
	for _, path := range [][]step{{approve, start, complete}, {approve, start, fail}, {reject}, {approve, withdraw}} {
		a := l.mustCreate(t, newAction(paused))
		shows("Create")
		for _, s := range path {
			a = l.advance(t, a, s)
			shows(s.name)
		}
	}
	approved, rejected := l.pendings(t, 2), l.pendings(t, 2)
	shows("Create of several")
	if _, err := l.ApproveMany(t.Context(), approved, "bob"); err != nil {
		t.Fatal(err)
	}
	shows("ApproveMany")
	if _, err := l.RejectMany(t.Context(), rejected, "bob", "no"); err != nil {
		t.Fatal(err)
	}
	shows("RejectMany")
	l.mustClaim(t, normal)
	shows("Claim")
	l.clock.tick()
	l.mustFailOverdue(t, time.Second, 10)
	shows("FailOverdue")
	l.clock.tick()
	l.mustClearOutput(t, l.clock.now, 10)
	shows("ClearOutput")
	l.mustPrune(t, l.clock.now, 50)
	shows("Prune")
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	shows("raw SQL")
	f.wantNoMore(t)
}

func (l *ledger) TestFollowShowsWhatAnotherStoreWrites(t *testing.T) {
	here, there := follows(t, l.Ledger, 0), follows(t, l.on(l.db.Another(t)), 0)
	for i := range 6 {
		seen := l.lastEvent(t)
		writer := l.Ledger
		if i%2 == 0 {
			writer = l.on(l.db.Another(t))
		}
		l.live(t, writer, 2)
		want := l.mustEvents(t, seen)
		same(t, "here", here.next(t, len(want)), want)
		same(t, "there", there.next(t, len(want)), want)
	}
	here.wantNoMore(t)
	there.wantNoMore(t)
}

func (l *ledger) TestFollowShowsWhatACallersTransactionCommits(t *testing.T) {
	f := follows(t, l.Ledger, 0)
	for _, keep := range []bool{false, true, false, true} {
		seen := l.lastEvent(t)
		tx := l.db.Begin(t)
		l.live(t, l.on(tx.Store), 2)
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
		same(t, "what was committed", f.next(t, len(want)), want)
	}
	f.wantNoMore(t)
}

func (l *ledger) TestFollowBesideManyWritersMissesAndRepeatsNothing(t *testing.T) {
	here, there := follows(t, l.Ledger, 0), follows(t, l.on(l.db.Another(t)), 0)
	late := make(chan *follower, 1)
	var once sync.Once
	race(l.racers(t, 64), func(_ int, writer *remediation.Ledger) {
		l.live(t, writer, rounds(5))
		once.Do(func() { late <- follows(t, l.Ledger, 0) })
	})
	want := l.mustEvents(t, 0)
	for _, f := range []*follower{here, there, <-late} {
		same(t, "what the follower got", f.next(t, len(want)), want)
		f.wantNoMore(t)
	}
}

func (l *ledger) TestFollowEndsWithItsContextAndNoError(t *testing.T) {
	l.live(t, l.Ledger, 5)
	all := l.mustEvents(t, 0)
	run := func(what string, ctx context.Context, after int64, want int, body func(n int) (goOn bool)) {
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
	on := func(int) bool { return true }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run("events after its end", ctx, 0, 0, on)

	ctx, cancel = context.WithCancel(t.Context())
	run("events when it ends in the loop", ctx, 0, 3, func(n int) bool {
		if n == 3 {
			cancel()
		}
		return true
	})

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	run("events until a break", ctx, 0, 7, func(n int) bool { return n < 7 })
	wantError(t, "the context after a break", ctx.Err(), nil)

	for _, wait := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 400 * time.Millisecond} { // before and after looks
		ctx, cancel = context.WithTimeout(t.Context(), wait)
		run("events while nothing happens", ctx, l.lastOf(all), 0, on)
		if ctx.Err() == nil {
			t.Errorf("it ended before its context")
		}
		cancel()
	}
	l.live(t, l.Ledger, 1) // nothing is left behind that would stop it
	f := follows(t, l.Ledger, l.lastOf(all))
	f.next(t, 1)
	f.stop()
}

func (l *ledger) TestFollowInputIsChecked(t *testing.T) {
	n := 0
	for e, err := range l.Follow(t.Context(), -1) {
		badInput(t, err, "after")
		same(t, "what came with the error", e, remediation.Event{})
		n++
	}
	same(t, "errors", n, 1)

	var none context.Context
	wantPanic(t, "Follow", func() error {
		for range l.Follow(none, 0) {
			t.Error("it gives an event")
		}
		return nil
	})
	f := follows(t, l.Ledger, 0) // nothing is left behind that would stop it
	l.mustCreate(t, newAction(normal))
	f.next(t, 2)
	f.wantNoMore(t)
}
