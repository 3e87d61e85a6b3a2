package conformance

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of concurrent calls. An action must be delivered once and decided once, also across processes.

// racers returns n ledgers that alternate between two stores of the database, like two programs with n/2 goroutines
// each.
func (l *ledger) racers(t *testing.T, n int) []*remediation.Ledger {
	return slices.Repeat([]*remediation.Ledger{l.Ledger, l.on(l.db.Another(t))}, n/2)
}

// race starts run for all racers at the same time and waits for all of them.
func race(racers []*remediation.Ledger, run func(i int, l *remediation.Ledger)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, l := range racers {
		wg.Go(func() {
			<-begin
			run(i, l)
		})
	}
	close(begin)
	wg.Wait()
}

func (l *ledger) TestRaceOfClaimersDeliversEachActionOnce(t *testing.T) {
	other := l.actionIn(t, remediation.Approved)
	var want []remediation.Action
	for range 200 {
		want = append(want, start.after(l.mustCreate(t, newAction(normal)), l.clock.now))
	}
	delivered := make([][]remediation.Action, 16)
	race(l.racers(t, 16), func(i int, racer *remediation.Ledger) {
		for {
			a, err := racer.Claim(t.Context(), normal)
			if errors.Is(err, remediation.ErrNothingToClaim) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			delivered[i] = append(delivered[i], a)
		}
	})
	got := slices.Concat(delivered...)
	slices.SortFunc(got, func(a, b remediation.Action) int { return cmp.Compare(a.ID, b.ID) })
	same(t, "delivered", got, want)
	for _, a := range want {
		same(t, "the row", l.mustGet(t, a.ID), a)
	}
	same(t, "the other server's action", l.mustGet(t, other.ID), other)
}

// outcome is the result of one racer's call.
type outcome struct {
	step   step
	action remediation.Action
	err    error
}

// oneWinner expects that exactly one racer changed the action's status, that the row equals the action returned to the
// winner, and that each loser got a *TransitionError whose From is the winner's status.
func (l *ledger) oneWinner(t *testing.T, id int64, outcomes []outcome) outcome {
	t.Helper()
	lost := func(o outcome) bool { return o.err != nil }
	winners := slices.DeleteFunc(slices.Clone(outcomes), lost)
	if len(winners) != 1 {
		t.Fatalf("%d racers won, want 1: %+v", len(winners), outcomes)
	}
	winner := winners[0]
	same(t, "the row", l.mustGet(t, id), winner.action)
	for _, o := range outcomes {
		if lost(o) {
			refused(t, o.err, remediation.TransitionError{ID: id, From: winner.action.Status, To: o.step.to})
		}
	}
	return winner
}

func (l *ledger) TestRaceOfApproveAndRejectHasOneWinner(t *testing.T) {
	racers := l.racers(t, 8)
	for range rounds(10) {
		pending := l.actionIn(t, remediation.Pending)
		outcomes := make([]outcome, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			s := []step{approve, reject}[i/2%2] // each store makes both calls
			a, err := s.call(t.Context(), racer, paused, pending.ID)
			outcomes[i] = outcome{s, a, err}
		})
		winner := l.oneWinner(t, pending.ID, outcomes)
		same(t, "the winner's action", winner.action, winner.step.after(pending, l.clock.now))
	}
}

func (l *ledger) TestRaceOfWithdrawAndClaimHasOneWinner(t *testing.T) {
	racers := l.racers(t, 8)
	for range rounds(10) {
		approved := l.mustCreate(t, newAction(normal))
		outcomes := make([]outcome, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			if i/2%2 == 0 {
				a, err := withdraw.call(t.Context(), racer, normal, approved.ID)
				outcomes[i] = outcome{withdraw, a, err}
				return
			}
			a, err := racer.Claim(t.Context(), normal)
			outcomes[i] = outcome{start, a, err}
		})
		outcomes = slices.DeleteFunc(outcomes, func(o outcome) bool {
			return errors.Is(o.err, remediation.ErrNothingToClaim)
		})
		winner := l.oneWinner(t, approved.ID, outcomes)
		same(t, "the winner's action", winner.action, winner.step.after(approved, l.clock.now))
	}
}

func (l *ledger) TestRaceOfFinishCallsStoresOneResult(t *testing.T) {
	racers := l.racers(t, 4)
	for range rounds(10) {
		executing := l.actionIn(t, remediation.Executing)
		outcomes := make([]outcome, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			s := []step{complete, fail}[i/2]
			a, err := s.call(t.Context(), racer, paused, executing.ID)
			outcomes[i] = outcome{s, a, err}
		})
		winner := l.oneWinner(t, executing.ID, outcomes)
		same(t, "the winner's result", winner.action, winner.step.after(executing, l.clock.now))
	}
}

func (l *ledger) TestRaceOfCreateAndPauseApprovesNothingAfterPause(t *testing.T) {
	other := l.on(l.db.Another(t))
	created, returned := make(chan struct{}), make(chan struct{})
	var isPaused atomic.Bool
	go func() {
		defer close(returned)
		<-created // Pause runs while the racers create
		if err := other.Pause(t.Context(), normal); err != nil {
			t.Error(err)
		}
		isPaused.Store(true)
	}()
	var once sync.Once
	race(l.racers(t, 4), func(_ int, racer *remediation.Ledger) {
		create := func() {
			begunAfter := isPaused.Load()
			a, err := racer.Create(t.Context(), newAction(normal))
			once.Do(func() { close(created) })
			if err != nil {
				t.Error(err)
			} else if begunAfter && a.Status != remediation.Pending {
				t.Errorf("an action created after Pause returned is %s, want pending", a.Status)
			}
		}
		for range rounds(20) {
			create()
		}
		<-returned
		for range 5 {
			create()
		}
	})
}
