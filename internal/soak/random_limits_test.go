package soak

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// The steps about limits, keys, heartbeats and requests to cancel.

// limit gives an action limits of its own, more often than not none.
func (s *sequence) limit(t *rapid.T, a *remediation.NewAction) {
	if rapid.IntRange(0, 2).Draw(t, "not before") == 0 {
		a.NotBefore = new(s.now.Add(one(t, "due in", []time.Duration{-time.Hour, 0, time.Nanosecond, time.Second, 10 * time.Minute})))
	}
	if rapid.IntRange(0, 2).Draw(t, "expires") == 0 {
		a.ExpiresAt = new(s.now.Add(one(t, "expires in", []time.Duration{
			-time.Second, time.Nanosecond, time.Microsecond, time.Second, 10 * time.Minute, time.Hour, 24 * time.Hour})))
	}
	if rapid.IntRange(0, 2).Draw(t, "runtime") == 0 {
		a.MaxRuntimeSeconds = new(one(t, "seconds", []int64{1, 600, 3600, 1<<31 - 1}))
	}
}

// createAgain repeats a Create as a program does that got no answer, or with other content under the same key.
func (s *sequence) createAgain(t *rapid.T) {
	if len(s.asked) == 0 {
		t.Skip("nothing was asked yet")
	}
	a := one(t, "asked", s.asked)
	switch rapid.IntRange(0, 19).Draw(t, "changed") {
	case 0:
		a.Command += " # changed"
	case 1:
		a.ServerID = one(t, "server", servers)
	case 2:
		a.CreatedBy = one(t, "creator", people)
	case 3:
		a.ServiceName = maybe(t, "service", keys)
	case 4:
		a.DedupeKey = maybe(t, "key", keys)
	case 5:
		a.AlertID = nil
	case 6:
		a.AlertID = new(s.alert(t))
	case 7:
		a.NotBefore = nil
	case 8:
		a.ExpiresAt = nil
	case 9:
		s.limit(t, &a)
	}
	s.do(t, call{Method: "Create", New: a})
}

func (s *sequence) expire(t *rapid.T) {
	s.do(t, call{Method: "Expire", Limit: rapid.IntRange(0, 3).Draw(t, "limit")})
}

func (s *sequence) heartbeat(t *rapid.T) {
	c := call{Method: "Heartbeat", ID: s.id(t, remediation.Executing), Server: one(t, "server", servers)}
	if i, ok := s.book.find(c.ID); ok && rapid.IntRange(0, 4).Draw(t, "own") > 0 {
		c.Server = s.book.actions[i].ServerID
	}
	s.do(t, c)
}

func (s *sequence) requestCancel(t *rapid.T) {
	s.do(t, call{Method: "RequestCancel", ID: s.id(t, remediation.Executing), By: one(t, "by", people), Reason: one(t, "reason", texts)})
}

func (s *sequence) forbidSelfApproval(t *rapid.T) {
	s.do(t, call{Method: "ForbidSelfApproval", Server: one(t, "server", servers), Forbid: rapid.Bool().Draw(t, "forbid")})
}

// reachLimit moves the clock to the moment at which a limit begins to hold, or just past it, and makes a call about it.
func (s *sequence) reachLimit(t *rapid.T) {
	moments := s.moments()
	if len(moments) == 0 {
		t.Skip("no limit is to come")
	}
	s.now = one(t, "moment", moments)
	s.explain(t)
	one(t, "then", []func(*rapid.T){s.expire, s.approve, s.approveMany, s.start, s.claim, s.failOverdue})(t)
}

// moments are when a limit of an open action begins to hold, and just after.
func (s *sequence) moments() (list []time.Time) {
	add := func(at time.Time) {
		for _, t := range []time.Time{at, at.Add(time.Microsecond)} {
			if t.After(s.now) {
				list = append(list, t)
			}
		}
	}
	for _, a := range s.book.actions {
		if a.Status.Terminal() {
			continue
		}
		if a.NotBefore != nil {
			add(*a.NotBefore)
		}
		if a.ExpiresAt != nil {
			add(*a.ExpiresAt)
		}
		if a.MaxRuntimeSeconds != nil && a.ExecutedAt != nil && *a.MaxRuntimeSeconds < 1e6 {
			add(latest(a).Add(time.Duration(*a.MaxRuntimeSeconds) * time.Second))
		}
	}
	return list
}

// limited is an action that is fine but for what it says already.
func limited(a remediation.NewAction) remediation.NewAction {
	a.ServerID, a.ActionType, a.Command, a.CreatedBy = servers[0], types[0], "true", "ann"
	return a
}

// rawLimit changes what an action may not do or note.
func (s *sequence) rawLimit(t *rapid.T) {
	a := s.action(t)
	now, later := literal(s.now), literal(s.now.Add(1000*time.Hour))
	asked := fmt.Sprintf("cancel_requested_at = %s, cancel_requested_by = 'mallory', cancel_reason = 'so'", now)
	completed := fmt.Sprintf("status = 'completed', exit_code = 0, completed_at = %s, ", now)
	set := []string{"idempotency_key = 'forged'", "not_before = " + later, "expires_at = " + later, "max_runtime_seconds = 77"}
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
	switch {
	case a.Status != remediation.Executing:
		set = append(set, "heartbeat_at = "+later, asked)
	case a.CancelRequestedAt != nil:
		set = append(set, asked, "cancel_reason = 'never said'", "cancel_requested_by = 'mallory'")
	default:
		set = append(set, completed+asked, "cancel_requested_at = "+now, "cancel_reason = 'so'", "cancel_requested_by = 'mallory'",
			fmt.Sprintf("cancel_requested_at = %s, cancel_requested_by = '', cancel_reason = 'so'", now),
			fmt.Sprintf("cancel_requested_at = %s, cancel_requested_by = 'mallory', cancel_reason = ''", now))
	}
	if a.Status == remediation.Executing {
		set = append(set, completed+"heartbeat_at = "+later)
		if a.HeartbeatAt != nil {
			set = append(set, "heartbeat_at = "+literal(a.HeartbeatAt.Add(-time.Microsecond)))
		}
	}
	approve := func(by string, at time.Time) string {
		return fmt.Sprintf("status = 'approved', approved_by = '%s', approved_at = %s", by, literal(at))
	}
	start := func(at time.Time) string { return "status = 'executing', executed_at = " + literal(at) }
	if a.Status == remediation.Pending && s.book.servers[a.ServerID].forbids {
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
	s.refuse(t, fmt.Sprintf("UPDATE remediation_actions SET %s WHERE id = %d", one(t, "set", set), a.ID))
}

// rawInsertLimits inserts rows of which one value does not fit the others.
func (s *sequence) rawInsertLimits(t *rapid.T) {
	now, sooner, later := literal(s.now), literal(s.now.Add(-time.Microsecond)), literal(s.now.Add(time.Microsecond))
	pending, executing := "'pending', NULL, NULL, NULL", fmt.Sprintf("'executing', 'ann', %s, %[1]s", now)
	insert := func(status, columns, values string) string {
		return fmt.Sprintf("INSERT INTO remediation_actions (server_id, action_type, command, created_by, created_at, "+
			"status, approved_by, approved_at, executed_at, %s) VALUES ('%s', 'x', 'true', 'mallory', %s, %s, %s)",
			columns, servers[0], now, status, values)
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
	for _, a := range s.book.actions {
		if a.IdempotencyKey != nil {
			statements = append(statements, insert(pending, "idempotency_key", "'"+*a.IdempotencyKey+"'"))
		}
		if a.DedupeKey != nil && a.ServerID == servers[0] && !a.Status.Terminal() {
			statements = append(statements, insert(pending, "dedupe_key", "'"+*a.DedupeKey+"'"))
		}
	}
	if s.book.servers[servers[0]].forbids {
		statements = append(statements, insert(fmt.Sprintf("'approved', 'mallory', %s, NULL", now), "service_name", "NULL"))
	}
	s.refuse(t, one(t, "statement", statements))
}
