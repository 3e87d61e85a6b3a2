package remediation

import (
	"context"
	"fmt"
	"time"
)

// Counts returns how many actions have each of the statuses named, or of all six if none is; a status without actions
// is there with 0. "timed_out", which only the Python original writes, is counted if it is named. It counts in
// one statement, so the numbers belong to one moment.
//
// The cost is what is counted, read from an index and not from the actions: the open statuses (pending, approved,
// executing) are as cheap beside ten million finished actions as without them, while each terminal status costs a walk
// through its share of them. On SQLite with ten million actions, of which 100 pending and nine million completed, that
// was 0.1 milliseconds for the open statuses, and 1.5 seconds for completed or for all six.
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

// Prune deletes up to limit terminal actions whose latest time lies before a time, oldest first, and returns how many. That
// is when they finished or were rejected, unless a clock was wrong. It never deletes an open action. Their events stay.
// Call it until it returns less than limit: short statements let others write in between.
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

// ClearOutput sets stdout and stderr to NULL on up to limit terminal actions, chosen as Prune chooses them, and returns how
// many had an output. It is the one change to a terminal action that the database allows, and leaves an event; the rest
// of the audit trail stays.
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

// The first and the last time that every engine keeps, as SQLite does in text of four digits a year.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// clampYear is the nearest time to t that an engine can keep, and so compare with.
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

// micros is t in UTC and in the resolution that every engine keeps.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
