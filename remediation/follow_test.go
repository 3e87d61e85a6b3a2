package remediation_test

import (
	"context"
	"errors"
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

func TestMain(m *testing.M) { pgtest.Main(m) }

// onEngines runs a test on a store of each engine, with a server web-1 and nothing that looks at the feed by itself:
// what a follower gets there, it is told of.
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

// until waits for what must come.
func until(t *testing.T, what string, come func() bool) {
	t.Helper()
	for begin := time.Now(); !come(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// crowd is many followers of one store.
type crowd struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	events []atomic.Int64 // how many each has got
	mu     sync.Mutex
	errs   []error
}

func newCrowd(t *testing.T, store remediation.Store, n int) *crowd {
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{cancel: cancel, events: make([]atomic.Int64, n)}
	for i := range n {
		c.wg.Go(func() {
			for _, err := range remediation.New(store).Follow(ctx, 0) {
				if err != nil {
					c.mu.Lock()
					c.errs = append(c.errs, err)
					c.mu.Unlock()
					continue // it must end by itself
				}
				c.events[i].Add(1)
			}
		})
	}
	t.Cleanup(func() { cancel(); c.wg.Wait() })
	until(t, "all wait", func() bool { return remediation.Waiting(store) == int64(n) })
	return c
}

// wait waits until every follower has ended.
func (c *crowd) wait(t *testing.T) {
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
func (c *crowd) wantEach(t *testing.T, n int) {
	t.Helper()
	for i := range c.events {
		until(t, "a follower's events", func() bool { return c.events[i].Load() >= int64(n) })
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

func TestFollowerIsToldOfEveryChangeThroughItsStore(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		ctx := t.Context()
		now := time.Now()
		l := remediation.New(store, remediation.WithClock(func() time.Time { return now }))
		c := newCrowd(t, store, 2)
		var id int64
		do := func(a remediation.Action, err error) error { id = a.ID; return err }
		add := func() error { return do(create(t, store), nil) }
		many := func(_ []remediation.Outcome, err error) error { return err }
		events, retold := 0, 0
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
			{"ApproveMany", 1, func() error { return many(l.ApproveMany(ctx, []int64{id}, "bob")) }},
			{"Create in maintenance", 1, add},
			{"RejectMany", 1, func() error { return many(l.RejectMany(ctx, []int64{id}, "bob", "no")) }},
		} {
			if err := change.call(); err != nil {
				t.Fatalf("%s: %v", change.name, err)
			}
			events += change.events
			// On PostgreSQL an event may be held back for a moment, by autovacuum for example: another change tells of
			// it.
			told := func() bool { return c.events[0].Load() >= int64(events) && c.events[1].Load() >= int64(events) }
			for begin := time.Now(); !told(); time.Sleep(time.Millisecond) {
				if time.Since(begin) > 10*time.Second {
					if retold++; retold > 2 {
						t.Fatalf("%s tells no follower", change.name)
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

func TestFollowerIsToldOfTheLastOfManyChangesAtOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		c := newCrowd(t, store, 3)
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

// countingStore counts the reads of the feed.
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

func TestFollowersInOnePlaceShareReads(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		const followers, changes = 300, 5
		counting := &countingStore{backend: store.Backend()}
		c := newCrowd(t, counting, followers)
		for i := range changes {
			create(t, store)
			c.wantEach(t, 2*(i+1))
			until(t, "all wait again", func() bool { return remediation.Waiting(store) == followers })
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
						t.Errorf("the first event is %v, %v", e, err)
						return
					}
					*e.Actor, *e.Detail = "redacted", "redacted"
					return
				}
			})
		}
		until(t, "all wait", func() bool { return remediation.Waiting(store) == 8 })
		create(t, store)
		wg.Wait()
	})
}

// feedGoroutines is how many goroutines are inside the function of this package.
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

func TestOneFollowerAsksForAllAndNoGoroutineIsLeft(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		c := newCrowd(t, store, 40)
		until(t, "one leads", func() bool { return feedGoroutines(t, "(*Feed).lead") == 1 })
		if n := feedGoroutines(t, "(*Feed).next"); n != 40 {
			t.Errorf("%d goroutines for 40 followers", n)
		}
		c.cancel()
		c.wait(t)
		if n := feedGoroutines(t, "Feed"); n != 0 || len(c.errs) > 0 {
			t.Errorf("%d goroutines are left, and %v", n, c.errs)
		}
	})
}

// stoppedStore answers for the feed what a test wants.
type stoppedStore struct {
	backend
	answer func(ctx context.Context) error // nil: the real one
}

func (s *stoppedStore) Backend() remediation.Backend { return s }

func (s *stoppedStore) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return s.backend.ListEvents(ctx, after, limit)
}

func TestErrorOfTheStoreReachesEachFollowerOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		var broken atomic.Bool
		lost := errors.New("connection lost")
		stopped := &stoppedStore{store.Backend(), func(context.Context) error {
			if broken.Load() {
				return lost
			}
			return nil
		}}
		c := newCrowd(t, stopped, 30)
		broken.Store(true)
		create(t, store)
		c.wait(t)
		if len(c.errs) != 30 {
			t.Errorf("%d of 30 followers got an error", len(c.errs))
		}
		for _, err := range c.errs {
			if !errors.Is(err, lost) || !strings.HasPrefix(err.Error(), "follow events: ") {
				t.Errorf("a follower got %v", err)
			}
		}
		broken.Store(false)
		newCrowd(t, stopped, 30).wantEach(t, 2)
	})
}

func TestFollowerThatLeavesDuringItsReadDisturbsNoOther(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, _ func()) {
		reading, first := make(chan struct{}), sync.Once{}
		stopped := &stoppedStore{store.Backend(), func(ctx context.Context) (err error) {
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
			for e, err := range remediation.New(stopped).Follow(ctx, 0) {
				t.Errorf("the follower that left got %v, %v", e, err)
			}
		}()
		<-reading
		var others sync.WaitGroup
		for range 10 {
			others.Go(func() {
				for e, err := range remediation.New(stopped).Follow(t.Context(), 0) {
					if err != nil || e.Kind != remediation.EventCreated {
						t.Errorf("another follower got %v, %v", e, err)
					}
					return
				}
			})
		}
		until(t, "all wait", func() bool { return remediation.Waiting(store) == 11 })
		create(t, store) // while nobody but the one that hangs looks
		cancel()
		<-ended
		others.Wait()
	})
}

func TestFollowersOfAClosedStoreAreTold(t *testing.T) {
	onEngines(t, func(t *testing.T, store remediation.Store, closeStore func()) {
		if _, ok := store.(*sqlite.Store); !ok {
			remediation.SetPollInterval(store, time.Millisecond) // a pool is closed without the store's knowing
		}
		c := newCrowd(t, store, 20)
		closeStore()
		c.wait(t)
		for e, err := range remediation.New(store).Follow(t.Context(), 0) {
			if c.errs = append(c.errs, err); err == nil {
				t.Errorf("a closed store gives %v", e)
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
