package soak

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random raw SQL that breaks the rules about limits, keys, heartbeats and requests to cancel.

// rawLimits tries each forbidden update of an action.
func (s *sequence) rawLimits(t *rapid.T) {
	a := s.action(t)
	if i, ok := s.modelState.find(s.id(t, remediation.Executing)); ok {
		a = s.modelState.actions[i]
	}
	s.exec(t, fmt.Sprintf("UPDATE remediation_actions SET dedupe_key = dedupe_key, expires_at = expires_at, "+
		"heartbeat_at = heartbeat_at, cancel_reason = cancel_reason, approved_by = approved_by "+
		"WHERE id = %d", a.ID)) // allowed, because it changes nothing
	now, later := literal(s.now), literal(s.now.Add(1000*time.Hour))
	cancel := func(by, reason string) string {
		return fmt.Sprintf("cancel_requested_at = %s, cancel_requested_by = %s, cancel_reason = %s", now, by, reason)
	}
	asked := cancel("'mallory'", "'so'")
	completed := fmt.Sprintf("status = 'completed', exit_code = 0, completed_at = %s, ", now)
	var set []string
	if a.Status == remediation.Executing {
		if a.HeartbeatAt != nil {
			set = append(set, "heartbeat_at = "+literal(a.HeartbeatAt.Add(-time.Microsecond)))
		}
		set = append(set, completed+"heartbeat_at = "+later)
		if !s.postgres { // without a rule, SQLite would store times that its driver can't read
			for _, x := range s.invalidTimes() {
				set = append(set, "heartbeat_at = "+x)
			}
		}
	}
	switch {
	case a.Status != remediation.Executing:
		set = append(set, "heartbeat_at = "+later, asked)
	case a.CancelRequestedAt != nil:
		set = append(set, asked, "cancel_reason = 'never said'", "cancel_requested_by = 'mallory'")
	default:
		set = append(set, completed+asked, "cancel_requested_at = "+now, "cancel_reason = 'so'", "cancel_requested_by = 'mallory'",
			cancel("''", "'so'"), cancel("'mallory'", "''"))
		if !s.postgres {
			set = append(set, cancel("x'41'", "'so'"), cancel("'mallory'", "x'41'"), cancel("'mallory'", "'so' || char(0)"))
		}
	}
	approve := func(by string, at time.Time) string {
		return fmt.Sprintf("status = 'approved', approved_by = '%s', approved_at = %s", by, literal(at))
	}
	start := func(at time.Time) string { return "status = 'executing', executed_at = " + literal(at) }
	if a.Status == remediation.Pending && s.modelState.servers[a.ServerID].forbids {
		set = append(set, approve(a.CreatedBy, a.CreatedAt))
	}
	if a.ExpiresAt != nil && a.Status == remediation.Pending {
		set = append(set, approve("mallory", *a.ExpiresAt), approve("mallory", a.ExpiresAt.Add(time.Second)))
	}
	if a.ExpiresAt != nil && a.Status == remediation.Approved {
		set = append(set, start(*a.ExpiresAt), start(a.ExpiresAt.Add(time.Second)))
	}
	if a.NotBefore != nil && a.Status == remediation.Approved {
		set = append(set, start(a.NotBefore.Add(-time.Microsecond)))
	}
	if a.Status == remediation.Approved {
		set = append(set, start(s.now)+", heartbeat_at = "+now, start(s.now)+", "+asked)
	}
	set = append(set, "idempotency_key = 'forged'", "not_before = "+later, "expires_at = "+later, "max_runtime_seconds = 77")
	for _, column := range []struct {
		name string
		has  bool
	}{
		{"dedupe_key", a.DedupeKey != nil}, {"idempotency_key", a.IdempotencyKey != nil},
		{"not_before", a.NotBefore != nil}, {"expires_at", a.ExpiresAt != nil},
		{"max_runtime_seconds", a.MaxRuntimeSeconds != nil}, {"heartbeat_at", a.HeartbeatAt != nil},
		{"cancel_requested_at", a.CancelRequestedAt != nil}, {"cancel_reason", a.CancelReason != nil},
	} {
		if column.has {
			set = append(set, column.name+" = NULL")
		}
	}
	for i := range set {
		set[i] = fmt.Sprintf("UPDATE remediation_actions SET %s WHERE id = %d", set[i], a.ID)
	}
	s.wantRefused(t, set...)
}

// invalidTimes returns values that a column of SQLite accepts without a rule, but that are not times in the ledger's
// format.
func (s *sequence) invalidTimes() []string {
	day := s.now.UTC().AddDate(1, 0, 0).Format(time.DateOnly)
	return []string{"'" + day + "'", "'" + day + "T13:17:09+00:00'",
		"'" + day + " 13:17:09 +00:00'", "'" + day + " 13:17:09.5+01:00'",
		"'" + day + " 13:17:09.1234567891+00:00'", "'" + day + " 25:17:09+00:00'", "'soon'", "1e10", "x'41'"}
}

// rawInsertLimits tries to insert rows in which one value contradicts the others, and some valid rows.
func (s *sequence) rawInsertLimits(t *rapid.T) {
	server := pick(t, "server", servers[:2])
	now, sooner, later := literal(s.now), literal(s.now.Add(-time.Microsecond)), literal(s.now.Add(time.Microsecond))
	pending, executing := "'pending', NULL, NULL, NULL", fmt.Sprintf("'executing', 'ann', %s, %[1]s", now)
	insert := func(status, columns, values string) string {
		return fmt.Sprintf("INSERT INTO remediation_actions (server_id, action_type, command, created_by, created_at, "+
			"status, approved_by, approved_at, executed_at, %s) VALUES ('%s', 'x', 'true', 'mallory', %s, %s, %s)",
			columns, server, now, status, values)
	}
	statements := []string{
		insert(pending, "max_runtime_seconds", "0"),
		insert(pending, "max_runtime_seconds", "2147483648"),
		insert(pending, "expires_at", now),
		insert(pending, "expires_at", sooner),
		insert(pending, "not_before, expires_at", later+", "+later),
		insert(pending, "heartbeat_at", now),
		insert(pending, "cancel_requested_at, cancel_requested_by, cancel_reason", now+", 'ann', 'so'"),
		insert(pending, "cancel_requested_by", "'ann'"),
		insert(pending, "cancel_reason", "'so'"),
		insert(executing, "cancel_requested_at", now),
		insert(executing, "cancel_requested_at, cancel_requested_by, cancel_reason", now+", 'ann', ''"),
		insert(executing, "cancel_requested_at, cancel_requested_by, cancel_reason", now+", '', 'so'"),
		insert(executing, "not_before", later),
		insert(executing, "expires_at", now),
		insert(fmt.Sprintf("'approved', 'ann', %s, NULL", later), "expires_at", later),
		insert(fmt.Sprintf("'executing', 'ann', %s, %s", now, later), "expires_at", later),
	}
	if s.postgres {
		statements = append(statements, insert(pending, "not_before", "'0044-03-15 00:00:00+00 BC'"),
			insert(pending, "expires_at", "'infinity'"), insert(executing, "heartbeat_at", "'-infinity'"),
			insert(executing, "heartbeat_at", "'10000-01-01 00:00:00+00'"))
	} else {
		for _, x := range s.invalidTimes() {
			statements = append(statements, insert(pending, "not_before", x),
				insert(pending, "expires_at", x), insert(executing, "heartbeat_at", x))
		}
	}
	for _, a := range s.modelState.actions {
		if a.IdempotencyKey != nil {
			statements = append(statements, insert(pending, "idempotency_key", "'"+*a.IdempotencyKey+"'"))
		}
		if a.DedupeKey != nil && a.ServerID == server && !a.Status.Terminal() {
			statements = append(statements, insert(pending, "dedupe_key", "'"+*a.DedupeKey+"'"))
		}
	}
	selfApproved := insert(fmt.Sprintf("'approved', 'mallory', %s, NULL", now), "service_name", "NULL")
	if s.modelState.servers[server].forbids {
		statements = append(statements, selfApproved)
	} else {
		s.wantAccepted(t, selfApproved)
	}
	s.wantAccepted(t, insert(pending, "not_before, expires_at, max_runtime_seconds", now+", "+later+", 2147483647"))
	s.wantAccepted(t, insert(executing, "not_before, expires_at, heartbeat_at, cancel_requested_at, cancel_requested_by, cancel_reason",
		now+", "+later+", "+now+", "+now+", 'ann', 'so'"))
	for _, values := range []string{"NULL, TRUE", "'nobody', TRUE", "'" + server + "', NULL"} {
		statements = append(statements, "INSERT INTO remediation_servers (server_id, forbids_self_approval) VALUES ("+values+")")
	}
	s.wantRefused(t, statements...)
}
