package remediation

import (
	"context"
	"fmt"
	"time"
)

// Outcome is the result of a bulk decision for one id.
type Outcome struct {
	ID     int64
	Action Action // the action after the decision; zero if Err is not nil
	Err    error  // what Approve or Reject would return for this id
}

// ApproveMany approves up to 1,000 pending actions in one statement. It returns one Outcome per id, in the order of
// ids. An id that can't be approved gets the error that Approve returns for it. An id that occurs twice gets the same
// outcome twice. If concurrent calls name the same action, exactly one of them approves it.
//
// The error that ApproveMany itself returns is about the whole call: no action was approved, unless the context ended or
// the connection was lost. It is an *InputError if there are more than 1,000 ids, or if by is not valid, as in Approve.
func (l *Ledger) ApproveMany(ctx context.Context, ids []int64, by string) ([]Outcome, error) {
	if err := checkActor("by", by); err != nil {
		return nil, fmt.Errorf("approve actions: %w", err)
	}
	return l.decide(ctx, step{verb: "approve", from: Pending, to: Approved, by: by}, ids, func(now time.Time) ([]Action, error) {
		return l.store.ApproveActions(ctx, ids, by, now)
	})
}

// RejectMany rejects up to 1,000 pending actions in one statement, all for the same reason. Its outcomes and its error
// are like those of ApproveMany; an id that can't be rejected gets the error that Reject returns for it.
func (l *Ledger) RejectMany(ctx context.Context, ids []int64, by, reason string) ([]Outcome, error) {
	if err := checkDecision(by, reason); err != nil {
		return nil, fmt.Errorf("reject actions: %w", err)
	}
	return l.decide(ctx, step{verb: "reject", from: Pending, to: Rejected}, ids, func(now time.Time) ([]Action, error) {
		return l.store.RejectActions(ctx, ids, by, reason, now)
	})
}

// decide runs one statement for all ids. It then reads only the ids that the statement did not return, to find out why.
// No action becomes pending again, so a later read finds the same reason.
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
	var unread error // an error of the other ids only: the first statement is committed
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

// whyNotDecided returns the error of an action that the statement of a bulk decision did not change. from is its
// status.
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

// FailOverdue closes executing actions that have no result in time, and returns them in the order of their ids. At most
// limit actions become failed. An action is overdue in two cases:
//
//   - Its last Heartbeat, or its start if there was none, is longer ago than olderThan.
//   - It has been executing for longer than its MaxRuntimeSeconds, with or without heartbeats.
//
// A closed action has no exit code, and its stderr says how long FailOverdue waited for the result. The command is not
// run again. A Finish that comes later gets a *TransitionError whose From is failed.
//
// The age is measured from the latest time that the action has, so a clock that was wrong closes no action too early.
// If an older program recorded an exit code without ending the action, the exit code stays and decides the status.
//
// FailOverdue may run in several processes at once: each action is closed once, and an action that is finished at the
// same time is not changed. On PostgreSQL an action that another transaction has locked is skipped until the next call.
//
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
