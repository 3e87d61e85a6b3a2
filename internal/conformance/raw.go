package conformance

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Helpers that read and write rows by raw SQL, without the ledger.

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func number(n int64) string { return strconv.FormatInt(n, 10) }

// literal is a time as an SQL literal that both engines read, in the format in which SQLite stores it.
func literal(t time.Time) string { return quote(t.Format("2006-01-02 15:04:05.999999-07:00")) }

// literalOrNull is a pointer's value as a literal, or NULL for nil.
func literalOrNull[T any](p *T, literal func(T) string) string {
	if p == nil {
		return "NULL"
	}
	return literal(*p)
}

// exec runs a statement that must succeed.
func (l *ledger) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := l.db.Raw.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// count counts rows; from is everything after FROM, such as "alerts WHERE id = 1".
func (l *ledger) count(t *testing.T, from string) (n int) {
	t.Helper()
	if err := l.db.Raw.QueryRowContext(t.Context(), "SELECT count(*) FROM "+from).Scan(&n); err != nil {
		t.Fatalf("count %s: %v", from, err)
	}
	return n
}

// row maps column names to SQL literals. The row of an action has no id, so that the database assigns one.
type row map[string]string

// The columns of remediation_actions other than id, status and alert_id: the action as it was created, the audit trail,
// and its keys, limits and cancel request.
var (
	given = []string{"server_id", "action_type", "service_name", "command", "created_at", "created_by"}
	audit = []string{"approved_at", "approved_by", "rejected_at", "rejected_by", "rejection_reason",
		"executed_at", "completed_at", "exit_code", "stdout", "stderr"}
	limitColumns = []string{"dedupe_key", "idempotency_key", "not_before", "expires_at", "max_runtime_seconds",
		"heartbeat_at", "cancel_requested_at", "cancel_requested_by", "cancel_reason"}
)

func rowOf(a remediation.Action) row {
	return row{
		"server_id":        quote(a.ServerID),
		"action_type":      quote(a.ActionType),
		"status":           quote(string(a.Status)),
		"service_name":     literalOrNull(a.ServiceName, quote),
		"command":          quote(a.Command),
		"created_at":       literal(a.CreatedAt),
		"created_by":       quote(a.CreatedBy),
		"alert_id":         literalOrNull(a.AlertID, number),
		"approved_at":      literalOrNull(a.ApprovedAt, literal),
		"approved_by":      literalOrNull(a.ApprovedBy, quote),
		"rejected_at":      literalOrNull(a.RejectedAt, literal),
		"rejected_by":      literalOrNull(a.RejectedBy, quote),
		"rejection_reason": literalOrNull(a.RejectionReason, quote),
		"executed_at":      literalOrNull(a.ExecutedAt, literal),
		"completed_at":     literalOrNull(a.CompletedAt, literal),
		"exit_code":        literalOrNull(a.ExitCode, number),
		"stdout":           literalOrNull(a.Stdout, quote),
		"stderr":           literalOrNull(a.Stderr, quote),
		"dedupe_key":       literalOrNull(a.DedupeKey, quote),

		"idempotency_key":     literalOrNull(a.IdempotencyKey, quote),
		"not_before":          literalOrNull(a.NotBefore, literal),
		"expires_at":          literalOrNull(a.ExpiresAt, literal),
		"max_runtime_seconds": literalOrNull(a.MaxRuntimeSeconds, number),
		"heartbeat_at":        literalOrNull(a.HeartbeatAt, literal),
		"cancel_requested_at": literalOrNull(a.CancelRequestedAt, literal),
		"cancel_requested_by": literalOrNull(a.CancelRequestedBy, quote),
		"cancel_reason":       literalOrNull(a.CancelReason, quote),
	}
}

// values is the columns as one parenthesized row of a VALUES list.
func (r row) values(columns []string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = r[c]
	}
	return "(" + strings.Join(list, ", ") + ")"
}

// set is the columns as the SET list of an UPDATE.
func (r row) set(columns ...string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c + " = " + r[c]
	}
	return strings.Join(list, ", ")
}

// insert inserts actions by raw SQL and returns their ids.
func (l *ledger) insert(t *testing.T, rows ...row) ([]int64, error) {
	t.Helper()
	columns := slices.Concat([]string{"status", "alert_id"}, given, audit, limitColumns)
	list := make([]string, len(rows))
	for i, r := range rows {
		list[i] = r.values(columns)
	}
	answer, err := l.db.Raw.QueryContext(t.Context(), "INSERT INTO remediation_actions ("+strings.Join(columns, ", ")+
		") VALUES "+strings.Join(list, ", ")+" RETURNING id")
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var ids []int64
	for answer.Next() {
		var id int64
		if err := answer.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, answer.Err()
}

// store inserts an action by raw SQL and returns it with its id, as the ledger must return it.
func (l *ledger) store(t *testing.T, a remediation.Action) remediation.Action {
	t.Helper()
	ids, err := l.insert(t, rowOf(a))
	if err != nil {
		t.Fatalf("insert %s: %v", a.Status, err)
	}
	a.ID = ids[0]
	return a
}

// update updates one action by raw SQL. It first runs the same UPDATE on no row, which must succeed. So an error comes
// from a rule of the database and not from a mistake in the SQL.
func (l *ledger) update(t *testing.T, id int64, set string) error {
	t.Helper()
	l.exec(t, "UPDATE remediation_actions SET "+set+" WHERE id = -1")
	_, err := l.db.Raw.ExecContext(t.Context(), "UPDATE remediation_actions SET "+set+" WHERE id = "+number(id))
	return err
}

// wontUpdate expects that the database refuses the update and leaves the action unchanged.
func (l *ledger) wontUpdate(t *testing.T, a remediation.Action, set string) {
	t.Helper()
	if err := l.update(t, a.ID, set); err == nil {
		t.Errorf("%s: SET %s was accepted", a.Status, set)
	}
	same(t, string(a.Status)+" after SET "+set, l.mustGet(t, a.ID), a)
}

// example is a valid action in a status, as an engine stores it: each step happens a minute after the one before.
func example(status remediation.Status) remediation.Action {
	a := remediation.Action{
		ServerID:    normal,
		ActionType:  "restart_service",
		Status:      status,
		ServiceName: new("nginx"),
		Command:     "systemctl restart nginx",
		CreatedAt:   at(0),
		CreatedBy:   "ann",
	}
	for i, s := range stepsTo[status] {
		s.fill(&a, at(i+1))
	}
	return a
}

// withdrawn is the other valid kind of rejected action: one that was approved before.
func withdrawn() remediation.Action {
	a := example(remediation.Approved)
	return withdraw.after(a, at(2))
}

// examples is one valid action in each status.
func examples() []remediation.Action {
	var list []remediation.Action
	for _, status := range remediation.Statuses() {
		list = append(list, example(status))
	}
	return list
}
