package conformance

import (
	"maps"
	"slices"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests that the database refuses invalid values, ids and events. SQLite stores a value of any type unless a rule
// refuses it. PostgreSQL refuses most of these values by the types of its columns.

// invalid lists, by column type, SQL literals that every engine must refuse.
var invalid = map[string][]string{
	"integer": {"'one'", "''"},
	"time":    {"'nonsense'", "'2026-02-30 15:36:01+00:00'", "'10000-01-19 15:36:01+00:00'"},
}

// invalidUntyped lists what an engine with untyped columns must refuse too.
var invalidUntyped = map[string][]string{
	"text":    {"x''", "x'6175746f'", "CAST('auto' AS BLOB)", "'a' || char(0) || 'b'", "char(0)"},
	"output":  {"x''", "x'6f6b'"},
	"integer": {"x'30'", "1.5"},
	"time": {"x'323032362d30312d31392031353a33363a3031'", "'2026-01-19 15:36:01.+00:00'",
		"'2026-01-19 15:36:01+00:00' || char(0)", "'-0001-01-19 15:36:01+00:00'", "'0000-01-19 15:36:01+00:00'",
		"1768836961", "2461060.15", "'now'", "'2026-01-19'"},
}

// invalidValues is the SQL literals that this engine must refuse in a column of a type.
func (l *ledger) invalidValues(kind string) []string {
	if l.db.Untyped {
		return slices.Concat(invalid[kind], invalidUntyped[kind])
	}
	return invalid[kind]
}

// columnTypes maps each column to its type in invalid and invalidUntyped.
var columnTypes = map[string]string{
	"server_id": "text", "action_type": "text", "service_name": "text", "command": "text", "created_by": "text",
	"approved_by": "text", "rejected_by": "text", "rejection_reason": "text", "dedupe_key": "text",
	"stdout": "output", "stderr": "output",
	"created_at": "time", "approved_at": "time", "rejected_at": "time", "executed_at": "time", "completed_at": "time",
	"exit_code": "integer", "alert_id": "integer", "idempotency_key": "text", "not_before": "time", "expires_at": "time",
	"max_runtime_seconds": "integer", "heartbeat_at": "time", "cancel_requested_at": "time", "cancel_requested_by": "text",
	"cancel_reason": "text",
}

func (l *ledger) TestDatabaseRefusesRowsWithInvalidValues(t *testing.T) {
	alert := l.mustAddAlert(t, normal)
	for _, a := range append(examples(), withdrawn()) {
		a.AlertID, a.DedupeKey, a.IdempotencyKey = &alert, new("apt"), new("k")
		a.NotBefore, a.ExpiresAt, a.MaxRuntimeSeconds = new(at(0)), new(at(60)), new(int64(60))
		if a.ExecutedAt != nil {
			a.HeartbeatAt, a.CancelRequestedAt = new(at(2)), new(at(2))
			a.CancelRequestedBy, a.CancelReason = new("erin"), new("no")
		}
		good := rowOf(a)
		for c, kind := range columnTypes {
			if good[c] == "NULL" {
				continue
			}
			for _, value := range l.invalidValues(kind) {
				bad := maps.Clone(good)
				bad[c] = value
				l.wontInsert(t, "remediation_actions", bad)
			}
		}
		l.exec(t, insertion("remediation_actions", good))
		l.exec(t, "DELETE FROM remediation_actions")
	}
}

func (l *ledger) TestDatabaseRefusesUpdatesWithInvalidValues(t *testing.T) {
	for _, tr := range transitions() {
		for _, c := range tr.fills {
			for _, value := range l.invalidValues(columnTypes[c]) {
				before := l.store(t, tr.from)
				fills := slices.DeleteFunc(slices.Clone(tr.fills), func(f string) bool { return f == c })
				query := "UPDATE remediation_actions SET " + rowOf(tr.to).set(append(fills, "status")...) +
					", " + c + " = " + value + " WHERE id = " + number(before.ID)
				if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
					t.Errorf("%s was accepted", query)
				}
				same(t, "the row", l.mustGet(t, before.ID), before)
			}
		}
	}
	executing := l.actionIn(t, remediation.Executing)
	asked := row{"cancel_requested_at": literal(at(2)), "cancel_requested_by": "'erin'", "cancel_reason": "'no'"}
	for c := range asked {
		for _, value := range l.invalidValues(columnTypes[c]) {
			bad := maps.Clone(asked)
			bad[c] = value
			l.wontUpdateInvalid(t, executing, bad.set("cancel_requested_at", "cancel_requested_by", "cancel_reason"))
		}
	}
	for _, value := range l.invalidValues("time") {
		l.wontUpdateInvalid(t, executing, "heartbeat_at = "+value)
	}
}

// wontUpdateInvalid is wontUpdate for SQL that may fail on any row, such as a literal that PostgreSQL can't parse.
func (l *ledger) wontUpdateInvalid(t *testing.T, a remediation.Action, set string) {
	t.Helper()
	query := "UPDATE remediation_actions SET " + set + " WHERE id = " + number(a.ID)
	if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
		t.Errorf("%s was accepted", query)
	}
	same(t, "the row", l.mustGet(t, a.ID), a)
}

func (l *ledger) TestDatabaseAcceptsOnlyIDsThatAreExactInJSON(t *testing.T) {
	r := rowOf(example(remediation.Pending))
	for _, id := range []int64{0, -1, -1 << 63, 1<<53 + 1, 1<<63 - 1} {
		r["id"] = number(id)
		l.wontInsert(t, "remediation_actions", r)
	}
	a := l.mustCreate(t, newAction(normal))
	r["id"] = number(1 << 53)
	l.exec(t, insertion("remediation_actions", r))
	l.exec(t, "DELETE FROM remediation_actions WHERE id = "+r["id"])
	same(t, "the action with the smaller id", l.mustGet(t, a.ID), a)
}

func (l *ledger) TestCreateSkipsIDsThatRawSQLHasTaken(t *testing.T) {
	last := l.mustCreate(t, newAction(normal)).ID
	r := rowOf(example(remediation.Pending))
	for i := range int64(5) {
		r["id"] = number(last + 1 + i)
		l.exec(t, insertion("remediation_actions", r))
	}
	if a := l.mustCreate(t, newAction(normal)); a.ID <= last+5 {
		t.Errorf("Create used id %d, want one above %d, the last that raw SQL used", a.ID, last+5)
	}
	tx := l.db.Begin(t)
	if _, err := l.on(tx.Store).Create(t.Context(), newAction(normal)); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

// Triggers write the events. The database refuses an INSERT of an event that does not fit its action.
func (l *ledger) TestDatabaseRefusesEventsInsertedByHand(t *testing.T) {
	pending := l.store(t, example(remediation.Pending))
	completed := l.store(t, example(remediation.Completed))
	rejected := l.store(t, example(remediation.Rejected))
	event := func(action int64, kind, actor, at, detail string) row {
		return row{"action_id": number(action), "server_id": quote(normal), "kind": quote(kind), "actor": actor,
			"occurred_at": at, "detail": detail}
	}
	for _, r := range []row{
		event(pending.ID, "approved", "'alice'", "'2001-01-01 00:00:00+00:00'", "NULL"),
		event(pending.ID, "created", "'alice'", literal(pending.CreatedAt), quote(pending.Command)),
		event(pending.ID, "created", quote(pending.CreatedBy), literal(at(9)), quote(pending.Command)),
		event(pending.ID, "created", quote(pending.CreatedBy), literal(pending.CreatedAt), "'rm -rf /'"),
		event(pending.ID, "executing", quote(normal), literal(at(1)), "NULL"),
		event(pending.ID, "deleted", "NULL", literal(at(1)), "'pending'"),
		event(pending.ID, "paused", "NULL", literal(at(1)), "NULL"),
		event(completed.ID, "failed", quote(normal), literal(*completed.CompletedAt), "'0'"),
		event(completed.ID, "completed", quote(normal), literal(*completed.CompletedAt), "'1'"),
		event(completed.ID, "completed", "'eve'", literal(*completed.CompletedAt), "'0'"),
		event(completed.ID, "approved", "'eve'", literal(*completed.ApprovedAt), "NULL"),
		event(completed.ID, "executing", "'eve'", literal(*completed.ExecutedAt), "NULL"),
		event(rejected.ID, "rejected", quote(*rejected.RejectedBy), literal(*rejected.RejectedAt), "'never said'"),
		event(rejected.ID, "rejected", "'eve'", literal(*rejected.RejectedAt), quote(*rejected.RejectionReason)),
		event(completed.ID, "output_cleared", "NULL", literal(at(1)), "NULL"),
		event(4711, "created", "'alice'", literal(at(1)), "'true'"),
		event(4711, "deleted", "NULL", "'nonsense'", "NULL"),
		event(4711, "deleted", "x'61'", literal(at(1)), "NULL"),
		event(4711, "deleted", "NULL", literal(at(1)), "x'61'"),
	} {
		l.wontInsert(t, "remediation_events", r)
	}
	for column, value := range map[string]string{"server_id": "x'61'", "action_id": "'x'"} {
		r := event(4711, "deleted", "NULL", literal(at(1)), "NULL")
		r[column] = value
		l.wontInsert(t, "remediation_events", r)
	}
}
