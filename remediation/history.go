package remediation

import (
	"context"
	"fmt"
)

// History returns the events of one action, oldest first. It has them also after the action was deleted, by Prune for
// example. It shows what is committed at that moment; on PostgreSQL that may be more than Events shows yet.
//
// ErrNotFound if there is no such action and no event of it. An action that is older than the events, and whose values
// could not be read when they began, has none: then the list is empty.
func (l *Ledger) History(ctx context.Context, actionID int64) ([]Event, error) {
	// The action is looked for first: if it is created between the two reads, the second one finds its events.
	statuses, err := l.store.ActionStatuses(ctx, []int64{actionID})
	if err != nil {
		return nil, fmt.Errorf("read history of action %d: %w", actionID, err)
	}
	events, err := inUTC(l.store.ListActionEvents(ctx, actionID))
	if _, exists := statuses[actionID]; err == nil && len(events) == 0 && !exists {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read history of action %d: %w", actionID, err)
	}
	return events, nil
}
