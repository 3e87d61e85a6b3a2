package remediation

import (
	"context"
	"fmt"
	"time"
)

// EventKind is the kind of change that an event records.
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
	EventDeleted         EventKind = "deleted"        // by Prune, by hand, or with its server
)

// Event records one change to an action. Triggers of the database write the events, so changes by raw SQL and by other
// programs are recorded too. Events are append-only, and stay after their action and its server are deleted. The fields
// are the columns of the table, in the same order.
type Event struct {
	ID       int64     `json:"id"`
	ActionID int64     `json:"action_id"`
	ServerID string    `json:"server_id"`
	Kind     EventKind `json:"kind"`
	// Actor is the person or "auto". For executing, completed and failed it is the server. It is nil if no actor is
	// known, or if the agent reported no result.
	Actor      *string   `json:"actor,omitempty"`
	OccurredAt time.Time `json:"occurred_at"`
	// Detail depends on Kind. created: the command. rejected, cancel_requested: the reason. completed, failed: the exit
	// code. deleted: the last status of the action. It is nil for all other kinds.
	Detail *string `json:"detail,omitempty"`
}

// Events is the change feed: it returns up to limit events that come after the event with the id after. Start with 0,
// and pass the ID of the last event returned to the next call. No event is missed or repeated, even while transactions
// are open. An empty result means that there are no new events yet.
//
// On SQLite the events are in the order of their ids.
//
// On PostgreSQL the feed has its own order, in which a cause comes before its effect. Ids may be out of this order, so
// keep the ID of the last event and not the greatest ID. An event becomes visible when every transaction that could
// still write an earlier event has ended. A transaction with a transaction id delays the feed if it belongs to the same
// database, or on a standby to any database of the cluster. A transaction has an id if it has written something or
// locked rows; a prepared transaction counts as well. A transaction without an id delays nothing, even if it has
// advisory or table locks. The feed is the same at every isolation level and on a standby. Inside a transaction of the
// caller, Events does not return the events that this transaction wrote.
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

// listEvents reads events from the store, with their times in UTC.
func listEvents(ctx context.Context, store Backend, after int64, limit int) ([]Event, error) {
	return inUTC(store.ListEvents(ctx, after, limit))
}

func inUTC(events []Event, err error) ([]Event, error) {
	for i := range events {
		events[i].OccurredAt = events[i].OccurredAt.UTC()
	}
	return events, err
}
