package remediation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Expire rejects up to limit actions that have expired, and returns them in the order of their ids. An action has
// expired if it is pending or approved at or after its ExpiresAt. If there are more than limit, Expire rejects those
// that expired first. It sets rejected_at, sets rejected_by to "auto", and sets rejection_reason to a text with the
// time at which the action expired. It keeps approved_at and approved_by.
//
// An expired action can't be approved, claimed or started, even before Expire rejects it. Rejecting it releases its
// DedupeKey. If several calls run at once, each action is rejected once. On PostgreSQL an action that another
// transaction has locked is skipped until the next call.
func (l *Ledger) Expire(ctx context.Context, limit int) ([]Action, error) {
	limit, err := checkLimit(limit)
	if err != nil {
		return nil, fmt.Errorf("expire actions: %w", err)
	}
	now, err := l.now()
	if err != nil {
		return nil, fmt.Errorf("expire actions: %w", err)
	}
	actions, err := l.store.ExpireActions(ctx, limit, now)
	if err != nil {
		return nil, fmt.Errorf("expire actions: %w", err)
	}
	return inOrder(actions), nil
}

// Heartbeat records that an agent still works on an executing action. It sets heartbeat_at, which FailOverdue compares
// with olderThan, and writes no event. If the clock has gone back, heartbeat_at keeps its value. Heartbeat returns the
// action: if its CancelRequestedAt is set, the agent should stop the command and report the result to Finish.
//
// serverID is the server of the agent; for an action of another server the error is ErrNotFound. The error is a
// *TransitionError if the action is not executing, for example because FailOverdue has closed it. If Heartbeat and
// FailOverdue run at once, either FailOverdue closes the action and Heartbeat fails, or Heartbeat succeeds and the
// action stays open. A Heartbeat does not keep an action open whose MaxRuntimeSeconds have passed.
func (l *Ledger) Heartbeat(ctx context.Context, serverID string, id int64) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("heartbeat action %d: %w", id, err)
	}
	s := step{verb: "heartbeat", id: id, serverID: serverID, from: Executing, to: Executing}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.HeartbeatAction(ctx, serverID, id, now)
	})
}

// RequestCancel asks the agent of an executing action to stop the command. It sets cancel_requested_at,
// cancel_requested_by and cancel_reason. The action stays executing. Its next Heartbeat returns the request to the
// agent, which then reports to Finish how the command ended. The arguments are those of Reject.
//
// ErrNotFound if the action doesn't exist. *TransitionError if it is not executing, or if it has a request already.
// Reject ends a pending action, and Withdraw an approved one. If several calls request a cancel at once, exactly one
// succeeds.
func (l *Ledger) RequestCancel(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("cancel action %d: %w", id, err)
	}
	// With to: Rejected, the error for a pending or approved action names Reject or Withdraw.
	s := step{verb: "cancel", id: id, from: Executing, to: Rejected}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.RequestCancel(ctx, id, by, reason, now)
	})
}

// inOrder sorts actions by id, and converts their times to UTC.
func inOrder(actions []Action) []Action {
	for i, a := range actions {
		actions[i] = a.utc()
	}
	slices.SortFunc(actions, func(a, b Action) int { return cmp.Compare(a.ID, b.ID) })
	return actions
}
