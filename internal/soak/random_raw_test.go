package soak

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random raw SQL, and the steps that prune actions and clear output.

// exec expects a statement to succeed.
func (s *sequence) exec(t *rapid.T, statement string) {
	t.Helper()
	if _, err := s.db.ExecContext(s.ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// wantRefused expects a rule of the database to refuse each statement, and the database to be unchanged.
func (s *sequence) wantRefused(t *rapid.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := s.db.ExecContext(s.ctx, statement); !isConstraintError(err) {
			t.Fatalf("%s: %v, want a constraint error", statement, err)
		}
		s.refused++
	}
	s.compare(t)
}

// wantAccepted expects a statement to succeed, and rolls it back.
func (s *sequence) wantAccepted(t *rapid.T, statement string) {
	t.Helper()
	tx, err := s.db.BeginTx(s.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(s.ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// isConstraintError reports whether a rule refused the statement. It is false for SQL that can't run at all.
func isConstraintError(err error) bool {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Code == "23514" || // check_violation, raised by the ledger's own rules
			refused.Code == "23505" || refused.Code == "23502" || // unique_violation; not_null_violation
			refused.Code == "23503" || refused.Code == "428C9" // foreign_key_violation; generated_always
	}
	refused, ok := errors.AsType[*modernc.Error](err)
	return ok && refused.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}

// action picks an existing action.
func (s *sequence) action(t *rapid.T) remediation.Action {
	if len(s.modelState.actions) == 0 {
		t.Skip("no action yet")
	}
	return pick(t, "action", s.modelState.actions)
}

// literal formats a time as an SQL literal.
func literal(at time.Time) string { return at.UTC().Format("'2006-01-02 15:04:05.999999-07:00'") }

// rawStatus tries to set a status without its audit fields, or with them if the lifecycle forbids the transition.
func (s *sequence) rawStatus(t *rapid.T) {
	a, to := s.action(t), pick(t, "to", remediation.Statuses())
	set := fmt.Sprintf("status = '%s'", to)
	if !a.Status.CanTransition(to) && rapid.Bool().Draw(t, "with audit fields") {
		now := literal(s.now)
		set += map[remediation.Status]string{
			remediation.Approved:  ", approved_by = 'mallory', approved_at = " + now,
			remediation.Rejected:  ", rejected_by = 'mallory', rejection_reason = 'so', rejected_at = " + now,
			remediation.Executing: ", executed_at = " + now,
			remediation.Completed: ", exit_code = 0, completed_at = " + now,
			remediation.Failed:    ", exit_code = 1, completed_at = " + now,
		}[to]
	}
	s.wantRefused(t, fmt.Sprintf("UPDATE remediation_actions SET %s WHERE id = %d", set, a.ID))
}

// rawField tries to change a field that must not change on its own.
func (s *sequence) rawField(t *rapid.T) {
	a := s.action(t)
	yesterday := literal(s.now.Add(-24*time.Hour + 777*time.Microsecond)) // a time that no action has
	set := pick(t, "set", []string{
		"command = command || ' && reboot'", "server_id = 'nobody'", "created_by = 'mallory'", "created_at = " + yesterday,
		"approved_at = " + yesterday, "approved_by = 'mallory'", "approved_by = 'mallory', approved_at = " + yesterday,
		"rejection_reason = 'never said'", "executed_at = " + yesterday, "completed_at = " + yesterday, "exit_code = 99",
		"stdout = 'forged'", "dedupe_key = 'forged'", "id = id + 1000",
	})
	s.wantRefused(t, fmt.Sprintf("UPDATE remediation_actions SET %s WHERE id = %d", set, a.ID))
}

// rawInsert tries to insert an action whose status lacks its fields.
func (s *sequence) rawInsert(t *rapid.T) {
	const insert = "INSERT INTO remediation_actions (server_id, action_type, command, created_by, created_at, status%s) " +
		"VALUES ('%s', 'x', 'true', 'mallory', %s, '%s'%s)"
	now := literal(s.now)
	columns, values := "", ""
	status := pick(t, "status", []remediation.Status{remediation.Approved, remediation.Rejected, remediation.Executing,
		remediation.Completed, remediation.Failed, "done"})
	if status == remediation.Completed && rapid.Bool().Draw(t, "only without the exit code") {
		columns, values = ", approved_by, approved_at, executed_at, completed_at", fmt.Sprintf(", 'ann', %s, %[1]s, %[1]s", now)
	}
	s.wantRefused(t, fmt.Sprintf(insert, columns, servers[0], now, status, values))
}

// rawEvent tries to change or delete events.
func (s *sequence) rawEvent(t *rapid.T) {
	s.wantRefused(t, fmt.Sprintf(pick(t, "statement", []string{
		"DELETE FROM remediation_events WHERE action_id = %d",
		"UPDATE remediation_events SET actor = 'mallory' WHERE action_id = %d",
		"UPDATE remediation_events SET id = id + 1000 WHERE action_id = %d",
	}), s.action(t).ID))
}

// deleteAlert deletes an alert. Its actions stay, without the alert's ID.
func (s *sequence) deleteAlert(t *rapid.T) {
	if len(s.modelState.alerts) == 0 {
		t.Skip("no alert yet")
	}
	alert := pick(t, "alert", slices.Sorted(maps.Keys(s.modelState.alerts)))
	s.exec(t, fmt.Sprintf("DELETE FROM alerts WHERE id = %d", alert))
	s.modelState.alerts = maps.Clone(s.modelState.alerts)
	delete(s.modelState.alerts, alert)
	s.modelState.actions = slices.Clone(s.modelState.actions)
	for i, a := range s.modelState.actions {
		if a.AlertID != nil && *a.AlertID == alert {
			s.modelState.actions[i].AlertID = nil
		}
	}
}

func (s *sequence) prune(t *rapid.T) {
	before, limit := s.cutoff(t), rapid.IntRange(1, 3).Draw(t, "limit")
	n, err := s.ledger.Prune(s.ctx, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	pruned := s.checkOldest(t, before, limit, n, func(a remediation.Action) bool { return true }, func(id int64) bool {
		_, err := s.ledger.Get(s.ctx, id)
		return err != nil
	})
	next := s.modelState
	next.actions = slices.DeleteFunc(slices.Clone(next.actions), func(a remediation.Action) bool { return pruned[a.ID] })
	s.advance(next)
}

func (s *sequence) clearOutput(t *rapid.T) {
	before, limit := s.cutoff(t), rapid.IntRange(1, 3).Draw(t, "limit")
	n, err := s.ledger.ClearOutput(s.ctx, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	hasOutput := func(a remediation.Action) bool { return a.Stdout != nil || a.Stderr != nil }
	cleared := s.checkOldest(t, before, limit, n, hasOutput, func(id int64) bool {
		a, err := s.ledger.Get(s.ctx, id)
		return err == nil && !hasOutput(a)
	})
	next := s.modelState
	next.actions = slices.Clone(next.actions)
	for i, a := range next.actions {
		if cleared[a.ID] {
			next.actions[i].Stdout, next.actions[i].Stderr = nil, nil
		}
	}
	s.advance(next)
}

// cutoff picks the time before which actions are pruned or their output is cleared.
func (s *sequence) cutoff(t *rapid.T) time.Time {
	return s.now.Add(-pick(t, "age", []time.Duration{
		-time.Second, 0, time.Second, 10 * time.Minute, time.Hour, 24 * time.Hour}))
}

// checkOldest returns the actions that Prune or ClearOutput took. They must be as many as the call returned and the
// oldest candidates, at most limit. Among actions that ended at the same time the database may choose.
func (s *sequence) checkOldest(t *rapid.T, before time.Time, limit int, n int64,
	candidate func(remediation.Action) bool, taken func(id int64) bool) map[int64]bool {
	t.Helper()
	took := map[int64]bool{}
	var newestTaken, oldestLeft time.Time
	possible := 0
	for _, a := range s.modelState.actions {
		end := latest(a)
		if !a.Status.Terminal() || !end.Before(before.Truncate(time.Microsecond)) || !candidate(a) {
			continue
		}
		possible++
		if taken(a.ID) {
			took[a.ID] = true
			if end.After(newestTaken) {
				newestTaken = end
			}
		} else if oldestLeft.IsZero() || end.Before(oldestLeft) {
			oldestLeft = end
		}
	}
	if int(n) != len(took) || len(took) != min(limit, possible) {
		t.Fatalf("before %s, limit %d: the call returned %d, but took %v of %d candidates",
			before, limit, n, took, possible)
	}
	if len(took) > 0 && !oldestLeft.IsZero() && oldestLeft.Before(newestTaken) {
		t.Fatalf("before %s, limit %d: the call took %v, but left an older action that ended at %s",
			before, limit, took, oldestLeft)
	}
	return took
}
