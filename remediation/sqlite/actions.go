package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the methods that change one server or alert, and those that create, change or read one action. Each
// runs one generated statement.

// row is one action with all its columns.
type row = sqlitedb.RemediationAction

func (s *store) AddServer(ctx context.Context, id string) error {
	_, err := write(ctx, s, (*queries).AddServer, id)
	return err
}

func (s *store) PauseServer(ctx context.Context, id string, at time.Time) error {
	return oneServer(write(ctx, s, (*queries).PauseServer, sqlitedb.PauseServerParams{ID: id, PausedAt: &at}))
}

func (s *store) UnpauseServer(ctx context.Context, id string) error {
	return oneServer(write(ctx, s, (*queries).UnpauseServer, id))
}

func (s *store) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	id, err := write(ctx, s, (*queries).AddAlert, sqlitedb.AddAlertParams{ServerID: serverID, Title: title})
	return id, noRow(err, remediation.ErrServerNotFound)
}

func (s *store) ForbidSelfApproval(ctx context.Context, serverID string, forbid bool) error {
	return oneServer(write(ctx, s, (*queries).ForbidSelfApproval, sqlitedb.ForbidSelfApprovalParams{ServerID: serverID, Forbids: forbid}))
}

func (s *store) CreateAction(ctx context.Context, a remediation.NewAction, at time.Time) (remediation.Action, error) {
	created, err := write(ctx, s, (*queries).CreateAction, sqlitedb.CreateActionParams{
		ServerID:          a.ServerID,
		ActionType:        a.ActionType,
		ServiceName:       a.ServiceName,
		Command:           a.Command,
		CreatedAt:         at,
		CreatedBy:         a.CreatedBy,
		AlertID:           a.AlertID,
		DedupeKey:         a.DedupeKey,
		IdempotencyKey:    a.IdempotencyKey,
		NotBefore:         a.NotBefore,
		ExpiresAt:         a.ExpiresAt,
		MaxRuntimeSeconds: a.MaxRuntimeSeconds,
	})
	if err != nil {
		return remediation.Action{}, noRow(err, remediation.ErrNotFound)
	}
	action := remediation.Action{
		ID:                created.ID,
		ServerID:          created.ServerID,
		ActionType:        a.ActionType,
		Status:            created.Status,
		ServiceName:       clone(a.ServiceName),
		Command:           a.Command,
		CreatedAt:         at,
		CreatedBy:         a.CreatedBy,
		AlertID:           clone(a.AlertID),
		DedupeKey:         clone(a.DedupeKey),
		IdempotencyKey:    clone(a.IdempotencyKey),
		NotBefore:         clone(a.NotBefore),
		ExpiresAt:         clone(a.ExpiresAt),
		MaxRuntimeSeconds: clone(a.MaxRuntimeSeconds),
	}
	if created.Status == remediation.Approved {
		action.ApprovedAt, action.ApprovedBy = &at, new(remediation.AutoApprover)
	}
	return action, nil
}

// clone copies a value of the caller, who may change it later.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func (s *store) ApproveAction(ctx context.Context, id int64, by string, at time.Time) (remediation.Action, error) {
	row, err := readable(s, func(skip bool) (sqlitedb.ApproveActionRow, error) {
		return write(ctx, s, (*queries).ApproveAction, sqlitedb.ApproveActionParams{
			ID: id, ApprovedBy: by, ApprovedAt: &at, SkipUnreadable: skip,
		})
	})
	if err != nil {
		return remediation.Action{}, noRow(err, remediation.ErrNotFound)
	}
	return remediation.Action{
		ID:                row.ID,
		ServerID:          row.ServerID,
		ActionType:        row.ActionType,
		Status:            remediation.Approved,
		ServiceName:       row.ServiceName,
		Command:           row.Command,
		CreatedAt:         row.CreatedAt,
		CreatedBy:         row.CreatedBy,
		AlertID:           row.AlertID,
		ApprovedAt:        &at,
		ApprovedBy:        &by,
		DedupeKey:         row.DedupeKey,
		IdempotencyKey:    row.IdempotencyKey,
		NotBefore:         row.NotBefore,
		ExpiresAt:         row.ExpiresAt,
		MaxRuntimeSeconds: row.MaxRuntimeSeconds,
	}, nil
}

func (s *store) RejectAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(readable(s, func(skip bool) (row, error) {
		return write(ctx, s, (*queries).RejectAction, sqlitedb.RejectActionParams{
			ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) WithdrawAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(readable(s, func(skip bool) (row, error) {
		return write(ctx, s, (*queries).WithdrawAction, sqlitedb.WithdrawActionParams{
			ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) ClaimAction(ctx context.Context, serverID string, at time.Time) (remediation.Action, error) {
	claimed, err := readable(s, func(skip bool) (startedRow, error) {
		return write(ctx, s, (*queries).ClaimAction, sqlitedb.ClaimActionParams{
			ServerID: serverID, ExecutedAt: &at, SkipUnreadable: skip,
		})
	})
	return startedAction(claimed, at, noRow(err, remediation.ErrNothingToClaim))
}

func (s *store) StartAction(ctx context.Context, id int64, at time.Time) (remediation.Action, error) {
	row, err := readable(s, func(skip bool) (sqlitedb.StartActionRow, error) {
		return write(ctx, s, (*queries).StartAction, sqlitedb.StartActionParams{ID: id, ExecutedAt: &at, SkipUnreadable: skip})
	})
	return startedAction(startedRow(row), at, noRow(err, remediation.ErrNotFound))
}

// startedRow is an action that has just started, without its new status and the start time, which the caller knows. The
// columns that it leaves out are NULL in every action that can start.
type startedRow = sqlitedb.ClaimActionRow

func startedAction(row startedRow, at time.Time, err error) (remediation.Action, error) {
	if err != nil {
		return remediation.Action{}, err
	}
	return remediation.Action{
		ID:                row.ID,
		ServerID:          row.ServerID,
		ActionType:        row.ActionType,
		Status:            remediation.Executing,
		ServiceName:       row.ServiceName,
		Command:           row.Command,
		CreatedAt:         row.CreatedAt,
		CreatedBy:         row.CreatedBy,
		AlertID:           row.AlertID,
		ApprovedAt:        row.ApprovedAt,
		ApprovedBy:        row.ApprovedBy,
		ExecutedAt:        &at,
		DedupeKey:         row.DedupeKey,
		IdempotencyKey:    row.IdempotencyKey,
		NotBefore:         row.NotBefore,
		ExpiresAt:         row.ExpiresAt,
		MaxRuntimeSeconds: row.MaxRuntimeSeconds,
	}, nil
}

func (s *store) FinishAction(ctx context.Context, serverID string, id int64, r remediation.Result,
	at time.Time) (remediation.Action, error) {
	return oneAction(readable(s, func(skip bool) (row, error) {
		return write(ctx, s, (*queries).FinishAction, sqlitedb.FinishActionParams{
			ID:             id,
			ServerID:       serverID,
			CompletedAt:    &at,
			ExitCode:       r.ExitCode,
			Stdout:         r.Stdout,
			Stderr:         r.Stderr,
			SkipUnreadable: skip,
		})
	}))
}

func (s *store) HeartbeatAction(ctx context.Context, serverID string, id int64, at time.Time) (remediation.Action, error) {
	return oneAction(readable(s, func(skip bool) (row, error) {
		return write(ctx, s, (*queries).HeartbeatAction, sqlitedb.HeartbeatActionParams{
			ID: id, ServerID: serverID, HeartbeatAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) RequestCancel(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(readable(s, func(skip bool) (row, error) {
		return write(ctx, s, (*queries).RequestCancel, sqlitedb.RequestCancelParams{
			ID: id, CancelRequestedBy: by, CancelReason: reason, CancelRequestedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) GetAction(ctx context.Context, id int64) (remediation.Action, error) {
	return oneAction(read(ctx, s, (*queries).GetAction, id))
}

func (s *store) ExplainCreate(ctx context.Context, a remediation.NewAction) (remediation.Obstacles, error) {
	p := sqlitedb.ExplainCreateParams{ServerID: a.ServerID}
	if a.AlertID != nil {
		p.AlertID = *a.AlertID
	}
	if a.DedupeKey != nil {
		p.DedupeKey = *a.DedupeKey
	}
	if a.IdempotencyKey != nil {
		p.IdempotencyKey = *a.IdempotencyKey
	}
	found, err := read(ctx, s, (*queries).ExplainCreate, p)
	return remediation.Obstacles(found), err
}

// oneAction converts the result of a statement that names one action by its ID. No row means ErrNotFound.
func oneAction(action row, err error) (remediation.Action, error) {
	return remediation.Action(action), noRow(err, remediation.ErrNotFound)
}

// oneServer converts the result of a statement that names one server by its ID. No row means ErrServerNotFound.
func oneServer(found int64, err error) error {
	if err == nil && found == 0 {
		return remediation.ErrServerNotFound
	}
	return err
}

// noRow returns replacement if err is sql.ErrNoRows, and otherwise err.
func noRow(err, replacement error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return replacement
	}
	return err
}
