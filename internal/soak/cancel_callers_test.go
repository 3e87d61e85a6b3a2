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

// cancelCallers is how many give up at random moments, at once.
const cancelCallers = 48

// storm is the callers of one ledger. Each works at an action of its own, on a server of its own, so that it knows what
// must be there.
type cancelRun struct {
	t      *testing.T
	ledger *remediation.Ledger

	calls, refused, cancelled, applied, servers atomic.Int64

	mu   sync.Mutex
	open []attempt // cancelled, and not there when they were looked for
	late int       // of them, there in the end

	retried int // Create calls
}

func (s *cancelRun) String() string {
	return fmt.Sprintf("%d calls, %d refused, %d cancelled: %d of them had applied, %d had not and %d of those did afterwards; "+
		"%d creates repeated", s.calls.Load(), s.refused.Load(), s.cancelled.Load(), s.applied.Load(),
		s.cancelled.Load()-s.applied.Load(), s.late, s.retried)
}

// rage lets each caller make its calls. Should they hang, their time is up after a minute.
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

// decide says of each open attempt what became of it, once no call of the storm can be under way any more.
func (s *cancelRun) resolveOpen(ledger *remediation.Ledger) {
	for _, a := range s.open {
		row, err := a.find(context.Background(), ledger)
		switch {
		case err != nil:
			s.t.Error(err)
		case a.applied(row):
			s.late++
		case !cmp.Equal(a.before, row):
			s.t.Errorf("a cancelled call left neither what was (-) nor what it makes of it (+):\n%s", cmp.Diff(a.before, row))
		}
		if a.before.ID == 0 {
			s.retryCreate(ledger, a, row)
		}
	}
}

// repeat makes a cancelled Create again, of which the row is what it made, if it did.
func (s *cancelRun) retryCreate(ledger *remediation.Ledger, a attempt, row remediation.Action) {
	again, err := ledger.Create(context.Background(), a.request)
	if err != nil || row.ID != 0 && !cmp.Equal(row, again) {
		s.t.Errorf("repeated, a cancelled Create answers %v (-first +again):\n%s", err, cmp.Diff(row, again))
	}
	all, err := ledger.List(context.Background(), remediation.Filter{ServerID: a.server})
	if err != nil || len(all) != 1 {
		s.t.Errorf("a Create that was cancelled and repeated left %d actions, %v", len(all), err)
	}
	s.retried++
}

// impatient is one caller.
type cancelCaller struct {
	*cancelRun
	*rand.Rand
	server string
	paused bool
	at     remediation.Action // the zero Action when its server has none yet
}

// call makes one call, of which its context may have enough at any moment, and looks what came of it.
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
		c.t.Errorf("look for what became of a call: %v", unread)
		return false
	}
	wrong := c.check(a, got, err, row)
	if isContextError(err) && !ended {
		wrong = "it failed with the end of a context that was not its own"
	}
	if wrong != "" {
		c.t.Errorf("a call that was to make %q of %q: %s\nits error: %v", a.to, a.before.Status, wrong, err)
		return false
	}
	return true
}

// moveOn goes to a server that nobody else has, in one mode or the other.
func (c *cancelCaller) nextServer(ctx context.Context) error {
	c.server, c.paused, c.at = fmt.Sprintf("web-%d", c.servers.Add(1)), c.IntN(2) == 0, remediation.Action{}
	if err := c.ledger.AddServer(ctx, c.server); err != nil || !c.paused {
		return err
	}
	return c.ledger.Pause(ctx, c.server)
}

// judge holds the row against what the call returned.
func (c *cancelCaller) check(a attempt, got remediation.Action, err error, row remediation.Action) string {
	unchanged := cmp.Equal(a.before, row)
	switch {
	case err == nil && !a.applied(row):
		return "it returned without an error but was not made:\n" + cmp.Diff(a.before, row)
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
			c.server = "" // from here on only decide touches that action
		} else if !unchanged {
			return "it left neither what was there (-) nor what it makes of that (+):\n" + cmp.Diff(a.before, row)
		}
	case errors.Is(err, remediation.ErrInvalidTransition), errors.Is(err, remediation.ErrNothingToClaim),
		errors.Is(err, remediation.ErrNotFound):
		c.refused.Add(1)
		if a.to != "" {
			return "it was refused, though the lifecycle allows it"
		}
		if !unchanged {
			return "it was refused, but wrote:\n" + cmp.Diff(a.before, row)
		}
	default:
		return "not an error of the ledger, and not of the context"
	}
	return ""
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// patience is a context that ends at any moment, or one in four times not at all.
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
