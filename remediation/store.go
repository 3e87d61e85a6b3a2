package remediation

import (
	"context"
	"time"
)

// Store is a database for a Ledger. sqlite.Open, sqlite.New, sqlite.Tx and postgres.New return one. A program passes it
// to New.
type Store interface {
	Backend() Backend
}

// Backend is the interface between a Ledger and an engine. Only the engines of this module implement it. It is not
// stable, and programs must not call it, because its methods do not validate their input.
//
// Each change is one statement; a read may need several. The Ledger has validated the input and read the clock. Times
// are in UTC and in whole microseconds. A method that finds no row returns the sentinel named beside it, without
// wrapping it.
type Backend interface {
	feed() *Feed // an engine embeds a Feed and calls its Changed after each change

	AddServer(ctx context.Context, id string) error
	PauseServer(ctx context.Context, id string, at time.Time) error             // ErrServerNotFound
	UnpauseServer(ctx context.Context, id string) error                         // ErrServerNotFound
	AddAlert(ctx context.Context, serverID, title string) (int64, error)        // ErrServerNotFound
	ForbidSelfApproval(ctx context.Context, serverID string, forbid bool) error // ErrServerNotFound
	GetServer(ctx context.Context, id string) (Server, error)                   // ErrServerNotFound
	ListServers(ctx context.Context, after string, limit int) ([]Server, error)

	CreateAction(ctx context.Context, a NewAction, at time.Time) (Action, error) // ErrNotFound: ExplainCreate says why
	ExplainCreate(ctx context.Context, a NewAction) (Obstacles, error)

	// The transitions return ErrNotFound when no such action has the status that they require.
	ApproveAction(ctx context.Context, id int64, by string, at time.Time) (Action, error)
	RejectAction(ctx context.Context, id int64, by, reason string, at time.Time) (Action, error)
	WithdrawAction(ctx context.Context, id int64, by, reason string, at time.Time) (Action, error)
	StartAction(ctx context.Context, id int64, at time.Time) (Action, error)
	FinishAction(ctx context.Context, serverID string, id int64, r Result, at time.Time) (Action, error)
	HeartbeatAction(ctx context.Context, serverID string, id int64, at time.Time) (Action, error)
	RequestCancel(ctx context.Context, id int64, by, reason string, at time.Time) (Action, error)

	// The bulk transitions return the actions that they changed, in any order.
	ApproveActions(ctx context.Context, ids []int64, by string, at time.Time) ([]Action, error)
	RejectActions(ctx context.Context, ids []int64, by, reason string, at time.Time) ([]Action, error)
	FailOverdueActions(ctx context.Context, aliveBefore time.Time, stderr string, limit int, at time.Time) ([]Action, error)
	ExpireActions(ctx context.Context, limit int, at time.Time) ([]Action, error)

	ClaimAction(ctx context.Context, serverID string, at time.Time) (Action, error) // ErrNothingToClaim
	GetAction(ctx context.Context, id int64) (Action, error)                        // ErrNotFound
	ListActions(ctx context.Context, f Filter) ([]Action, error)                    // f.Before and f.Limit are not 0
	ActionStatuses(ctx context.Context, ids []int64) (map[int64]Status, error)      // only of ids that exist
	ExplainAction(ctx context.Context, id int64, now time.Time) (Conditions, error) // ErrNotFound
	CountActions(ctx context.Context, statuses []Status) (map[Status]int64, error)  // without zero counts
	ListEvents(ctx context.Context, after int64, limit int) ([]Event, error)        // oldest first
	ListActionEvents(ctx context.Context, actionID int64) ([]Event, error)          // oldest first

	PruneActions(ctx context.Context, before time.Time, limit int) (int64, error)
	ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error)
}

// Obstacles are the reasons that can keep Create from creating an action, as a Backend reads them in one statement.
type Obstacles struct {
	Servers     int64 // 0 if the server doesn't exist
	Alerts      int64 // 0 if the server has no such alert
	DuplicateOf int64 // the open action with the same DedupeKey, 0 if there is none
	FirstID     int64 // the action with the same IdempotencyKey, 0 if there is none
}
