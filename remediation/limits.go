package remediation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Expire settles what nobody will run: up to limit actions that are pending or approved at or after their ExpiresAt become
// rejected, by "auto", and the reason says when they expired. It returns them, oldest first; their DedupeKeys are free.
//
// An expired action is not approved, claimed or started, whether Expire runs or not. However many call it at once, each
// action is settled once.
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

// Heartbeat says that an agent still works on an executing action: it fills heartbeat_at, from which FailOverdue counts. It
// writes no event. It returns the action, so that the agent learns of a RequestCancel.
//
// serverID is the server that the agent speaks for: an action of another server is ErrNotFound. A *TransitionError if the
// action is not executing. Of a Heartbeat and a FailOverdue at once exactly one succeeds.
func (l *Ledger) Heartbeat(ctx context.Context, serverID string, id int64) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("heartbeat action %d: %w", id, err)
	}
	s := step{verb: "heartbeat", id: id, serverID: serverID, from: Executing, to: Executing}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.HeartbeatAction(ctx, serverID, id, now)
	})
}

// RequestCancel asks the agent that runs an action to stop it. It is a wish: the action stays executing, its agent learns
// of it from Heartbeat, and Finish says what became of the command. It fills cancel_requested_at, cancel_requested_by and
// cancel_reason, once. The arguments are those of Reject.
//
// ErrNotFound, or a *TransitionError if the action is not executing or was asked to stop already. What is pending or
// approved is ended by Reject or Withdraw. Of several callers exactly one succeeds.
func (l *Ledger) RequestCancel(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("cancel action %d: %w", id, err)
	}
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
