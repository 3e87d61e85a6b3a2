package remediation

import (
	"context"
	"fmt"
	"time"
)

// EventKind is the kind of change to an action.
type EventKind string

const (
	EventCreated         EventKind = "created"
	EventApproved        EventKind = "approved"
	EventRejected        EventKind = "rejected" // by Reject, Withdraw or Expire
	EventExecuting       EventKind = "executing"
	EventCancelRequested EventKind = "cancel_requested" // by RequestCancel; the action is still executing
	EventCompleted       EventKind = "completed"
	EventFailed          EventKind = "failed"
	EventOutputCleared   EventKind = "output_cleared" // stdout and stderr, by ClearOutput or by hand
	EventDeleted         EventKind = "deleted"        // by Prune, with its server, or by hand
)

// Event is an entry of the log of changes to actions, which the database itself writes for every program. Events are
// only appended. They are kept after their action or server is deleted. The fields are the columns, in their order.
type Event struct {
	ID         int64     `json:"id"`
	ActionID   int64     `json:"action_id"`
	ServerID   string    `json:"server_id"`
	Kind       EventKind `json:"kind"`
	Actor      *string   `json:"actor,omitempty"` // the person, "auto", or for executing and its result the server; nil if unknown
	OccurredAt time.Time `json:"occurred_at"`
	Detail     *string   `json:"detail,omitempty"` // created: the command; rejected, cancel_requested: the reason; completed, failed: the exit code; deleted: the last status
}

// Events returns up to limit events that come after the event with the id after: the change feed. To continue, pass the
// ID of the last returned event. No event is missed or repeated, whatever transactions are open. An empty result means
// that there is nothing new yet. Start with 0.
//
// On SQLite ids increase. On PostgreSQL the feed has its own order, in which a cause comes before its effect and ids
// may decrease: keep the ID of the last event, not the greatest. There an event is visible when every transaction that
// may still write an earlier one has ended. Transactions of the same database that have an id delay it: those that have
// written or locked rows, also prepared ones; on a standby also those of other databases. A transaction without an id
// delays nothing, whatever advisory or table locks it has. The feed is the same at every isolation level and on a
// standby. A caller's transaction does not see its own events.
//
// The error is ErrSchemaVersion if the events were restored from another PostgreSQL cluster and Migrate has not run
// since.
func (l *Ledger) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	if err := checkAfter(after); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	limit, err := checkLimit(limit)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events, err := listEvents(ctx, l.store, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

func listEvents(ctx context.Context, store Backend, after int64, limit int) ([]Event, error) {
	return inUTC(store.ListEvents(ctx, after, limit))
}

func inUTC(events []Event, err error) ([]Event, error) {
	for i := range events {
		events[i].OccurredAt = events[i].OccurredAt.UTC()
	}
	return events, err
}
