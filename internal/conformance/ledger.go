package conformance

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Every ledger of the suite starts with these two servers: one in normal mode, one in maintenance.
const (
	normal = "web-1"
	paused = "db-1"
)

// ledger is the ledger under test, with its database and its clock. Its Test methods are the tests of the suite.
type ledger struct {
	*remediation.Ledger
	db    Database
	clock *clock
}

func newLedger(t *testing.T, db Database) *ledger {
	t.Helper()
	c := &clock{now: at(0)}
	l := &ledger{remediation.New(db.Store, remediation.WithClock(c.read)), db, c}
	for _, id := range []string{normal, paused} {
		if err := l.AddServer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	l.mustPause(t, paused)
	return l
}

// on returns a ledger with the same clock that uses another store of the same database.
func (l *ledger) on(store remediation.Store) *remediation.Ledger {
	return remediation.New(store, remediation.WithClock(l.clock.read))
}

// clock is a clock that only tests advance. It counts how often it is read.
type clock struct {
	mu       sync.Mutex
	now      time.Time
	readings int
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readings++
	return c.now
}

// tick advances the clock by one minute and returns the new time.
func (c *clock) tick() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Minute)
	return c.now
}

// at returns the given minute of a fixed hour, 12:00 on 2026-11-23 UTC, in whole microseconds.
func at(minute int) time.Time {
	return time.Date(2026, 11, 23, 12, minute, 7, 123456000, time.UTC)
}

// newAction returns the input for an action with the required fields and a service name.
func newAction(serverID string) remediation.NewAction {
	return remediation.NewAction{
		ServerID:    serverID,
		ActionType:  "restart_service",
		Command:     "systemctl restart nginx",
		CreatedBy:   "ann",
		ServiceName: new("nginx"),
	}
}

func (l *ledger) mustCreate(t *testing.T, a remediation.NewAction) remediation.Action {
	t.Helper()
	created, err := l.Create(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func (l *ledger) mustGet(t *testing.T, id int64) remediation.Action {
	t.Helper()
	a, err := l.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (l *ledger) mustPause(t *testing.T, serverID string) {
	t.Helper()
	if err := l.Pause(t.Context(), serverID); err != nil {
		t.Fatal(err)
	}
}

func (l *ledger) mustUnpause(t *testing.T, serverID string) {
	t.Helper()
	if err := l.Unpause(t.Context(), serverID); err != nil {
		t.Fatal(err)
	}
}

func (l *ledger) mustAddAlert(t *testing.T, serverID string) int64 {
	t.Helper()
	id, err := l.AddAlert(t.Context(), serverID, "nginx does not answer")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// contents is the part of a ledger that a refused call could have changed.
type contents struct {
	Servers, Paused, Alerts int
	Actions                 []remediation.Action
}

func (l *ledger) contents(t *testing.T) contents {
	t.Helper()
	actions, err := l.List(t.Context(), remediation.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return contents{
		Servers: l.count(t, "servers"),
		Paused:  l.count(t, "servers WHERE is_paused AND paused_at IS NOT NULL"),
		Alerts:  l.count(t, "alerts"),
		Actions: actions,
	}
}

// same compares whole values. Times must also have the same zone, because every time of a ledger is in UTC.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	sameTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() })
	if diff := cmp.Diff(want, got, sameTime); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
