package remediation

import (
	"context"
	"fmt"
	"time"
)

// Outcome is the result of a bulk decision for one id.
type Outcome struct {
	ID     int64
	Action Action // after the decision; zero if Err is not nil
	Err    error  // the error that a call for this id alone would return
}

// ApproveMany approves up to 1,000 pending actions in one statement and returns one Outcome for each id, in the given
// order. An unknown or already decided id gets the same error as from Approve. An id that is given twice gets its
// outcome twice. Of concurrent callers exactly one decides each action.
//
// The returned error is for the whole call, such as an *InputError for too many ids or for an invalid by. Then nothing
// was decided.
func (l *Ledger) ApproveMany(ctx context.Context, ids []int64, by string) ([]Outcome, error) {
	if err := checkActor("by", by); err != nil {
		return nil, fmt.Errorf("approve actions: %w", err)
	}
	return l.decide(ctx, step{verb: "approve", from: Pending, to: Approved, by: by}, ids, func(now time.Time) ([]Action, error) {
		return l.store.ApproveActions(ctx, ids, by, now)
	})
}

// RejectMany rejects up to 1,000 pending actions with one reason. It corresponds to Reject as ApproveMany does to
// Approve.
func (l *Ledger) RejectMany(ctx context.Context, ids []int64, by, reason string) ([]Outcome, error) {
	if err := checkDecision(by, reason); err != nil {
		return nil, fmt.Errorf("reject actions: %w", err)
	}
	return l.decide(ctx, step{verb: "reject", from: Pending, to: Rejected}, ids, func(now time.Time) ([]Action, error) {
		return l.store.RejectActions(ctx, ids, by, reason, now)
	})
}

// decide runs one statement for all ids. If it does not return all of them, decide reads the others to explain why. No
// action returns to pending, so their later status still explains the refusal.
func (l *Ledger) decide(ctx context.Context, s step, ids []int64, apply func(now time.Time) ([]Action, error)) ([]Outcome, error) {
	if len(ids) > maxLimit {
		return nil, fmt.Errorf("%s actions: %w", s.verb, &InputError{"ids", fmt.Sprintf("are %d, but may be at most %d", len(ids), maxLimit)})
	}
	if len(ids) == 0 {
		return nil, nil
	}
	now, err := l.now()
	if err != nil {
		return nil, fmt.Errorf("%s actions: %w", s.verb, err)
	}
	actions, err := apply(now)
	if err != nil {
		return nil, fmt.Errorf("%s %d actions: %w", s.verb, len(ids), err)
	}
	decided := make(map[int64]Action, len(actions))
	for _, a := range actions {
		decided[a.ID] = a.utc()
	}
	var others []int64
	for _, id := range ids {
		if _, ok := decided[id]; !ok {
			others = append(others, id)
		}
	}
	var statuses map[int64]Status
	var unread error // concerns only the ids that were not decided
	if len(others) > 0 {
		statuses, unread = l.store.ActionStatuses(ctx, others)
	}
	outcomes := make([]Outcome, len(ids))
	for i, id := range ids {
		outcomes[i].ID = id
		if a, ok := decided[id]; ok {
			outcomes[i].Action = a
		} else if unread != nil {
			outcomes[i].Err = fmt.Errorf("%s action %d: %w", s.verb, id, unread)
		} else if from, ok := statuses[id]; ok {
			outcomes[i].Err = fmt.Errorf("%s: %w", s.verb, l.whyNotDecided(ctx, s, id, from, now))
		} else {
			outcomes[i].Err = fmt.Errorf("%s action %d: %w", s.verb, id, ErrNotFound)
		}
	}
	return outcomes, nil
}

func (l *Ledger) whyNotDecided(ctx context.Context, s step, id int64, from Status, now time.Time) error {
	if from != s.from {
		return &TransitionError{ID: id, From: from, To: s.to}
	}
	current, err := l.store.ExplainAction(ctx, id, now)
	if err != nil {
		return err
	}
	return current.refuse(s, now)
}

// FailOverdue closes executing actions that have no result in time. Up to limit actions become failed: those whose last
// Heartbeat, or start if there was none, is longer ago than olderThan, and those that have run for longer than their
// MaxRuntimeSeconds, with or without heartbeats. They get no exit code, and stderr says how long no result came.
// FailOverdue returns them, oldest first. It never runs a command again. A later result gets a *TransitionError whose
// From is failed.
//
// Time is measured from the latest time of the action, so that a wrong clock closes nothing early. If an older program
// recorded an exit code without ending the action, the exit code is kept and decides the status.
//
// Concurrent callers close each action once, and an action that is finished in the meantime is unaffected. On
// PostgreSQL an action that another transaction has locked is left to the next call. The error is an *InputError if
// olderThan is not positive.
func (l *Ledger) FailOverdue(ctx context.Context, olderThan time.Duration, limit int) ([]Action, error) {
	limit, err := checkLimit(limit)
	if olderThan <= 0 {
		err = &InputError{"older_than", fmt.Sprintf("is %s, but must be positive", olderThan)}
	}
	if err != nil {
		return nil, fmt.Errorf("fail overdue actions: %w", err)
	}
	now, err := l.now()
	if err != nil {
		return nil, fmt.Errorf("fail overdue actions: %w", err)
	}
	actions, err := l.store.FailOverdueActions(ctx, clampYear(now.Add(-olderThan)),
		fmt.Sprintf("no result came within %s", olderThan), limit, now)
	if err != nil {
		return nil, fmt.Errorf("fail overdue actions: %w", err)
	}
	return inOrder(actions), nil
}
