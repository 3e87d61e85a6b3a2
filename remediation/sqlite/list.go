package sqlite

import (
	"context"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// ListActions picks the query whose index leaves the fewest rows, and the query checks the rest of the filter row by
// row. For an open status that is the index by status, because open actions are few. For a terminal status it is the
// index by type, because most actions have one of only three terminal statuses.
func (s *store) ListActions(ctx context.Context, f remediation.Filter) ([]remediation.Action, error) {
	return readable(s, func(skip bool) ([]remediation.Action, error) { return s.list(ctx, f, skip) })
}

func (s *store) list(ctx context.Context, f remediation.Filter, skip bool) ([]remediation.Action, error) {
	limit := int64(f.Limit)
	switch {
	case f.AlertID != nil:
		return actions(read(ctx, s, (*queries).ListActionsByAlert, sqlitedb.ListActionsByAlertParams{
			AlertID: *f.AlertID, ServerID: f.ServerID, Status: string(f.Status), ActionType: f.ActionType,
			Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
		}))
	case f.ServerID != "" && f.Status != "":
		return actions(read(ctx, s, (*queries).ListActionsByServerAndStatus, sqlitedb.ListActionsByServerAndStatusParams{
			ServerID: f.ServerID, Status: f.Status, ActionType: f.ActionType, Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
		}))
	case f.ServerID != "":
		return actions(read(ctx, s, (*queries).ListActionsByServer, sqlitedb.ListActionsByServerParams{
			ServerID: f.ServerID, ActionType: f.ActionType, Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
		}))
	case f.Status != "" && (f.ActionType == "" || !f.Status.Terminal()):
		return actions(read(ctx, s, (*queries).ListActionsByStatus, sqlitedb.ListActionsByStatusParams{
			Status: f.Status, ActionType: f.ActionType, Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
		}))
	case f.ActionType != "":
		return actions(read(ctx, s, (*queries).ListActionsByType, sqlitedb.ListActionsByTypeParams{
			ActionType: f.ActionType, Status: string(f.Status), Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
		}))
	}
	return actions(read(ctx, s, (*queries).ListActions, sqlitedb.ListActionsParams{
		Before: f.Before, SkipUnreadable: skip, MaxRows: limit,
	}))
}

// listedRow is each row type that sqlc generates for lists of actions. All of them convert to an Action.
type listedRow interface {
	sqlitedb.RemediationAction | sqlitedb.RemediationListed
}

func actions[Row listedRow](rows []Row, err error) ([]remediation.Action, error) {
	if err != nil {
		return nil, err
	}
	list := make([]remediation.Action, len(rows))
	for i, row := range rows {
		list[i] = remediation.Action(row)
	}
	return list, nil
}
