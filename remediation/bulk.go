package remediation

import (
	"context"
	"fmt"
	"time"
)

// Outcome is what a bulk decision did with one id.
type Outcome struct {
	ID     int64
	Action Action // as it is after the decision; zero if Err is not nil
	Err    error  // as the decision on this id alone would have returned it
}

// ApproveMany approves up to 1,000 pending actions in one statement and returns one Outcome per id, in the order asked.
// Unknown and already decided ids get the error that Approve gives; an id that is named twice gets its outcome twice.
// Concurrent callers see each action decided by exactly one of them.
//
// The error is for the call as a whole, *InputError for more ids or for a bad name: then nothing was decided.
func (l *Ledger) ApproveMany(ctx context.Context, ids []int64, by string) ([]Outcome, error) {
	if err := checkActor("by", by); err != nil {
		return nil, fmt.Errorf("approve actions: %w", err)
	}
	return l.decide(ctx, step{verb: "approve", from: Pending, to: Approved, by: by}, ids, func(now time.Time) ([]Action, error) {
		return l.store.ApproveActions(ctx, ids, by, now)
	})
}

// RejectMany rejects up to 1,000 pending actions for one reason. It is to Reject what ApproveMany is to Approve.
func (l *Ledger) RejectMany(ctx context.Context, ids []int64, by, reason string) ([]Outcome, error) {
	if err := checkDecision(by, reason); err != nil {
		return nil, fmt.Errorf("reject actions: %w", err)
	}
	return l.decide(ctx, step{verb: "reject", from: Pending, to: Rejected}, ids, func(now time.Time) ([]Action, error) {
		return l.store.RejectActions(ctx, ids, by, reason, now)
	})
}

// decide applies one statement to all ids and, only if some did not answer, reads those to say why. Nothing comes back to
// pending, so what they are then is what they were.
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
	var unread error // what was decided stays decided, so this is an error of the other ids only
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

// FailOverdue closes executing actions whose agent reports nothing: up to limit become failed if their last Heartbeat, or
// their start if there was none, is longer ago than olderThan, or if they have been executing for longer than their own
// MaxRuntimeSeconds, with or without heartbeats. They get no exit code, and their stderr says after how long no result came.
// It returns them, oldest first. It runs nothing again, and a result that arrives later gets a *TransitionError whose From
// is failed.
//
// The time counts from the latest of the action's times, so that a wrong clock closes nothing early. If an older program
// recorded an exit code without ending the action, the exit code stays and decides the status.
//
// However many sweepers run at once, each action is closed once, and one that is finished meanwhile is left alone. On
// PostgreSQL an action that another transaction has locked is left to the next call.
// *InputError if olderThan is not positive.
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
