package postgres

import (
	"context"
	"time"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

func (s *store) ApproveActions(ctx context.Context, ids []int64, by string, at time.Time) ([]remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	return actions(q.ApproveActions(ctx, postgresdb.ApproveActionsParams{Ids: ids, ApprovedBy: by, ApprovedAt: &at}))
}

func (s *store) RejectActions(ctx context.Context, ids []int64, by, reason string, at time.Time) ([]remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	return actions(q.RejectActions(ctx, postgresdb.RejectActionsParams{
		Ids: ids, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	}))
}

func (s *store) FailOverdueActions(ctx context.Context, executedBefore time.Time, stderr string, limit int,
	at time.Time) ([]remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	return actions(q.FailOverdueActions(ctx, postgresdb.FailOverdueActionsParams{
		ExecutedBefore: &executedBefore, Stderr: stderr, MaxRows: int64(limit), CompletedAt: &at,
	}))
}

func (s *store) ActionStatuses(ctx context.Context, ids []int64) (map[int64]remediation.Status, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := q.ListStatuses(ctx, ids)
	if err != nil {
		return nil, interpret(err)
	}
	statuses := make(map[int64]remediation.Status, len(rows))
	for _, row := range rows {
		statuses[row.ID] = row.Status
	}
	return statuses, nil
}

func (s *store) ActionStanding(ctx context.Context, id int64) (remediation.Standing, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return remediation.Standing{}, err
	}
	row, err := q.ExplainAction(ctx, id)
	return remediation.Standing(row), missing(err, remediation.ErrNotFound)
}

func (s *store) CountActions(ctx context.Context, statuses []remediation.Status) (map[remediation.Status]int64, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(statuses))
	for i, status := range statuses {
		names[i] = string(status)
	}
	rows, err := q.CountActions(ctx, names)
	if err != nil {
		return nil, interpret(err)
	}
	counts := make(map[remediation.Status]int64, len(rows))
	for _, row := range rows {
		counts[row.Status] = row.Actions
	}
	return counts, nil
}

func (s *store) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	horizon, err := q.EventsHorizon(ctx)
	if err != nil {
		return nil, interpret(err)
	}
	return events(q.ListEvents(ctx, postgresdb.ListEventsParams{After: after, Horizon: horizon, MaxRows: int64(limit)}))
}

func (s *store) PruneActions(ctx context.Context, before time.Time, limit int) (int64, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return 0, err
	}
	n, err := q.PruneActions(ctx, postgresdb.PruneActionsParams{Before: &before, MaxRows: int64(limit)})
	return n, interpret(err)
}

func (s *store) ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return 0, err
	}
	n, err := q.ClearOutput(ctx, postgresdb.ClearOutputParams{Before: &before, MaxRows: int64(limit)})
	return n, interpret(err)
}

func events(rows []postgresdb.RemediationEvent, err error) ([]remediation.Event, error) {
	if err != nil {
		return nil, interpret(err)
	}
	list := make([]remediation.Event, len(rows))
	for i, row := range rows {
		list[i] = remediation.Event(row)
	}
	return list, nil
}
