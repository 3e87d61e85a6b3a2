package remediation

import (
	"context"
	"fmt"
	"time"
)

// Counts returns the number of actions with each of the given statuses, or with each of the six if none is given. A
// status without actions is 0. "timed_out", which only the Python original writes, is counted only if it is given. All
// numbers are from one statement, and so from one moment.
//
// Cost is proportional to the rows counted; only an index is read. Open statuses (pending, approved, executing) cost
// the same with or without ten million finished actions. On SQLite with ten million actions, of which 100 were pending
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

// Prune deletes up to limit terminal actions whose latest time is before a time, oldest first, and returns how many it
// deleted. The latest time is when they finished or were rejected, unless a clock was wrong. Prune never deletes an
// open action. Events are kept. Call it until it returns less than limit: short statements let other writers run in
// between.
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

// ClearOutput sets stdout and stderr to NULL on up to limit terminal actions, selected as by Prune, and returns how
// many had output. It is the only change to a terminal action that the database allows, and it writes an event. The
// rest of the audit trail is kept.
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

// The first and the last time that every engine can store. SQLite stores times as text with four digits for the year.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// clampYear returns the nearest time to t that an engine can store and compare.
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

// micros returns t in UTC and whole microseconds, which every engine can store.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
