package soak

import (
	"reflect"
	"slices"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// create is Create in the model.
func (m modelState) create(c call, now time.Time) (modelState, answer) {
	wanted := c.New
	wanted.NotBefore, wanted.ExpiresAt = microseconds(wanted.NotBefore), microseconds(wanted.ExpiresAt)
	if wanted.NotBefore != nil && wanted.ExpiresAt != nil && !wanted.NotBefore.Before(*wanted.ExpiresAt) {
		return m, answer{Err: remediation.ErrInvalidInput.Error()}
	}
	for _, first := range m.actions {
		if wanted.IdempotencyKey == nil || first.IdempotencyKey == nil || *first.IdempotencyKey != *wanted.IdempotencyKey {
			continue
		}
		if !m.sameRequest(wanted, first) {
			return m, answer{Err: remediation.ErrDuplicate.Error(), ID: first.ID}
		}
		return m, answer{Actions: []remediation.Action{first}}
	}
	server, ok := m.servers[wanted.ServerID]
	switch {
	case !ok:
		return m, answer{Err: remediation.ErrServerNotFound.Error()}
	case wanted.AlertID != nil && m.alerts[*wanted.AlertID] != wanted.ServerID:
		return m, answer{Err: remediation.ErrAlertNotFound.Error()}
	case wanted.ExpiresAt != nil && !now.Before(*wanted.ExpiresAt):
		return m, answer{Err: remediation.ErrInvalidInput.Error()}
	}
	for _, a := range m.actions {
		if a.ServerID == wanted.ServerID && !a.Status.Terminal() &&
			a.DedupeKey != nil && wanted.DedupeKey != nil && *a.DedupeKey == *wanted.DedupeKey {
			return m, answer{Err: remediation.ErrDuplicate.Error(), ID: a.ID}
		}
	}
	a := remediation.Action{ServerID: wanted.ServerID, ActionType: wanted.ActionType, Status: remediation.Approved,
		ServiceName: wanted.ServiceName, Command: wanted.Command, CreatedAt: now, CreatedBy: wanted.CreatedBy,
		AlertID: wanted.AlertID, ApprovedAt: &now, ApprovedBy: new(remediation.AutoApprover),
		DedupeKey: wanted.DedupeKey, IdempotencyKey: wanted.IdempotencyKey,
		NotBefore: wanted.NotBefore, ExpiresAt: wanted.ExpiresAt, MaxRuntimeSeconds: wanted.MaxRuntimeSeconds}
	if server.paused {
		a.Status, a.ApprovedAt, a.ApprovedBy = remediation.Pending, nil, nil
	}
	if len(c.Answer.Actions) == 1 {
		a.ID = c.Answer.Actions[0].ID
	}
	i, taken := m.find(a.ID)
	if taken || m.risingIDs && i < len(m.actions) {
		a.ID = -1 // a wrong ID: used before, or not greater than all earlier ones
	}
	m.actions = slices.Insert(slices.Clone(m.actions), i, a)
	return m, answer{Actions: []remediation.Action{a}}
}

// sameRequest reports whether wanted has the content of first, the earlier action with its idempotency key. A deleted
// alert matches an action without an alert, because the action does not keep the deleted alert's ID.
func (m modelState) sameRequest(wanted remediation.NewAction, first remediation.Action) bool {
	if wanted.AlertID != nil && first.AlertID == nil && m.alerts[*wanted.AlertID] != wanted.ServerID {
		wanted.AlertID = nil
	}
	asked := remediation.NewAction{ServerID: first.ServerID, ActionType: first.ActionType, Command: first.Command,
		CreatedBy: first.CreatedBy, ServiceName: first.ServiceName, AlertID: first.AlertID, DedupeKey: first.DedupeKey,
		IdempotencyKey: first.IdempotencyKey, NotBefore: first.NotBefore, ExpiresAt: first.ExpiresAt,
		MaxRuntimeSeconds: first.MaxRuntimeSeconds}
	return reflect.DeepEqual(wanted, asked)
}

// microseconds returns a time as the ledger stores it: in UTC, truncated to microseconds.
func microseconds(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC().Truncate(time.Microsecond))
}
