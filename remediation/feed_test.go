package remediation

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// emptyStore has no events, and counts the polls of its followers.
type emptyStore struct {
	backend
	notify Feed
	polls  int
	asked  map[int64]bool // the event ids after which it was polled
}

type backend = Backend

func (s *emptyStore) Backend() Backend { return s }

func (s *emptyStore) feed() *Feed { return &s.notify }

func (s *emptyStore) ListEvents(_ context.Context, after int64, _ int) ([]Event, error) {
	s.polls++
	s.asked[after] = true
	return nil, nil
}

func TestIdleFollowersShareFourPollsASecond(t *testing.T) {
	for _, followers := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			s := &emptyStore{asked: map[int64]bool{}}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range followers {
				go New(s).Follow(ctx, 7)(func(Event, error) bool { panic("a follower of an empty store got an event") })
			}
			<-ctx.Done()
			synctest.Wait()
			if s.polls < 4*60-2 || s.polls > 4*60+3 {
				t.Errorf("%d followers made %d polls in a minute, want about 240", followers, s.polls)
			}
			if len(s.notify.positions) != 0 || s.notify.waiting.Load() != 0 {
				t.Errorf("%d positions and %d waiting followers are left", len(s.notify.positions), s.notify.waiting.Load())
			}
		})
	}
}

func TestManyChangesSharePolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		go New(s).Follow(ctx, 0)(nil)
		for range 100_000 {
			time.Sleep(10 * time.Microsecond)
			s.notify.Changed()
		}
		cancel()
		synctest.Wait()
		if s.polls < 150 || s.polls > 210 {
			t.Errorf("the follower made %d polls in a second with 100,000 changes, want about 200", s.polls)
		}
	})
}

func TestChangeIsPolledWithinMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go New(s).Follow(ctx, 0)(nil)
		for i := range 1000 {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond) // a different moment between two polls each time
			synctest.Wait()
			before := s.polls
			s.notify.Changed()
			time.Sleep(pollGap)
			synctest.Wait()
			if s.polls == before {
				t.Fatalf("no poll within %s of change %d", pollGap, i)
			}
		}
	})
}

// Without a poll at the start of its wait, a follower would miss a change that was reported between its last page and
// its wait.
func TestNewPositionIsPolledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &emptyStore{asked: map[int64]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		for after := range int64(3) {
			go New(s).Follow(ctx, after)(nil) // the first follower is the leader
			time.Sleep(pollGap)
			synctest.Wait()
			if !s.asked[after] {
				t.Errorf("there was no poll for the events after %d", after)
			}
		}
	})
}
