package postgres

import (
	"context"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// ListActions picks the query whose index narrows the history most; the rest of the filter is checked row by row.
func (s *store) ListActions(ctx context.Context, f remediation.Filter) ([]remediation.Action, error) {
	q, err := s.queries(ctx)
	if err != nil {
		return nil, err
	}
	limit := int64(f.Limit)
	switch {
	case f.AlertID != nil:
		return actions(q.ListActionsByAlert(ctx, postgresdb.ListActionsByAlertParams{
			AlertID: *f.AlertID, ServerID: f.ServerID, Status: string(f.Status), ActionType: f.ActionType,
			Before: f.Before, MaxRows: limit,
		}))
	case f.ServerID != "" && f.Status != "":
		return actions(q.ListActionsByServerAndStatus(ctx, postgresdb.ListActionsByServerAndStatusParams{
			ServerID: f.ServerID, Status: f.Status, ActionType: f.ActionType, Before: f.Before, MaxRows: limit,
		}))
	case f.ServerID != "":
		return actions(q.ListActionsByServer(ctx, postgresdb.ListActionsByServerParams{
			ServerID: f.ServerID, ActionType: f.ActionType, Before: f.Before, MaxRows: limit,
		}))
	case f.Status != "":
		return actions(q.ListActionsByStatus(ctx, postgresdb.ListActionsByStatusParams{
			Status: f.Status, ActionType: f.ActionType, Before: f.Before, MaxRows: limit,
		}))
	case f.ActionType != "":
		return actions(q.ListActionsByType(ctx, postgresdb.ListActionsByTypeParams{
			ActionType: f.ActionType, Before: f.Before, MaxRows: limit,
		}))
	}
	return actions(q.ListActions(ctx, postgresdb.ListActionsParams{Before: f.Before, MaxRows: limit}))
}

// listed is every shape of row that sqlc generates for many actions; all of them convert to an Action as they are.
type listed interface {
	postgresdb.RemediationAction | postgresdb.ListActionsRow | postgresdb.ListActionsByAlertRow | postgresdb.ListActionsByServerRow |
		postgresdb.ListActionsByServerAndStatusRow | postgresdb.ListActionsByStatusRow | postgresdb.ListActionsByTypeRow
}

func actions[Row listed](rows []Row, err error) ([]remediation.Action, error) {
	if err != nil {
		return nil, interpret(err)
	}
	list := make([]remediation.Action, len(rows))
	for i, row := range rows {
		list[i] = remediation.Action(row)
	}
	return list, nil
}
