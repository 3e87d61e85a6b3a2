package main

import (
	"context"
	"strings"
	"time"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// lifecycle is the four steps of an action: the ledger implements them, and so do the bare statements of each engine.
type lifecycle interface {
	create(ctx context.Context, server string) (int64, error)
	approve(ctx context.Context, id int64) error
	claim(ctx context.Context, server string) (int64, error)
	finish(ctx context.Context, server string, id int64) error
}

// The values that every side writes.
const (
	actionType = "restart_service"
	command    = "systemctl restart nginx.service"
	person     = "alice"
)

var output = strings.Repeat("Active: active (running)\n", 8) // 200 bytes

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// byLedger calls the ledger, as a program does.
type byLedger struct{ *remediation.Ledger }

func (l byLedger) create(ctx context.Context, server string) (int64, error) {
	a, err := l.Create(ctx, remediation.NewAction{
		ServerID: server, ActionType: actionType, Command: command, CreatedBy: person,
	})
	return a.ID, err
}

func (l byLedger) approve(ctx context.Context, id int64) error {
	_, err := l.Approve(ctx, id, person)
	return err
}

func (l byLedger) claim(ctx context.Context, server string) (int64, error) {
	a, err := l.Claim(ctx, server)
	return a.ID, err
}

func (l byLedger) finish(ctx context.Context, server string, id int64) error {
	_, err := l.Finish(ctx, server, id, remediation.Result{Stdout: output})
	return err
}

// bareSQLite executes the ledger's statements on the SQLite driver directly.
type bareSQLite struct{ *sqlitedb.Queries }

func (q bareSQLite) create(ctx context.Context, server string) (int64, error) {
	a, err := q.CreateAction(ctx, sqlitedb.CreateActionParams{
		ServerID: server, ActionType: actionType, Command: command, CreatedBy: person, CreatedAt: now(),
	})
	return a.ID, err
}

func (q bareSQLite) approve(ctx context.Context, id int64) error {
	at := now()
	_, err := q.ApproveAction(ctx, sqlitedb.ApproveActionParams{ID: id, ApprovedBy: person, ApprovedAt: &at})
	return err
}

func (q bareSQLite) claim(ctx context.Context, server string) (int64, error) {
	at := now()
	a, err := q.ClaimAction(ctx, sqlitedb.ClaimActionParams{ServerID: server, ExecutedAt: &at})
	return a.ID, err
}

func (q bareSQLite) finish(ctx context.Context, server string, id int64) error {
	at := now()
	_, err := q.FinishAction(ctx, sqlitedb.FinishActionParams{
		ID: id, ServerID: server, CompletedAt: &at, Stdout: output,
	})
	return err
}

// barePostgres executes the ledger's statements on pgx directly.
type barePostgres struct{ *postgresdb.Queries }

func (q barePostgres) create(ctx context.Context, server string) (int64, error) {
	a, err := q.CreateAction(ctx, postgresdb.CreateActionParams{
		ServerID: server, ActionType: actionType, Command: command, CreatedBy: person, CreatedAt: now(),
	})
	return a.ID, err
}

func (q barePostgres) approve(ctx context.Context, id int64) error {
	at := now()
	_, err := q.ApproveAction(ctx, postgresdb.ApproveActionParams{ID: id, ApprovedBy: person, ApprovedAt: &at})
	return err
}

func (q barePostgres) claim(ctx context.Context, server string) (int64, error) {
	at := now()
	a, err := q.ClaimAction(ctx, postgresdb.ClaimActionParams{ServerID: server, ExecutedAt: &at})
	return a.ID, err
}

func (q barePostgres) finish(ctx context.Context, server string, id int64) error {
	at := now()
	_, err := q.FinishAction(ctx, postgresdb.FinishActionParams{
		ID: id, ServerID: server, CompletedAt: &at, Stdout: output,
	})
	return err
}

// runAction takes one action of a server in maintenance through all four steps.
func runAction(ctx context.Context, l lifecycle, server string) error {
	id, err := l.create(ctx, server)
	if err != nil {
		return err
	}
	if err := l.approve(ctx, id); err != nil {
		return err
	}
	if id, err = l.claim(ctx, server); err != nil {
		return err
	}
	return l.finish(ctx, server, id)
}
