package remediation

import (
	"context"
	"fmt"
	"time"
)

// EventKind is what happened to an action.
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

// Event is one line of the record that the database keeps of every change to an action, whoever made it. Events are
// only ever appended, and outlive their action and its server. The fields are the columns, in their order.
type Event struct {
	ID         int64     `json:"id"`
	ActionID   int64     `json:"action_id"`
	ServerID   string    `json:"server_id"`
	Kind       EventKind `json:"kind"`
	Actor      *string   `json:"actor,omitempty"` // the person, "auto", or for executing and its result the server; nil if nobody reported or is known
	OccurredAt time.Time `json:"occurred_at"`
	Detail     *string   `json:"detail,omitempty"` // created: the command; rejected, cancel_requested: the reason; completed, failed: the exit code; deleted: the status it had
}

// Events returns up to limit events that come after the event with the id after: the change feed. Call it
// again with the ID of the last one returned, and no event is missed or repeated, whatever transactions are open
// meanwhile; an empty answer means that there is nothing new yet. Start with 0.
//
// On SQLite ids increase. On PostgreSQL the feed has an order of its own, in which a cause comes before its effect, and
// ids are not always in it: keep the ID of the last event, not the greatest. There an event shows once every transaction
// that may still write an earlier one has ended. Any transaction of the same database that has an id delays it: one that
// has written something or locked rows, also a prepared one; on a standby also one of another database. A transaction
// without an id delays nothing, whatever advisory or table locks it holds. Every isolation level and a standby give the
// same feed; a transaction of the caller's own doesn't show its own events.
//
// ErrSchemaVersion if the events were restored from another PostgreSQL cluster and Migrate has not run since.
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
