package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

func (s *store) AddServer(ctx context.Context, id string) error {
	st, err := s.statements(ctx)
	if err != nil {
		return err
	}
	return st.write.AddServer(ctx, id)
}

func (s *store) PauseServer(ctx context.Context, id string, at time.Time) error {
	st, err := s.statements(ctx)
	if err != nil {
		return err
	}
	n, err := st.write.PauseServer(ctx, sqlitedb.PauseServerParams{ID: id, PausedAt: &at})
	return server(n, err)
}

func (s *store) UnpauseServer(ctx context.Context, id string) error {
	st, err := s.statements(ctx)
	if err != nil {
		return err
	}
	n, err := st.write.UnpauseServer(ctx, id)
	return server(n, err)
}

func (s *store) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return 0, err
	}
	id, err := st.write.AddAlert(ctx, sqlitedb.AddAlertParams{ServerID: serverID, Title: title})
	return id, missing(err, remediation.ErrServerNotFound)
}

func (s *store) CreateAction(ctx context.Context, a remediation.NewAction, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	for {
		row, err := st.write.CreateAction(ctx, sqlitedb.CreateActionParams{
			ServerID:    a.ServerID,
			ActionType:  a.ActionType,
			ServiceName: a.ServiceName,
			Command:     a.Command,
			CreatedAt:   at,
			CreatedBy:   a.CreatedBy,
			AlertID:     a.AlertID,
			DedupeKey:   a.DedupeKey,
		})
		if errors.Is(err, sql.ErrNoRows) {
			err = whyNotCreated(ctx, st.write, a)
			if err == nil {
				continue // the open action that had the key has ended since: the key is free
			}
		}
		return remediation.Action(row), err
	}
}

func (s *store) ApproveAction(ctx context.Context, id int64, by string, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.ApproveAction(ctx, sqlitedb.ApproveActionParams{ID: id, ApprovedBy: by, ApprovedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) RejectAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.RejectAction(ctx, sqlitedb.RejectActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) WithdrawAction(ctx context.Context, id int64, by, reason string, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.WithdrawAction(ctx, sqlitedb.WithdrawActionParams{
		ID: id, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) ClaimAction(ctx context.Context, serverID string, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.ClaimAction(ctx, sqlitedb.ClaimActionParams{ServerID: serverID, ExecutedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNothingToClaim)
}

func (s *store) StartAction(ctx context.Context, id int64, at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.StartAction(ctx, sqlitedb.StartActionParams{ID: id, ExecutedAt: &at})
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

func (s *store) FinishAction(ctx context.Context, serverID string, id int64, to remediation.Status, r remediation.Result,
	at time.Time) (remediation.Action, error) {
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.write.FinishAction(ctx, sqlitedb.FinishActionParams{
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
	st, err := s.statements(ctx)
	if err != nil {
		return remediation.Action{}, err
	}
	row, err := st.read.GetAction(ctx, id)
	return remediation.Action(row), missing(err, remediation.ErrNotFound)
}

// whyNotCreated says why CreateAction wrote nothing, or nil if the reason is gone.
func whyNotCreated(ctx context.Context, q *sqlitedb.Queries, a remediation.NewAction) error {
	p := sqlitedb.ExplainCreateParams{ServerID: a.ServerID}
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
	return err
}

// missing gives an empty answer its meaning.
func missing(err, meaning error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return meaning
	}
	return err
}
