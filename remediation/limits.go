package remediation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Expire rejects actions that have expired: up to limit that are pending or approved at or after their ExpiresAt, and of
// more than limit those that expired first. It fills rejected_at, rejected_by with "auto", and rejection_reason with the time
// at which the action expired. Who approved it stays. It returns the actions in the order of their ids.
//
// An expired action can't be approved, claimed or started, also before Expire rejects it. Rejecting it releases its
// DedupeKey. However many callers run at once, each action is rejected once. On PostgreSQL an action that another
// transaction has locked is left to the next call.
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

// Heartbeat records that an agent still works on an executing action. It fills heartbeat_at, from which FailOverdue counts,
// and writes no event. It returns the action: if CancelRequestedAt is set, the agent should stop the command and report the
// result to Finish. A clock that goes back leaves heartbeat_at as it is.
//
// serverID is the server that the agent speaks for: an action of another server is ErrNotFound. The error is a
// *TransitionError if the action is not executing, such as one that FailOverdue has closed. If both run at once, either
// FailOverdue closes the action and Heartbeat fails, or Heartbeat succeeds and the action stays open, unless its
// MaxRuntimeSeconds are over.
func (l *Ledger) Heartbeat(ctx context.Context, serverID string, id int64) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("heartbeat action %d: %w", id, err)
	}
	s := step{verb: "heartbeat", id: id, serverID: serverID, from: Executing, to: Executing}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.HeartbeatAction(ctx, serverID, id, now)
	})
}

// RequestCancel asks the agent that runs an action to stop it. It fills cancel_requested_at, cancel_requested_by and
// cancel_reason. The action stays executing: its agent sees the request in the answer to its next Heartbeat, and reports to
// Finish how the command ended. The arguments are those of Reject.
//
// ErrNotFound, or a *TransitionError if the action is not executing or has a request already. Reject ends a pending action,
// Withdraw an approved one. Of several callers exactly one succeeds.
func (l *Ledger) RequestCancel(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("cancel action %d: %w", id, err)
	}
	// To rejected, because the refusal of a pending or approved action then names Reject or Withdraw.
	s := step{verb: "cancel", id: id, from: Executing, to: Rejected}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.RequestCancel(ctx, id, by, reason, now)
	})
}

// inOrder puts the actions that a sweep has ended in the order of their ids.
func inOrder(actions []Action) []Action {
	for i, a := range actions {
		actions[i] = a.utc()
	}
	slices.SortFunc(actions, func(a, b Action) int { return cmp.Compare(a.ID, b.ID) })
	return actions
}
