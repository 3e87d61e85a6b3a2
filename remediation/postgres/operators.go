package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file implements the methods of remediation.Backend that concern many actions, all servers or the events.

func (s *store) ApproveActions(ctx context.Context, ids []int64, by string, at time.Time) ([]remediation.Action, error) {
	return actions(change(ctx, s, (*queries).ApproveActions, postgresdb.ApproveActionsParams{Ids: ids, ApprovedBy: by, ApprovedAt: &at}))
}

func (s *store) RejectActions(ctx context.Context, ids []int64, by, reason string, at time.Time) ([]remediation.Action, error) {
	return actions(change(ctx, s, (*queries).RejectActions, postgresdb.RejectActionsParams{
		Ids: ids, RejectedBy: by, RejectionReason: reason, RejectedAt: &at,
	}))
}

func (s *store) FailOverdueActions(ctx context.Context, aliveBefore time.Time, stderr string, limit int,
	at time.Time) ([]remediation.Action, error) {
	return actions(change(ctx, s, (*queries).FailOverdueActions, postgresdb.FailOverdueActionsParams{
		AliveBefore: aliveBefore, Stderr: stderr, MaxRows: int64(limit), CompletedAt: &at,
	}))
}

func (s *store) ExpireActions(ctx context.Context, limit int, at time.Time) ([]remediation.Action, error) {
	return actions(change(ctx, s, (*queries).ExpireActions, postgresdb.ExpireActionsParams{MaxRows: int64(limit), RejectedAt: &at}))
}

func (s *store) ActionStatuses(ctx context.Context, ids []int64) (map[int64]remediation.Status, error) {
	rows, err := run(ctx, s, (*queries).ListStatuses, ids)
	if err != nil {
		return nil, err
	}
	statuses := make(map[int64]remediation.Status, len(rows))
	for _, row := range rows {
		statuses[row.ID] = row.Status
	}
	return statuses, nil
}

func (s *store) ExplainAction(ctx context.Context, id int64, now time.Time) (remediation.Conditions, error) {
	row, err := skipPausedAt(func(skip bool) (postgresdb.ExplainActionRow, error) {
		return run(ctx, s, (*queries).ExplainAction, postgresdb.ExplainActionParams{ID: id, Now: &now, SkipPausedAt: skip})
	})
	return remediation.Conditions(row), noRow(err, remediation.ErrNotFound)
}

func (s *store) GetServer(ctx context.Context, id string) (remediation.Server, error) {
	row, err := skipPausedAt(func(skip bool) (postgresdb.GetServerRow, error) {
		return run(ctx, s, (*queries).GetServer, postgresdb.GetServerParams{ID: id, SkipPausedAt: skip})
	})
	return remediation.Server(row), noRow(err, remediation.ErrServerNotFound)
}

func (s *store) ListServers(ctx context.Context, after string, limit int) ([]remediation.Server, error) {
	rows, err := skipPausedAt(func(skip bool) ([]postgresdb.ListServersRow, error) {
		return run(ctx, s, (*queries).ListServers, postgresdb.ListServersParams{After: after, MaxRows: int64(limit), SkipPausedAt: skip})
	})
	if err != nil {
		return nil, err
	}
	list := make([]remediation.Server, len(rows))
	for i, row := range rows {
		list[i] = remediation.Server(row)
	}
	return list, nil
}

// skipPausedAt runs a query again without paused_at if the driver can't read a paused_at that predates the rules.
func skipPausedAt[T any](query func(skip bool) (T, error)) (T, error) {
	result, err := query(false)
	if isUnreadable(err) {
		return query(true)
	}
	return result, err
}

func (s *store) CountActions(ctx context.Context, statuses []remediation.Status) (map[remediation.Status]int64, error) {
	names := make([]string, len(statuses))
	for i, status := range statuses {
		names[i] = string(status)
	}
	rows, err := run(ctx, s, (*queries).CountActions, names)
	if err != nil {
		return nil, err
	}
	counts := make(map[remediation.Status]int64, len(rows))
	for _, row := range rows {
		counts[row.Status] = row.Actions
	}
	return counts, nil
}

// ListEvents excludes transactions of other databases only if the page is not full, because finding them reads all
// sessions. They are found before the statement that reads the events. Otherwise one of them could end in between and
// be taken for one of this database.
func (s *store) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	list, err := s.listEvents(ctx, after, limit, []int64{})
	if err != nil || len(list) == limit {
		return list, err
	}
	if len(list) > 0 {
		after = list[len(list)-1].ID
	}
	end, err := run(ctx, s, (*queries).ExplainEventsEnd, after)
	if err != nil || !end.Waiting {
		return list, err
	}
	more, err := s.listEvents(ctx, after, limit-len(list), end.Elsewhere)
	list = append(list, more...)
	if err == nil && len(list) == 0 && end.FromAnotherCluster {
		err = fmt.Errorf("%w: the events come from another PostgreSQL cluster; call Migrate", remediation.ErrSchemaVersion)
	}
	return list, err
}

func (s *store) listEvents(ctx context.Context, after int64, limit int, elsewhere []int64) ([]remediation.Event, error) {
	return events(run(ctx, s, (*queries).ListEvents, postgresdb.ListEventsParams{
		After: after, Elsewhere: elsewhere, MaxRows: int64(limit),
	}))
}

func (s *store) ListActionEvents(ctx context.Context, actionID int64) ([]remediation.Event, error) {
	return events(run(ctx, s, (*queries).ListActionEvents, actionID))
}

func events[Row postgresdb.ListEventsRow | postgresdb.ListActionEventsRow](rows []Row, err error) ([]remediation.Event, error) {
	if err != nil {
		return nil, err
	}
	list := make([]remediation.Event, len(rows))
	for i, row := range rows {
		list[i] = remediation.Event(row)
	}
	return list, nil
}

func (s *store) PruneActions(ctx context.Context, before time.Time, limit int) (int64, error) {
	return change(ctx, s, (*queries).PruneActions, postgresdb.PruneActionsParams{Before: before, MaxRows: int64(limit)})
}

func (s *store) ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error) {
	return change(ctx, s, (*queries).ClearOutput, postgresdb.ClearOutputParams{Before: before, MaxRows: int64(limit)})
}
