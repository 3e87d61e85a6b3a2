package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// step is one call that changes the status of an action. fill sets the audit fields that the call must fill.
type step struct {
	name     string
	from, to remediation.Status
	call     func(ctx context.Context, l *remediation.Ledger, serverID string, id int64) (remediation.Action, error)
	fill     func(a *remediation.Action, at time.Time)
}

var approve = step{"Approve", remediation.Pending, remediation.Approved,
	func(ctx context.Context, l *remediation.Ledger, _ string, id int64) (remediation.Action, error) {
		return l.Approve(ctx, id, "bob")
	},
	func(a *remediation.Action, at time.Time) { a.ApprovedAt, a.ApprovedBy = &at, new("bob") },
}

var reject = step{"Reject", remediation.Pending, remediation.Rejected,
	func(ctx context.Context, l *remediation.Ledger, _ string, id int64) (remediation.Action, error) {
		return l.Reject(ctx, id, "carol", "not on a Friday")
	},
	func(a *remediation.Action, at time.Time) {
		a.RejectedAt, a.RejectedBy, a.RejectionReason = &at, new("carol"), new("not on a Friday")
	},
}

var withdraw = step{"Withdraw", remediation.Approved, remediation.Rejected,
	func(ctx context.Context, l *remediation.Ledger, _ string, id int64) (remediation.Action, error) {
		return l.Withdraw(ctx, id, "dave", "the alert is gone")
	},
	func(a *remediation.Action, at time.Time) {
		a.RejectedAt, a.RejectedBy, a.RejectionReason = &at, new("dave"), new("the alert is gone")
	},
}

var start = step{"Start", remediation.Approved, remediation.Executing,
	func(ctx context.Context, l *remediation.Ledger, _ string, id int64) (remediation.Action, error) {
		return l.Start(ctx, id)
	},
	func(a *remediation.Action, at time.Time) { a.ExecutedAt = &at },
}

var complete = finish("Finish with 0", remediation.Completed, remediation.Result{Stdout: "restarted\n"})

var fail = finish("Finish with 3", remediation.Failed, remediation.Result{ExitCode: 3, Stderr: "no such unit\n"})

func finish(name string, to remediation.Status, r remediation.Result) step {
	return step{name, remediation.Executing, to,
		func(ctx context.Context, l *remediation.Ledger, serverID string, id int64) (remediation.Action, error) {
			return l.Finish(ctx, serverID, id, r)
		},
		func(a *remediation.Action, at time.Time) {
			a.CompletedAt, a.ExitCode, a.Stdout, a.Stderr = &at, &r.ExitCode, &r.Stdout, &r.Stderr
		},
	}
}

// steps is every call that changes the status of one action by its id.
var steps = []step{approve, reject, withdraw, start, complete, fail}

// stepsTo lists, for each status, the steps that bring a pending action there.
var stepsTo = map[remediation.Status][]step{
	remediation.Pending:   {},
	remediation.Approved:  {approve},
	remediation.Rejected:  {reject},
	remediation.Executing: {approve, start},
	remediation.Completed: {approve, start, complete},
	remediation.Failed:    {approve, start, fail},
}

// actionIn creates an action on the paused server, brings it to status in steps of a minute, and returns the stored
// action.
func (l *ledger) actionIn(t *testing.T, status remediation.Status) remediation.Action {
	t.Helper()
	return l.advance(t, l.mustCreate(t, newAction(paused)), stepsTo[status]...)
}

// advance makes the steps, moving the clock by a minute before each, and returns the stored action.
func (l *ledger) advance(t *testing.T, a remediation.Action, steps ...step) remediation.Action {
	t.Helper()
	for _, s := range steps {
		l.clock.tick()
		if _, err := s.call(t.Context(), l.Ledger, a.ServerID, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	return l.mustGet(t, a.ID)
}

// after is an action as the step must leave it.
func (s step) after(a remediation.Action, at time.Time) remediation.Action {
	a.Status = s.to
	s.fill(&a, at)
	return a
}
