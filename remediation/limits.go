package remediation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Expire rejects up to limit pending or approved actions whose ExpiresAt has passed, those that expired first first. It
// fills rejected_at, rejected_by with "auto", and rejection_reason with the time at which the action expired. It keeps
// who approved the action. It returns the actions in the order of their ids.
//
// An expired action can't be approved, claimed or started even before Expire rejects it. Rejecting it releases its
// DedupeKey. Concurrent callers reject each action once. On PostgreSQL an action that another transaction has locked is
// left to the next call.
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

// Heartbeat records that the agent is still working on an executing action. It fills heartbeat_at, which FailOverdue
// uses, and writes no event. It returns the action. If CancelRequestedAt is set, the agent should stop the command and
// report the result to Finish. A clock that was set back does not move heartbeat_at back.
//
// serverID is the agent's server: an action of another server is ErrNotFound. The error is a *TransitionError if the
// action is not executing, for example because FailOverdue has closed it. If both run concurrently, either FailOverdue
// closes the action and Heartbeat fails, or Heartbeat succeeds and the action stays open, unless it has exceeded its
// MaxRuntimeSeconds.
func (l *Ledger) Heartbeat(ctx context.Context, serverID string, id int64) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("heartbeat action %d: %w", id, err)
	}
	s := step{verb: "heartbeat", id: id, serverID: serverID, from: Executing, to: Executing}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.HeartbeatAction(ctx, serverID, id, now)
	})
}

// RequestCancel asks the agent to stop an executing action. It fills cancel_requested_at, cancel_requested_by and
// cancel_reason. The action stays executing. Its agent sees the request in the result of its next Heartbeat, and
// reports to Finish how the command ended. The arguments are those of Reject.
//
// The error is ErrNotFound, or a *TransitionError if the action is not executing or already has a request. Use Reject
// for a pending action and Withdraw for an approved one. Of concurrent callers exactly one succeeds.
func (l *Ledger) RequestCancel(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("cancel action %d: %w", id, err)
	}
	// The target is Rejected so that the error for a pending or approved action names Reject or Withdraw.
	s := step{verb: "cancel", id: id, from: Executing, to: Rejected}
	return l.transition(ctx, s, func(now time.Time) (Action, error) {
		return l.store.RequestCancel(ctx, id, by, reason, now)
	})
}

// inOrder sorts the actions by id and converts their times to UTC.
func inOrder(actions []Action) []Action {
	for i, a := range actions {
		actions[i] = a.utc()
	}
	slices.SortFunc(actions, func(a, b Action) int { return cmp.Compare(a.ID, b.ID) })
	return actions
}
