package remediation

import (
	"context"
	"fmt"
)

// History returns the events of one action, oldest first, also after the action was deleted, for example by Prune. It
// returns all events that are committed; on PostgreSQL these may be more than Events returns yet.
//
// The error is ErrNotFound if neither the action nor an event of it exists. The list is empty if the action predates
// the events and its values could not be read when the events were introduced.
func (l *Ledger) History(ctx context.Context, actionID int64) ([]Event, error) {
	// The action is read first: if it is created between the two reads, the second one finds its events.
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
