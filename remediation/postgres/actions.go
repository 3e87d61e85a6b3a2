package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file implements the methods of remediation.Backend that concern one server, one alert or one action.

func (s *store) AddServer(ctx context.Context, id string) error {
	_, err := change(ctx, s, (*queries).AddServer, id)
	return err
}

func (s *store) PauseServer(ctx context.Context, id string, at time.Time) error {
	return oneServer(change(ctx, s, (*queries).PauseServer, postgresdb.PauseServerParams{ID: id, PausedAt: &at}))
}

func (s *store) UnpauseServer(ctx context.Context, id string) error {
	return oneServer(change(ctx, s, (*queries).UnpauseServer, id))
}

func (s *store) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	id, err := change(ctx, s, (*queries).AddAlert, postgresdb.AddAlertParams{ServerID: serverID, Title: title})
	return id, noRow(err, remediation.ErrServerNotFound)
}

func (s *store) ForbidSelfApproval(ctx context.Context, serverID string, forbid bool) error {
	return oneServer(change(ctx, s, (*queries).ForbidSelfApproval, postgresdb.ForbidSelfApprovalParams{ServerID: serverID, Forbids: forbid}))
}

func (s *store) CreateAction(ctx context.Context, a remediation.NewAction, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.create, (*queries).CreateAction, postgresdb.CreateActionParams{
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
	}))
}

func (s *store) ApproveAction(ctx context.Context, id int64, by string, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.approve, (*queries).ApproveAction, postgresdb.ApproveActionParams{ID: id, ApprovedBy: by, ApprovedAt: &at}))
}

func (s *store) RejectAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.reject, (*queries).RejectAction, postgresdb.RejectActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	}))
}

func (s *store) WithdrawAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.withdraw, (*queries).WithdrawAction, postgresdb.WithdrawActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	}))
}

func (s *store) ClaimAction(ctx context.Context, serverID string, at time.Time) (remediation.Action, error) {
	claimed, err := grouped(ctx, s, s.claim, (*queries).ClaimAction, postgresdb.ClaimActionParams{ServerID: serverID, ExecutedAt: &at})
	return remediation.Action(claimed), noRow(err, remediation.ErrNothingToClaim)
}

func (s *store) StartAction(ctx context.Context, id int64, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.start, (*queries).StartAction, postgresdb.StartActionParams{ID: id, ExecutedAt: &at}))
}

func (s *store) FinishAction(ctx context.Context, serverID string, id int64, r remediation.Result,
	at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.finish, (*queries).FinishAction, postgresdb.FinishActionParams{
		ID:          id,
		ServerID:    serverID,
		CompletedAt: &at,
		ExitCode:    r.ExitCode,
		Stdout:      r.Stdout,
		Stderr:      r.Stderr,
	}))
}

func (s *store) HeartbeatAction(ctx context.Context, serverID string, id int64, at time.Time) (remediation.Action, error) {
	return oneAction(grouped(ctx, s, s.heartbeat, (*queries).HeartbeatAction, postgresdb.HeartbeatActionParams{
		ID: id, ServerID: serverID, HeartbeatAt: at,
	}))
}

func (s *store) RequestCancel(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	return oneAction(change(ctx, s, (*queries).RequestCancel, postgresdb.RequestCancelParams{
		ID: id, CancelRequestedBy: by, CancelReason: reason, CancelRequestedAt: &at,
	}))
}

func (s *store) GetAction(ctx context.Context, id int64) (remediation.Action, error) {
	return oneAction(run(ctx, s, (*queries).GetAction, id))
}

func (s *store) ExplainCreate(ctx context.Context, a remediation.NewAction) (remediation.Obstacles, error) {
	p := postgresdb.ExplainCreateParams{ServerID: a.ServerID}
	if a.AlertID != nil {
		p.AlertID = *a.AlertID
	}
	if a.DedupeKey != nil {
		p.DedupeKey = *a.DedupeKey
	}
	if a.IdempotencyKey != nil {
		p.IdempotencyKey = *a.IdempotencyKey
	}
	found, err := run(ctx, s, (*queries).ExplainCreate, p)
	return remediation.Obstacles(found), err
}

// oneAction converts the result of a statement about one action; no row is ErrNotFound.
func oneAction(action row, err error) (remediation.Action, error) {
	return remediation.Action(action), noRow(err, remediation.ErrNotFound)
}

// oneServer converts the number of servers that a statement changed; 0 is ErrServerNotFound.
func oneServer(found int64, err error) error {
	if err == nil && found == 0 {
		return remediation.ErrServerNotFound
	}
	return err
}

// noRow replaces pgx.ErrNoRows with the sentinel that it means for this statement.
func noRow(err, meaning error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return meaning
	}
	return err
}
