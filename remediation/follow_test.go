package remediation_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// The followers of a store share its polls. These tests count them.
func TestMain(m *testing.M) { pgtest.Main(m) }

// onEngines runs a test on a store of each engine, with a server web-1. The followers poll once an hour unless a change
// is reported, so every event that they get was reported through Changed.
func onEngines(t *testing.T, test func(t *testing.T, store remediation.Store, closeStore func())) {
	for name, open := range map[string]func(t *testing.T) (remediation.Store, func()){
		"sqlite": func(t *testing.T) (remediation.Store, func()) {
			store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			return store, func() { store.Close() }
		},
		"postgres": func(t *testing.T) (remediation.Store, func()) {
			pool := pgtest.Pool(t, pgtest.URL(t))
			return postgres.New(pool), pool.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, closeStore := open(t)
			if err := remediation.New(store).AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			remediation.SetPollInterval(store, time.Hour)
			test(t, store, closeStore)
		})
	}
}

// waitFor waits until condition is true, and fails the test after a minute.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for begin := time.Now(); !condition(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("timed out after a minute: %s", what)
		}
	}
}

// followerGroup is a number of followers of one store.
type followerGroup struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	events []atomic.Int64 // the number of events that each follower got
	mu     sync.Mutex
	errs   []error
}

// newFollowers starts n followers, and returns when all of them wait for events.
func newFollowers(t *testing.T, store remediation.Store, n int) *followerGroup {
	ctx, cancel := context.WithCancel(t.Context())
	c := &followerGroup{cancel: cancel, events: make([]atomic.Int64, n)}
	for i := range n {
		c.wg.Go(func() {
			for _, err := range remediation.New(store).Follow(ctx, 0) {
				if err != nil {
					c.mu.Lock()
					c.errs = append(c.errs, err)
					c.mu.Unlock()
					continue // the sequence must end by itself after an error
				}
				c.events[i].Add(1)
			}
		})
	}
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	waitFor(t, "all followers wait", func() bool { return remediation.Waiting(store) == int64(n) })
	return c
}

// wait waits until every follower has ended.
func (c *followerGroup) wait(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the followers have not ended within a minute")
	}
}

// wantEach waits until every follower has got n events.
func (c *followerGroup) wantEach(t *testing.T, n int) {
	t.Helper()
	for i := range c.events {
		waitFor(t, fmt.Sprintf("a follower gets %d events", n), func() bool { return c.events[i].Load() >= int64(n) })
		if got := c.events[i].Load(); got != int64(n) {
			t.Errorf("a follower got %d events, want %d", got, n)
		}
	}
}

func create(t *testing.T, store remediation.Store) remediation.Action {
	t.Helper()
	a, err := remediation.New(store).Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "uptime", CreatedBy: "ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFollowerGetsEveryChangeThroughItsStore(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		ctx := t.Context()
		now := time.Now()
		l := remediation.New(store, remediation.WithClock(func() time.Time { return now }))
		c := newFollowers(t, store, 2)
		var id int64
		do := func(a remediation.Action, err error) error { id = a.ID; return err }
		add := func() error { return do(create(t, store), nil) }
		bulk := func(_ []remediation.Outcome, err error) error { return err }
		events, repeats := 0, 0
		for _, change := range []struct {
			name   string
			events int
			call   func() error
		}{
			{"Create", 2, add},
			{"Withdraw", 1, func() error { return do(l.Withdraw(ctx, id, "bob", "no")) }},
			{"Create", 2, add},
			{"Claim", 1, func() error { return do(l.Claim(ctx, "web-1")) }},
			{"Finish", 1, func() error { return do(l.Finish(ctx, "web-1", id, remediation.Result{Stdout: "up"})) }},
			{"Create", 2, add},
			{"Start", 1, func() error { return do(l.Start(ctx, id)) }},
			{"RequestCancel", 1, func() error { return do(l.RequestCancel(ctx, id, "bob", "no")) }},
			{"FailOverdue", 1, func() error {
				now = now.Add(time.Hour)
				_, err := l.FailOverdue(ctx, time.Minute, 1)
				return err
			}},
			{"ClearOutput", 2, func() error { _, err := l.ClearOutput(ctx, now.Add(time.Hour), 9); return err }},
			{"Create", 2, func() error {
				a, err := l.Create(ctx, remediation.NewAction{ServerID: "web-1", ActionType: "reboot", Command: "reboot", CreatedBy: "ann",
					ExpiresAt: new(now.Add(time.Second))})
				return do(a, err)
			}},
			{"Expire", 1, func() error { now = now.Add(time.Minute); _, err := l.Expire(ctx, 1); return err }},
			{"Prune", 4, func() error { _, err := l.Prune(ctx, now.Add(time.Hour), 9); return err }},
			{"Create in maintenance", 1, func() error { return errors.Join(l.Pause(ctx, "web-1"), add()) }},
			{"Approve", 1, func() error { return do(l.Approve(ctx, id, "bob")) }},
			{"Create in maintenance", 1, add},
			{"Reject", 1, func() error { return do(l.Reject(ctx, id, "bob", "no")) }},
			{"Create in maintenance", 1, add},
			{"ApproveMany", 1, func() error { return bulk(l.ApproveMany(ctx, []int64{id}, "bob")) }},
			{"Create in maintenance", 1, add},
			{"RejectMany", 1, func() error { return bulk(l.RejectMany(ctx, []int64{id}, "bob", "no")) }},
		} {
			if err := change.call(); err != nil {
				t.Fatalf("%s: %v", change.name, err)
			}
			events += change.events
			// On PostgreSQL another transaction, such as autovacuum, can delay an event past its poll. AddServer then
			// causes another poll.
			received := func() bool { return c.events[0].Load() >= int64(events) && c.events[1].Load() >= int64(events) }
			for begin := time.Now(); !received(); time.Sleep(time.Millisecond) {
				if time.Since(begin) > 10*time.Second {
					if repeats++; repeats > 2 {
						t.Fatalf("the followers got no event of %s", change.name)
					}
					if err := l.AddServer(ctx, "web-1"); err != nil {
						t.Fatal(err)
					}
					begin = time.Now()
				}
			}
			c.wantEach(t, events)
		}
	})
}

func TestFollowersGetAllOfManyConcurrentChanges(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		c := newFollowers(t, store, 3)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 5 {
					create(t, store)
				}
			})
		}
		wg.Wait()
		c.wantEach(t, 64*5*2)
	})
}

// countingStore counts the calls of ListEvents.
type countingStore struct {
	backend
	reads atomic.Int64
}

type backend = remediation.Backend

func (s *countingStore) Backend() remediation.Backend { return s }

func (s *countingStore) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	s.reads.Add(1)
	return s.backend.ListEvents(ctx, after, limit)
}

func TestFollowersWithTheSameLastEventShareReads(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		const followers, changes = 300, 5
		counting := &countingStore{backend: store.Backend()}
		c := newFollowers(t, counting, followers)
		for i := range changes {
			create(t, store)
			c.wantEach(t, 2*(i+1))
			waitFor(t, "all followers wait again", func() bool { return remediation.Waiting(store) == followers })
		}
		t.Logf("%d reads for %d followers and %d changes", counting.reads.Load(), followers, changes)
		if n := counting.reads.Load(); n > 10*(changes+1) {
			t.Errorf("%d followers made %d reads for %d changes", followers, n, changes)
		}
	})
}

func TestFollowersShareNoPointers(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for e, err := range remediation.New(store).Follow(t.Context(), 0) {
					if err != nil || *e.Actor != "ann" || *e.Detail != "uptime" {
						t.Errorf("the first event is %v, error %v", e, err)
						return
					}
					*e.Actor, *e.Detail = "redacted", "redacted"
					return
				}
			})
		}
		waitFor(t, "all followers wait", func() bool { return remediation.Waiting(store) == 8 })
		create(t, store)
		wg.Wait()
	})
}

// feedGoroutines returns the number of goroutines that run the given function of package remediation.
func feedGoroutines(t *testing.T, function string) int {
	t.Helper()
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		t.Fatal(err)
	}
	n := 0
	for stack := range strings.SplitSeq(stacks.String(), "\n\n") {
		if strings.Contains(stack, "actionledger/remediation.") && strings.Contains(stack, function) {
			n++
		}
	}
	return n
}

func TestOneFollowerLeadsAndNoGoroutineIsLeft(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		c := newFollowers(t, store, 40)
		waitFor(t, "there is a leader", func() bool { return feedGoroutines(t, "(*Feed).lead") == 1 })
		if n := feedGoroutines(t, "(*Feed).next"); n != 40 {
			t.Errorf("%d goroutines wait for 40 followers", n)
		}
		c.cancel()
		c.wait(t)
		if n := feedGoroutines(t, "Feed"); n != 0 || len(c.errs) > 0 {
			t.Errorf("%d goroutines are left, and the followers got %v", n, c.errs)
		}
	})
}

// stubStore lets a test make ListEvents fail.
type stubStore struct {
	backend
	fail func(ctx context.Context) error // if it returns nil, ListEvents reads from the backend
}

func (s *stubStore) Backend() remediation.Backend { return s }

func (s *stubStore) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	if err := s.fail(ctx); err != nil {
		return nil, err
	}
	return s.backend.ListEvents(ctx, after, limit)
}

func TestErrorOfTheStoreReachesEachFollowerOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		var broken atomic.Bool
		lost := errors.New("connection lost")
		stub := &stubStore{store.Backend(), func(context.Context) error {
			if broken.Load() {
				return lost
			}
			return nil
		}}
		c := newFollowers(t, stub, 30)
		broken.Store(true)
		create(t, store)
		c.wait(t)
		if len(c.errs) != 30 {
			t.Errorf("%d of 30 followers got an error", len(c.errs))
		}
		for _, err := range c.errs {
			if !errors.Is(err, lost) || !strings.HasPrefix(err.Error(), "follow events: ") {
				t.Errorf("a follower got %v, want the error of the store after \"follow events: \"", err)
			}
		}
		broken.Store(false)
		newFollowers(t, stub, 30).wantEach(t, 2)
	})
}

func TestLeaderWhoseContextEndsDuringAPollDoesNotAffectOthers(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		reading, first := make(chan struct{}), sync.Once{}
		stub := &stubStore{store.Backend(), func(ctx context.Context) (err error) {
			first.Do(func() {
				close(reading)
				<-ctx.Done()
				err = ctx.Err()
			})
			return err
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for e, err := range remediation.New(stub).Follow(ctx, 0) {
				t.Errorf("the leader got %v, error %v; want nothing", e, err)
			}
		}()
		<-reading
		var others sync.WaitGroup
		for range 10 {
			others.Go(func() {
				for e, err := range remediation.New(stub).Follow(t.Context(), 0) {
					if err != nil || e.Kind != remediation.EventCreated {
						t.Errorf("another follower got %v, error %v; want a created event", e, err)
					}
					return
				}
			})
		}
		waitFor(t, "all followers wait", func() bool { return remediation.Waiting(store) == 11 })
		create(t, store) // while the leader hangs in its poll
		cancel()
		<-ended
		others.Wait()
	})
}

func TestFollowersOfAClosedStoreGetAnError(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, closeStore func()) {
		if _, ok := store.(*sqlite.Store); !ok {
			// A closed pool is not reported to the store, so the followers notice it only when they poll.
			remediation.SetPollInterval(store, time.Millisecond)
		}
		c := newFollowers(t, store, 20)
		closeStore()
		c.wait(t)
		for e, err := range remediation.New(store).Follow(t.Context(), 0) {
			if c.errs = append(c.errs, err); err == nil {
				t.Errorf("a follower of a closed store got %v", e)
			}
		}
		if len(c.errs) != 21 {
			t.Errorf("%d of 21 followers got an error", len(c.errs))
		}
		for _, err := range c.errs {
			if _, ok := store.(*sqlite.Store); ok && !errors.Is(err, sqlite.ErrClosed) {
				t.Errorf("a follower got %v, want ErrClosed", err)
			}
		}
	})
}
