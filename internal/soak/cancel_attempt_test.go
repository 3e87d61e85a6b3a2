package soak

import (
	"context"
	"fmt"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// attempt is one call whose context may be cancelled, and the change that it makes if it succeeds.
type attempt struct {
	server  string
	before  remediation.Action // the zero Action if the call is Create
	to      remediation.Status // "" if the call must be refused
	marker  string             // a unique text that the call writes as command, actor, reason or output
	call    ledgerCall
	request remediation.NewAction // if the call is Create
}

// ledgerCall makes one call of a ledger.
type ledgerCall func(ctx context.Context) (remediation.Action, error)

// choose picks a random call, usually one that the lifecycle allows.
func (c *cancelCaller) choose() attempt {
	l, id, server, marker := c.ledger, c.at.ID, c.server, fmt.Sprintf("mark %d", c.Uint64())
	if id == 0 {
		to := remediation.Approved
		if c.paused {
			to = remediation.Pending
		}
		request := remediation.NewAction{ServerID: server, ActionType: "run_command", Command: marker,
			CreatedBy: "ann", IdempotencyKey: &marker}
		create := func(ctx context.Context) (remediation.Action, error) { return l.Create(ctx, request) }
		return attempt{server: server, to: to, marker: marker, request: request, call: create}
	}
	result, ended := remediation.Result{Stdout: marker}, remediation.Completed
	if c.IntN(2) == 0 {
		result.ExitCode, ended = 1, remediation.Failed
	}
	steps := []struct {
		from, to remediation.Status
		cancels  bool
		call     ledgerCall
	}{
		{remediation.Pending, remediation.Approved, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Approve(ctx, id, marker)
		}},
		{remediation.Pending, remediation.Rejected, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Reject(ctx, id, "ann", marker)
		}},
		{remediation.Approved, remediation.Rejected, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Withdraw(ctx, id, "ann", marker)
		}},
		{remediation.Approved, remediation.Executing, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Claim(ctx, server)
		}},
		{remediation.Approved, remediation.Executing, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Start(ctx, id)
		}},
		{remediation.Executing, ended, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Finish(ctx, server, id, result)
		}},
		{remediation.Executing, remediation.Executing, false, func(ctx context.Context) (remediation.Action, error) {
			return l.Heartbeat(ctx, server, id)
		}},
		{remediation.Executing, remediation.Executing, true, func(ctx context.Context) (remediation.Action, error) {
			return l.RequestCancel(ctx, id, "ann", marker)
		}},
		{"", "", false, func(ctx context.Context) (remediation.Action, error) {
			return l.Finish(ctx, "another server", id, result)
		}},
	}
	next := steps[c.IntN(len(steps))]
	for tries := 0; next.from != c.at.Status && tries < 5; tries++ {
		next = steps[c.IntN(len(steps))]
	}
	if next.from != c.at.Status || next.cancels && c.at.CancelRequestedAt != nil {
		next.to = ""
	}
	return attempt{server: server, before: c.at, to: next.to, marker: marker, call: next.call}
}

// find reads the action that the call is about. It returns the zero Action if there is none.
func (a attempt) find(ctx context.Context, l *remediation.Ledger) (remediation.Action, error) {
	id := a.before.ID
	if id == 0 {
		all, err := l.List(ctx, remediation.Filter{ServerID: a.server})
		if err != nil || len(all) == 0 {
			return remediation.Action{}, err
		}
		id = all[0].ID
	}
	return l.Get(ctx, id)
}

// applied reports whether row is a.before with exactly the change of the call.
func (a attempt) applied(row remediation.Action) bool {
	if a.to == "" || row.Status != a.to {
		return false
	}
	if a.before.ID == 0 {
		return row.Command == a.marker
	}
	if a.to == a.before.Status { // Heartbeat or RequestCancel
		was := row
		was.HeartbeatAt = a.before.HeartbeatAt
		updated := !cmp.Equal(row.HeartbeatAt, a.before.HeartbeatAt)
		if a.before.CancelRequestedAt == nil && row.CancelReason != nil {
			updated = *row.CancelReason == a.marker
			was.CancelRequestedAt, was.CancelRequestedBy, was.CancelReason = nil, nil, nil
		}
		return updated && cmp.Equal(a.before, was)
	}
	written := &a.marker // Claim and Start write no marker
	switch a.to {
	case remediation.Approved:
		written = row.ApprovedBy
	case remediation.Rejected:
		written = row.RejectionReason
	case remediation.Completed, remediation.Failed:
		written = row.Stdout
	}
	return cmp.Equal(&a.marker, written) && cmp.Equal(a.before, asOf(a.before.Status, row))
}
