package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the callers that cancel their contexts at random moments.

// cancelCallers is the number of concurrent callers.
const cancelCallers = 48

// cancelRun is a set of callers on one ledger. Each caller has an action and a server of its own, so it knows which row
// must be stored.
type cancelRun struct {
	t      *testing.T
	ledger *remediation.Ledger

	calls, refused, cancelled, applied, servers atomic.Int64

	mu   sync.Mutex
	open []attempt // cancelled, and not applied when they were checked
	late int       // number of open attempts that were applied in the end

	retried int // Create calls
}

func (s *cancelRun) String() string {
	return fmt.Sprintf("%d calls, %d refused, %d cancelled: %d had been applied, %d had not, "+
		"%d of these were applied later; %d creates retried", s.calls.Load(), s.refused.Load(), s.cancelled.Load(), s.applied.Load(),
		s.cancelled.Load()-s.applied.Load(), s.late, s.retried)
}

// makeCalls runs the calls of each caller. Calls that hang time out after a minute.
func (s *cancelRun) makeCalls(seed uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for n := range cancelCallers {
		all.Go(func() {
			c := &cancelCaller{cancelRun: s, Rand: rand.New(rand.NewPCG(seed, uint64(n)))}
			for range 15 {
				if s.t.Failed() || !c.call(ctx) {
					return
				}
			}
		})
	}
	all.Wait()
}

// resolveOpen checks each open attempt again. No call may be in progress any more.
func (s *cancelRun) resolveOpen(ledger *remediation.Ledger) {
	for _, a := range s.open {
		row, err := a.find(context.Background(), ledger)
		switch {
		case err != nil:
			s.t.Error(err)
		case a.applied(row):
			s.late++
		case !cmp.Equal(a.before, row):
			s.t.Errorf("a cancelled call left a row that is neither unchanged nor fully changed (-before +after):\n%s",
				cmp.Diff(a.before, row))
		}
		if a.before.ID == 0 {
			s.retryCreate(ledger, a, row)
		}
	}
}

// retryCreate retries a cancelled Create. row is the action that the first call created, or the zero Action.
func (s *cancelRun) retryCreate(ledger *remediation.Ledger, a attempt, row remediation.Action) {
	again, err := ledger.Create(context.Background(), a.request)
	if err != nil || row.ID != 0 && !cmp.Equal(row, again) {
		s.t.Errorf("retry of a cancelled Create: %v (-first +retry):\n%s", err, cmp.Diff(row, again))
	}
	all, err := ledger.List(context.Background(), remediation.Filter{ServerID: a.server})
	if err != nil || len(all) != 1 {
		s.t.Errorf("a cancelled Create and its retry left %d actions, want 1: %v", len(all), err)
	}
	s.retried++
}

// cancelCaller is one caller.
type cancelCaller struct {
	*cancelRun
	*rand.Rand
	server string
	paused bool
	at     remediation.Action // the zero Action while its server has none
}

// call makes one call, whose context may end at any moment, and checks its result.
func (c *cancelCaller) call(ctx context.Context) bool {
	if c.server == "" || c.at.Status.Terminal() && c.IntN(2) == 0 {
		if err := c.nextServer(ctx); err != nil {
			c.t.Error(err)
			return false
		}
	}
	a := c.choose()
	callCtx, cancel := c.randomContext(ctx)
	got, err := a.call(callCtx)
	ended := callCtx.Err() != nil
	cancel()
	c.calls.Add(1)
	row, unread := a.find(ctx, c.ledger)
	if unread != nil {
		c.t.Errorf("read the action after a call: %v", unread)
		return false
	}
	wrong := c.check(a, got, err, row)
	if isContextError(err) && !ended {
		wrong = "it failed with a context error, but its context had not ended"
	}
	if wrong != "" {
		c.t.Errorf("a call that changes status %q to %q: %s\nits error: %v", a.before.Status, a.to, wrong, err)
		return false
	}
	return true
}

// nextServer adds a new server for this caller, and pauses it half of the time.
func (c *cancelCaller) nextServer(ctx context.Context) error {
	c.server, c.paused, c.at = fmt.Sprintf("web-%d", c.servers.Add(1)), c.IntN(2) == 0, remediation.Action{}
	if err := c.ledger.AddServer(ctx, c.server); err != nil || !c.paused {
		return err
	}
	return c.ledger.Pause(ctx, c.server)
}

// check compares the row with the result of the call. It returns a description of the mismatch, or "".
func (c *cancelCaller) check(a attempt, got remediation.Action, err error, row remediation.Action) string {
	unchanged := cmp.Equal(a.before, row)
	switch {
	case err == nil && !a.applied(row):
		return "it returned no error but was not applied (-before +after):\n" + cmp.Diff(a.before, row)
	case err == nil:
		c.at = row
		return cmp.Diff(got, row)
	case isContextError(err):
		c.cancelled.Add(1)
		if a.applied(row) {
			c.applied.Add(1)
			c.at = row
		} else if unchanged && a.to != "" {
			c.mu.Lock()
			c.open = append(c.open, a)
			c.mu.Unlock()
			c.server = "" // the late effect may still come, so no other call may touch this action
		} else if !unchanged {
			return "the row is neither unchanged nor fully changed (-before +after):\n" + cmp.Diff(a.before, row)
		}
	case errors.Is(err, remediation.ErrInvalidTransition), errors.Is(err, remediation.ErrNothingToClaim),
		errors.Is(err, remediation.ErrNotFound):
		c.refused.Add(1)
		if a.to != "" {
			return "it was refused, though the lifecycle allows it"
		}
		if !unchanged {
			return "it was refused but changed the row (-before +after):\n" + cmp.Diff(a.before, row)
		}
	default:
		return "its error is neither an error of the ledger nor of the context"
	}
	return ""
}

// isContextError reports whether err says that a context was cancelled or timed out.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// randomContext returns a context that ends after 1 µs to 65 ms. One context in four does not end.
func (c *cancelCaller) randomContext(ctx context.Context) (context.Context, context.CancelFunc) {
	moment := time.Microsecond << c.IntN(17)
	switch c.IntN(4) {
	case 0:
		return ctx, func() {}
	case 1:
		return context.WithTimeout(ctx, moment)
	}
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(moment, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}
