package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

func (s *store) AddServer(ctx context.Context, id string) error {
	q, err := s.queries(ctx)
	if err != nil {
		return err
	}
	return interpret(q.AddServer(ctx, id))
}

func (s *store) PauseServer(ctx context.Context, id string, at time.Time) error {
	q, err := s.queries(ctx)
	if err != nil {
		return err
	}
	n, err := q.PauseServer(ctx, postgresdb.PauseServerParams{ID: id, PausedAt: &at})
	return server(n, err)
}

func (s *store) UnpauseServer(ctx context.Context, id string) error {
	q, err := s.queries(ctx)
	if err != nil {
		return err
	}
	n, err := q.UnpauseServer(ctx, id)
	return server(n, err)
}

func (s *store) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return 0, err
	}
	id, err := q.AddAlert(ctx, postgresdb.AddAlertParams{ServerID: serverID, Title: title})
	return id, missing(err, remediation.ErrServerNotFound)
}

func (s *store) CreateAction(ctx context.Context, a remediation.NewAction, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	for {
		row, err := q.CreateAction(ctx, postgresdb.CreateActionParams{
			ServerID:    a.ServerID,
			ActionType:  a.ActionType,
			ServiceName: a.ServiceName,
			Command:     a.Command,
			CreatedAt:   at,
			CreatedBy:   a.CreatedBy,
			AlertID:     a.AlertID,
			DedupeKey:   a.DedupeKey,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			err = whyNotCreated(ctx, q, a)
			if err == nil {
				continue // the open action that had the key has ended since: the key is free
			}
		}
		return remediation.Action(row), interpret(err)
	}
}

func (s *store) ApproveAction(ctx context.Context, id int64, by string, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.ApproveAction(ctx, postgresdb.ApproveActionParams{ID: id, ApprovedBy: by, ApprovedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) RejectAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.RejectAction(ctx, postgresdb.RejectActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) WithdrawAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.WithdrawAction(ctx, postgresdb.WithdrawActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) ClaimAction(ctx context.Context, serverID string, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.ClaimAction(ctx, postgresdb.ClaimActionParams{ServerID: serverID, ExecutedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNothingToClaim)
}

func (s *store) StartAction(ctx context.Context, id int64, at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.StartAction(ctx, postgresdb.StartActionParams{ID: id, ExecutedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) FinishAction(ctx context.Context, serverID string, id int64, to remediation.Status, r remediation.Result,
	at time.Time) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.FinishAction(ctx, postgresdb.FinishActionParams{
		ID:          id,
		ServerID:    serverID,
		Status:      to,
		CompletedAt: &at,
		ExitCode:    r.ExitCode,
		Stdout:      r.Stdout,
		Stderr:      r.Stderr,
	})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) GetAction(ctx context.Context, id int64) (remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := q.GetAction(ctx, id)
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

// whyNotCreated says why CreateAction wrote nothing, or nil if the reason is gone.
func whyNotCreated(ctx context.Context, q *postgresdb.Queries, a remediation.NewAction) error {
	p := postgresdb.ExplainCreateParams{ServerID: a.ServerID}
	if a.AlertID != nil {
		p.AlertID = *a.AlertID
	}
	if a.DedupeKey != nil {
		p.DedupeKey = *a.DedupeKey
	}
	found, err := q.ExplainCreate(ctx, p)
	switch {
	case err != nil:
		return err
	case found.Servers == 0:
		return remediation.ErrServerNotFound
	case a.AlertID != nil && found.Alerts == 0:
		return remediation.ErrAlertNotFound
	case found.DuplicateOf != 0:
		return &remediation.DuplicateError{ExistingID: found.DuplicateOf}
	}
	return nil
}

// server turns the number of servers that a statement found into its error.
func server(found int64, err error) error {
	if err == nil && found == 0 {
		return remediation.ErrServerNotFound
	}
	return interpret(err)
}

// missing gives an empty answer its meaning.
func missing(err, meaning error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return meaning
	}
	return interpret(err)
}

// interpret gives an error of the database the ledger's name.
func interpret(err error) error {
	refused := (*pgconn.PgError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case foreignKeyViolation: // the reference went away between the statement's look at it and the foreign key's
		switch refused.ConstraintName {
		case "remediation_actions_alert_id_fkey":
			return remediation.ErrAlertNotFound
		case "remediation_actions_server_id_fkey", "alerts_server_id_fkey":
			return remediation.ErrServerNotFound
		}
	case lockNotAvailable, deadlockDetected, serializationFailure, tooManyConnections:
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}
