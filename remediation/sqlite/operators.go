package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the methods for operators: decisions about many actions, maintenance, explanations, servers, counts and
// events.

func (s *store) ApproveActions(ctx context.Context, ids []int64, by string, at time.Time) ([]remediation.Action, error) {
	return actions(readable(s, func(skip bool) ([]row, error) {
		return write(ctx, s, (*queries).ApproveActions, sqlitedb.ApproveActionsParams{
			Ids: jsonList(ids), ApprovedBy: by, ApprovedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) RejectActions(ctx context.Context, ids []int64, by, reason string, at time.Time) ([]remediation.Action, error) {
	return actions(readable(s, func(skip bool) ([]row, error) {
		return write(ctx, s, (*queries).RejectActions, sqlitedb.RejectActionsParams{
			Ids: jsonList(ids), RejectedBy: by, RejectionReason: reason, RejectedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) FailOverdueActions(ctx context.Context, aliveBefore time.Time, stderr string, limit int,
	at time.Time) ([]remediation.Action, error) {
	return actions(readable(s, func(skip bool) ([]row, error) {
		return write(ctx, s, (*queries).FailOverdueActions, sqlitedb.FailOverdueActionsParams{
			AliveBefore: aliveBefore, Stderr: stderr, MaxRows: int64(limit), CompletedAt: &at, SkipUnreadable: skip,
		})
	}))
}

func (s *store) ExpireActions(ctx context.Context, limit int, at time.Time) ([]remediation.Action, error) {
	return actions(write(ctx, s, (*queries).ExpireActions, sqlitedb.ExpireActionsParams{MaxRows: int64(limit), RejectedAt: &at}))
}

func (s *store) PruneActions(ctx context.Context, before time.Time, limit int) (int64, error) {
	return write(ctx, s, (*queries).PruneActions, sqlitedb.PruneActionsParams{Before: before, MaxRows: int64(limit)})
}

func (s *store) ClearOutput(ctx context.Context, before time.Time, limit int) (int64, error) {
	return write(ctx, s, (*queries).ClearOutput, sqlitedb.ClearOutputParams{Before: before, MaxRows: int64(limit)})
}

func (s *store) ActionStatuses(ctx context.Context, ids []int64) (map[int64]remediation.Status, error) {
	rows, err := read(ctx, s, (*queries).ListStatuses, jsonList(ids))
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
	row, err := skipPausedAt(func(skip bool) (sqlitedb.ExplainActionRow, error) {
		return read(ctx, s, (*queries).ExplainAction, sqlitedb.ExplainActionParams{ID: id, Now: &now, SkipPausedAt: skip})
	})
	return remediation.Conditions(row), noRow(err, remediation.ErrNotFound)
}

func (s *store) GetServer(ctx context.Context, id string) (remediation.Server, error) {
	row, err := skipPausedAt(func(skip bool) (sqlitedb.GetServerRow, error) {
		return read(ctx, s, (*queries).GetServer, sqlitedb.GetServerParams{ID: id, SkipPausedAt: skip})
	})
	return remediation.Server(row), noRow(err, remediation.ErrServerNotFound)
}

func (s *store) ListServers(ctx context.Context, after string, limit int) ([]remediation.Server, error) {
	rows, err := skipPausedAt(func(skip bool) ([]sqlitedb.ListServersRow, error) {
		return read(ctx, s, (*queries).ListServers, sqlitedb.ListServersParams{After: after, MaxRows: int64(limit), SkipPausedAt: skip})
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

// skipPausedAt runs a query again without paused_at if the driver can't read a value of it that predates the rules.
func skipPausedAt[T any](query func(skip bool) (T, error)) (T, error) {
	result, err := query(false)
	if isUnreadable(err) {
		return query(true)
	}
	return result, err
}

func (s *store) CountActions(ctx context.Context, statuses []remediation.Status) (map[remediation.Status]int64, error) {
	rows, err := read(ctx, s, (*queries).CountActions, jsonList(statuses))
	if err != nil {
		return nil, err
	}
	counts := make(map[remediation.Status]int64, len(rows))
	for _, row := range rows {
		counts[row.Status] = row.Actions
	}
	return counts, nil
}

func (s *store) ListEvents(ctx context.Context, after int64, limit int) ([]remediation.Event, error) {
	return events(read(ctx, s, (*queries).ListEvents, sqlitedb.ListEventsParams{After: after, MaxRows: int64(limit)}))
}

func (s *store) ListActionEvents(ctx context.Context, actionID int64) ([]remediation.Event, error) {
	return events(read(ctx, s, (*queries).ListActionEvents, actionID))
}

func events(rows []sqlitedb.RemediationEvent, err error) ([]remediation.Event, error) {
	if err != nil {
		return nil, err
	}
	list := make([]remediation.Event, len(rows))
	for i, row := range rows {
		list[i] = remediation.Event(row)
	}
	return list, nil
}

// jsonList encodes a list as one parameter. Its callers pass numbers and strings, which always marshal.
func jsonList[T any](list []T) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(text)
}
