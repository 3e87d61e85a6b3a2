package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of every call with a nil context. The calls in everyCall are shared with the tests of clocks.

// everyCall returns the calls of a Ledger by name, except Follow and All, each with valid input.
func everyCall(pending, approved, executing int64) map[string]func(ctx context.Context, l *remediation.Ledger) error {
	action := func(_ remediation.Action, err error) error { return err }
	return map[string]func(ctx context.Context, l *remediation.Ledger) error{
		"AddServer": func(ctx context.Context, l *remediation.Ledger) error { return l.AddServer(ctx, "new") },
		"Pause":     func(ctx context.Context, l *remediation.Ledger) error { return l.Pause(ctx, normal) },
		"Unpause":   func(ctx context.Context, l *remediation.Ledger) error { return l.Unpause(ctx, paused) },
		"AddAlert": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.AddAlert(ctx, normal, "down")
			return err
		},
		"Create": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.Create(ctx, newAction(normal)))
		},
		"Approve": func(ctx context.Context, l *remediation.Ledger) error { return action(l.Approve(ctx, pending, "bob")) },
		"Reject": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.Reject(ctx, pending, "bob", "no"))
		},
		"Withdraw": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.Withdraw(ctx, approved, "bob", "no"))
		},
		"Claim": func(ctx context.Context, l *remediation.Ledger) error { return action(l.Claim(ctx, paused)) },
		"Start": func(ctx context.Context, l *remediation.Ledger) error { return action(l.Start(ctx, approved)) },
		"Finish": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.Finish(ctx, paused, executing, remediation.Result{}))
		},
		"ApproveMany": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.ApproveMany(ctx, []int64{pending}, "bob")
			return err
		},
		"RejectMany": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.RejectMany(ctx, []int64{pending}, "bob", "no")
			return err
		},
		"FailOverdue": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.FailOverdue(ctx, time.Nanosecond, 10)
			return err
		},
		"Expire": func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Expire(ctx, 10); return err },
		"Heartbeat": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.Heartbeat(ctx, paused, executing))
		},
		"RequestCancel": func(ctx context.Context, l *remediation.Ledger) error {
			return action(l.RequestCancel(ctx, executing, "erin", "wrong host"))
		},
		"ForbidSelfApproval": func(ctx context.Context, l *remediation.Ledger) error {
			return l.ForbidSelfApproval(ctx, normal, false)
		},
		"Server":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Server(ctx, normal); return err },
		"Servers": func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Servers(ctx, "", 10); return err },
		"Get":     func(ctx context.Context, l *remediation.Ledger) error { return action(l.Get(ctx, pending)) },
		"List": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.List(ctx, remediation.Filter{})
			return err
		},
		"Counts":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Counts(ctx); return err },
		"Explain": func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Explain(ctx, pending); return err },
		"Events":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Events(ctx, 0, 10); return err },
		"History": func(ctx context.Context, l *remediation.Ledger) error { _, err := l.History(ctx, pending); return err },
		"Prune":   func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Prune(ctx, at(59), 10); return err },
		"ClearOutput": func(ctx context.Context, l *remediation.Ledger) error {
			_, err := l.ClearOutput(ctx, at(59), 10)
			return err
		},
	}
}

// If a panic left a lock behind, the next call would wait for it forever.
func (l *ledger) TestNilContextPanicsAndLeavesNoLock(t *testing.T) {
	pending, approved := l.actionIn(t, remediation.Pending), l.actionIn(t, remediation.Approved)
	executing := l.actionIn(t, remediation.Executing)
	before := l.contents(t)
	var none context.Context
	tx := l.db.Begin(t)
	for where, ledger := range map[string]*remediation.Ledger{
		"a store in use":           l.Ledger,
		"a new store":              l.on(l.db.Another(t)),
		"the caller's transaction": l.on(tx.Store),
	} {
		for name, call := range everyCall(pending.ID, approved.ID, executing.ID) {
			wantPanic(t, name+" on "+where, func() error { return call(none, ledger) })
		}
		withTimeout(t, "a read after the panics on "+where, func() error {
			_, err := ledger.Get(t.Context(), pending.ID)
			return err
		})
		same(t, "after the panics on "+where, l.contents(t), before)
	}
	withTimeout(t, "a change in the transaction", func() error {
		_, err := l.on(tx.Store).Approve(t.Context(), pending.ID, "bob")
		return err
	})
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	withTimeout(t, "a change after the panics", func() error {
		_, err := l.Approve(t.Context(), pending.ID, "bob")
		return err
	})
}

// wantPanic expects that a call with a nil context panics.
func wantPanic(t *testing.T, what string, call func() error) {
	t.Helper()
	withTimeout(t, what, func() error {
		defer func() {
			if recover() == nil {
				t.Errorf("%s with a nil context did not panic", what)
			}
		}()
		return call()
	})
}

// withTimeout runs a call and fails the test if it returns an error or takes more than a minute. Without it, a call
// that hangs would stop the whole run.
func withTimeout(t *testing.T, what string, call func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s hangs", what)
	}
}
