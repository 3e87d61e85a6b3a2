package remediation

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// emptyStore has no events, and counts how often it was asked.
type emptyStore struct {
	backend
	at    Feed
	looks int
	asked map[int64]bool // after which events
}

type backend = Backend

func (s *emptyStore) Backend() Backend { return s }

func (s *emptyStore) feed() *Feed { return &s.at }

func (s *emptyStore) ListEvents(_ context.Context, after int64, _ int) ([]Event, error) {
	s.looks++
	s.asked[after] = true
	return nil, nil
}

func TestIdleFollowersLookFourTimesASecondTogether(t *testing.T) {
	for _, followers := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			s := &emptyStore{asked: map[int64]bool{}}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range followers {
				go New(s).Follow(ctx, 7)(func(Event, error) bool { panic("there is nothing to follow") })
			}
			<-ctx.Done()
			synctest.Wait()
			if s.looks < 4*60-2 || s.looks > 4*60+3 {
				t.Errorf("%d followers looked %d times in a minute", followers, s.looks)
			}
			if len(s.at.positions) != 0 || s.at.waiting.Load() != 0 {
				t.Errorf("they left %d positions behind, and %d followers", len(s.at.positions), s.at.waiting.Load())
			}
		})
	}
}

func TestManyChangesShareLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		go New(s).Follow(ctx, 0)(nil)
		for range 100_000 {
			time.Sleep(10 * time.Microsecond)
			s.at.Changed()
		}
		cancel()
		synctest.Wait()
		if s.looks < 150 || s.looks > 210 {
			t.Errorf("the follower looked %d times in a second of 100,000 changes, want some 200", s.looks)
		}
	})
}

func TestChangeIsLookedAtWithinMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go New(s).Follow(ctx, 0)(nil)
		for i := range 1000 {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond) // in every moment between two looks
			synctest.Wait()
			before := s.looks
			s.at.Changed()
			time.Sleep(pollGap)
			synctest.Wait()
			if s.looks == before {
				t.Fatalf("change %d was not looked at", i)
			}
		}
	})
}

// What was committed between a follower's last page and its wait is told to nobody.
func TestFollowerThatBeginsToWaitIsLookedForAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		for after := range int64(3) {
			go New(s).Follow(ctx, after)(nil) // the first one leads
			time.Sleep(pollGap)
			synctest.Wait()
			if !s.asked[after] {
				t.Errorf("nobody asked what comes after event %d", after)
			}
		}
	})
}
