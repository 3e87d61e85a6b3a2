package remediation

import (
	"context"
	"fmt"
)

// History returns all events of one action, oldest first, even after the action was deleted, for example by Prune. It
// shows every event that is committed when it reads. On PostgreSQL Events may show some of them later.
//
// ErrNotFound if there is no such action and no event of it. The list is empty for an action that predates the table of
// events and whose values could not be read when that table was created.
func (l *Ledger) History(ctx context.Context, actionID int64) ([]Event, error) {
	// The status is read first: if the action is created between the two reads, the second read finds its events.
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
