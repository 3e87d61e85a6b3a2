package remediation

import (
	"context"
	"fmt"
	"time"
)

// Counts returns how many actions have each of the statuses named, or of all six if none is; a status without actions
// is there with 0. It counts in one statement, so the numbers belong to one moment.
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
		if !s.Valid() {
			return nil, fmt.Errorf("count actions: %w", notAStatus(s))
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

// Prune deletes up to limit terminal actions that finished, or were rejected, before a time, oldest first, and returns
// how many. It never deletes an open action. Their events stay. Call it until it returns less than limit: short
// statements let others write in between. *InputError if limit is below 1.
func (l *Ledger) Prune(ctx context.Context, before time.Time, limit int) (int64, error) {
	if err := checkAtMost(limit); err != nil {
		return 0, fmt.Errorf("prune actions: %w", err)
	}
	n, err := l.store.PruneActions(ctx, storable(before), limit)
	if err != nil {
		return 0, fmt.Errorf("prune actions: %w", err)
	}
	return n, nil
}

// ClearOutput sets stdout and stderr to NULL on up to limit terminal actions that finished before a time, oldest first,
// and returns how many had an output. It is the one change to a terminal action that the database allows; the rest of
// the audit trail stays. *InputError if limit is below 1.
func (l *Ledger) ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error) {
	if err := checkAtMost(limit); err != nil {
		return 0, fmt.Errorf("clear output: %w", err)
	}
	n, err := l.store.ClearOutput(ctx, storable(before), limit)
	if err != nil {
		return 0, fmt.Errorf("clear output: %w", err)
	}
	return n, nil
}

// storable is a time to compare with as engines store it. On SQLite a year of five digits would sort before all others.
func storable(t time.Time) time.Time {
	if last := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC); t.After(last) {
		return last
	}
	return t.UTC().Truncate(time.Microsecond)
}
