package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests run the ledger on databases of the Python program from which it was derived, the original.

// original is the original at one of its versions. testdata has its tables as SQLAlchemy creates them.
type original struct {
	name    string
	version int // the version of the ledger's schema that is forced before Migrate
}

var originals = []original{{"1", 1}, {"2", 2}, {"3", 3}, {"4", 4}, {"newest", 4}}

func (o original) newest() bool { return o.name == "newest" }

// database creates a database of the original and returns its path. Its rows have every combination of columns that the
// original writes.
func (o original) database(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "homelab.db")
	db := rawPool(t, path, "") // the original has foreign keys off
	defer db.Close()
	tables, err := os.ReadFile("testdata/original_" + o.name + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	rawExec(t, db, string(tables))
	o.addServer(t, path, "nas")
	o.addServer(t, path, "web-1")
	rawExec(t, db, `INSERT INTO alerts (id, server_id, alert_type, severity, status, title, message, threshold_value, actual_value,
		acknowledged_at, resolved_at, auto_resolved) VALUES
		(7, 'nas', 'disk', 'critical', 'open', 'disk is full', NULL, 90.0, 93.5, NULL, NULL, 0),
		(8, 'web-1', 'service_down', 'high', 'resolved', 'nginx is down', 'no answer', NULL, NULL, NULL,
			'2026-01-19 15:40:00.000001', 1)`)
	switch {
	case o.version == 2:
		rawExec(t, db, `INSERT INTO remediation_actions (id, server_id, action_type, status, service_name, command, created_at, created_by)
			SELECT column1, 'web-1', 'restart_service', column2, 'nginx', 'systemctl restart nginx', '2026-01-19 15:36:01.617957', 'dashboard'
			FROM (VALUES (1, 'pending'), (3, 'approved'), (5, 'executing'), (7, 'executing'), (8, 'completed'), (9, 'failed'), (10, 'rejected'))`)
	case o.version > 2:
		rawExec(t, db, `INSERT INTO remediation_actions (id, server_id, action_type, status, service_name, command, created_at, created_by,
			alert_id, approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code, stdout, stderr)
			SELECT id, server, 'restart_service', status, 'nginx', 'systemctl restart nginx', '2026-01-19 15:36:01.617957', 'dashboard', alert,
				CASE WHEN how GLOB '*A*' THEN '2026-01-19 15:36:02.000000' END, CASE WHEN how GLOB '*[AB]*' THEN 'auto' END,
				CASE WHEN how GLOB '*R*' THEN '2026-01-19 15:36:03.250000' END, CASE WHEN how GLOB '*R*' THEN 'dashboard' END,
				CASE WHEN how GLOB '*R*' THEN 'not tonight' END, CASE WHEN how GLOB '*X*' THEN '2026-01-19 15:37:00.000001' END,
				CASE WHEN how GLOB '*C*' THEN '2026-01-19 15:37:09.500000' END, code, CASE WHEN how GLOB '*C*' THEN 'done' END, NULL
			FROM (SELECT column1 AS id, column2 AS server, column3 AS status, column4 AS alert, column5 AS how, column6 AS code FROM (VALUES
				(1, 'nas', 'pending', 7, '', NULL),
				(2, 'nas', 'pending', NULL, 'B', NULL),
				(3, 'web-1', 'approved', 8, 'A', NULL),
				(4, 'web-1', 'approved', NULL, 'B', NULL),
				(5, 'web-1', 'executing', 8, 'AX', NULL),
				(6, 'web-1', 'executing', NULL, 'AXC', 0),
				(7, 'web-1', 'executing', NULL, 'X', NULL),
				(8, 'web-1', 'completed', 8, 'AXC', 0),
				(9, 'nas', 'failed', 7, 'AXC', 1),
				(10, 'nas', 'rejected', 7, 'R', NULL),
				(11, 'nas', 'pending', 4711, '', NULL)))`)
	}
	if o.newest() {
		rawExec(t, db, `UPDATE remediation_actions SET timeout_seconds = 30;
			INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by, approved_at, approved_by,
				executed_at, completed_at, exit_code, stderr, timeout_seconds, timed_out_at) VALUES
			(12, 'web-1', 'restart_service', 'timed_out', 'true', '2026-01-19 15:36:01.617957', 'dashboard', '2026-01-19 15:36:02.000000',
				'auto', '2026-01-19 15:37:00.000001', '2026-01-19 15:37:31.000000', -1, 'timed out after 30 s', 30, '2026-01-19 15:37:31.000000')`)
	}
	return path
}

// addServer registers a server with the original's statement.
func (o original) addServer(t *testing.T, path, id string) {
	t.Helper()
	db := rawPool(t, path, goodPool)
	defer db.Close()
	columns, values := "", ""
	if o.version >= 4 {
		columns, values = "is_paused, paused_at, ", "0, NULL, "
	}
	rawExec(t, db, `INSERT INTO servers (id, guid, hostname, display_name, ip_address, status, tdp_watts, filesystems, `+columns+
		`is_inactive, last_seen) VALUES (?, NULL, ?, NULL, '10.0.0.7', 'online', 65, '[{"mount": "/"}]', `+values+
		`0, '2026-01-19 15:36:00.123456') RETURNING created_at, updated_at`, id, id+".lan")
}

// ends returns the status that each old action has after endOldRows.
func (o original) ends() map[int64]remediation.Status {
	ends := map[int64]remediation.Status{
		1: remediation.Rejected, 3: remediation.Rejected, 5: remediation.Completed, 7: remediation.Failed,
		8: remediation.Completed, 9: remediation.Failed, 10: remediation.Rejected,
	}
	switch {
	case o.version == 1:
		return map[int64]remediation.Status{}
	case o.version > 2:
		ends[2], ends[4], ends[6], ends[11] = remediation.Rejected, remediation.Rejected, remediation.Completed, remediation.Rejected
	}
	if o.newest() {
		ends[12] = "timed_out"
	}
	return ends
}

func TestOriginalIsMigratedUpAndDownAndUp(t *testing.T) {
	t.Parallel()
	for _, o := range originals {
		for _, tool := range []string{"CLI", "library"} {
			t.Run(o.name+" by the "+tool, func(t *testing.T) {
				t.Parallel()
				path := o.database(t)
				db := rawPool(t, path, goodPool)
				up := func() {
					if tool == "CLI" {
						runCLI(t, path, "up")
					} else if err := sqlite.Migrate(t.Context(), db); err != nil {
						t.Fatal(err)
					}
				}
				schema, before := hostSchema(t, db), rawContents(t, db)
				runCLI(t, path, "force", fmt.Sprint(o.version))
				up()
				if diff := cmp.Diff(before.within(before), rawContents(t, db).within(before)); diff != "" {
					t.Fatalf("rows after going up (-before +after):\n%s", diff)
				}
				o.endOldRows(t, remediation.New(openLedger(t, path)))
				o.useTogether(t, path, "new-1")

				top := rawContents(t, db)
				// The first event of action 6's end has the time of the call. The one written after going down and up
				// has the time that the original had stored.
				const lines = "SELECT line FROM (" + eventLines + ") WHERE line NOT LIKE '6 | web-1 | completed%' ORDER BY line"
				events := rawColumn(t, db, lines)
				runCLI(t, path, "down", fmt.Sprint(newestVersion(t)-o.version))
				bottom := rawContents(t, db)
				if diff := cmp.Diff(top.within(bottom), bottom.within(top)); diff != "" {
					t.Errorf("rows after going down (-before +after):\n%s", diff)
				}
				for table, columns := range before {
					for column := range columns {
						if _, ok := bottom[table][column]; !ok {
							t.Errorf("%s.%s is gone", table, column)
						}
					}
				}
				if diff := cmp.Diff(schema, hostSchema(t, db)); diff != "" {
					t.Errorf("the host's tables after going down (-before +after):\n%s", diff)
				}
				up()
				again := rawContents(t, db)
				if diff := cmp.Diff(bottom.within(bottom), again.within(bottom)); diff != "" {
					t.Errorf("rows after going up again (-before +after):\n%s", diff)
				}
				if o.version > 2 { // at older versions, going down dropped the audit columns
					if diff := cmp.Diff(events, rawColumn(t, db, lines)); diff != "" {
						t.Errorf("events after going down and up (-before +after):\n%s", diff)
					}
				}
				o.useTogether(t, path, "new-2")
				o.deletes(t, path)
				if diff := cmp.Diff([]string{"ok"}, rawColumn(t, db, "PRAGMA integrity_check")); diff != "" {
					t.Errorf("integrity check (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A later version of the original adds columns after those of the ledger.
func TestOriginalAddsItsColumnsAfterMigrate(t *testing.T) {
	t.Parallel()
	path := original{"4", 4}.database(t)
	db := rawPool(t, path, goodPool)
	runCLI(t, path, "force", "4")
	runCLI(t, path, "up")
	rawExec(t, db, `ALTER TABLE remediation_actions ADD COLUMN timeout_seconds INTEGER;
		ALTER TABLE remediation_actions ADD COLUMN timed_out_at DATETIME`)
	const timeOut = "UPDATE remediation_actions SET status=?, completed_at=?, exit_code=?, timed_out_at=? WHERE remediation_actions.id = ?"
	values := []any{"timed_out", "2026-01-19 16:04:00.000000", -1, "2026-01-19 16:04:00.000000"}
	rawExec(t, db, timeOut, append(values, 7)...)
	if _, err := db.Exec(timeOut, append(values, 6)...); err == nil || !strings.Contains(err.Error(), "remediation_actions_immutable") {
		t.Errorf("timed_out of an action that has a result: %v", err)
	}
	newest := original{"newest", 4}
	newest.useTogether(t, path, "new-1")
	top := rawContents(t, db)
	runCLI(t, path, "down", fmt.Sprint(newestVersion(t)-4))
	bottom := rawContents(t, db)
	if diff := cmp.Diff(top.within(bottom), bottom.within(top)); diff != "" {
		t.Errorf("rows after going down (-before +after):\n%s", diff)
	}
	for _, column := range []string{"timeout_seconds", "timed_out_at"} {
		if _, ok := bottom["remediation_actions"][column]; !ok {
			t.Errorf("%s is gone", column)
		}
	}
	runCLI(t, path, "up")
	newest.useTogether(t, path, "new-2")
}

// hostSchema returns every object of the schema as sqlite_master has it, without those of golang-migrate.
func hostSchema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	return rawColumn(t, db, `SELECT concat_ws(' | ', type, name, tbl_name, sql) FROM sqlite_master
		WHERE tbl_name NOT IN ('schema_migrations', 'sqlite_sequence') ORDER BY type, name`)
}

// endOldRows ends every action that the original left open.
func (o original) endOldRows(t *testing.T, ledger *remediation.Ledger) {
	t.Helper()
	open := func(status remediation.Status) []remediation.Action {
		t.Helper()
		list, err := ledger.List(t.Context(), remediation.Filter{Status: status})
		wantDone(t, err)
		return list
	}
	for _, a := range open(remediation.Pending) {
		_, err := ledger.Reject(t.Context(), a.ID, "alice", "too old")
		wantDone(t, err)
	}
	for _, a := range open(remediation.Approved) {
		_, err := ledger.Withdraw(t.Context(), a.ID, "alice", "too old")
		wantDone(t, err)
	}
	for _, a := range open(remediation.Executing) {
		if a.ID == 7 {
			continue
		}
		result := remediation.Result{Stdout: "late"}
		if a.ExitCode != nil {
			result.ExitCode = 3 // must not replace the stored exit code
		}
		_, err := ledger.Finish(t.Context(), a.ServerID, a.ID, result)
		wantDone(t, err)
	}
	_, err := ledger.FailOverdue(t.Context(), time.Hour, 10)
	wantDone(t, err)
	got := map[int64]remediation.Status{}
	for a, err := range ledger.All(t.Context(), remediation.Filter{}) {
		wantDone(t, err)
		got[a.ID] = a.Status
	}
	if diff := cmp.Diff(o.ends(), got); diff != "" {
		t.Errorf("how the old actions ended (-want +got):\n%s", diff)
	}
}

// useTogether makes the ledger and the original write to the same database, with a new server.
func (o original) useTogether(t *testing.T, path, server string) {
	t.Helper()
	db := rawPool(t, path, goodPool)
	ledger := remediation.New(openLedger(t, path))
	o.addServer(t, path, server)
	var alert int64
	wantDone(t, db.QueryRow(`INSERT INTO alerts (server_id, alert_type, severity, status, title, message, threshold_value, actual_value,
		acknowledged_at, resolved_at, auto_resolved) VALUES (?, 'disk', 'high', 'open', 'disk is full', NULL, 90.0, 91.5, NULL, NULL, 0)
		RETURNING id`, server).Scan(&alert))
	walkLifecycle(t, ledger, server, &alert)

	rawExec(t, db, "UPDATE servers SET status=?, last_seen=? WHERE servers.id = ?", "offline", "2026-01-19 15:50:00.000000", server)
	if o.version >= 4 {
		for _, at := range []string{"2026-01-19 15:51:00.000000", "2026-01-19 15:52:00.500000"} {
			rawExec(t, db, "UPDATE servers SET is_paused=?, paused_at=? WHERE servers.id = ?", 1, at, server)
		}
		rawExec(t, db, "UPDATE servers SET paused_at=? WHERE servers.id = ?", "2026-01-19 15:53:00.000001", server)
		created, err := ledger.Create(t.Context(), remediation.NewAction{
			ServerID: server, ActionType: "restart_service", Command: "true", CreatedBy: "ann",
		})
		if err != nil || created.Status != remediation.Pending {
			t.Errorf("Create on a server that the original has paused: %s, %v", created.Status, err)
		}
		rawExec(t, db, "UPDATE servers SET is_paused=?, paused_at=? WHERE servers.id = ?", 0, nil, server)
	}
	if o.version == 2 {
		rawExec(t, db, `INSERT INTO remediation_actions (server_id, action_type, status, service_name, command, created_at, created_by)
			VALUES (?, 'restart_service', 'pending', 'nginx', 'systemctl restart nginx', '2026-01-19 16:00:00.000000', 'dashboard')`, server)
	}
	if o.version > 2 {
		o.writesActions(t, db, ledger, server, alert)
	}
}

// writesActions takes actions through their lifecycle with the statements that the original executes through
// SQLAlchemy.
func (o original) writesActions(t *testing.T, db *sql.DB, ledger *remediation.Ledger, server string, alert int64) {
	t.Helper()
	insert := func(status string, approvedAt, approvedBy any) (id int64) {
		t.Helper()
		columns, values := "", ""
		if o.newest() {
			columns, values = ", timeout_seconds, timed_out_at", ", 30, NULL"
		}
		answer, err := db.Exec(`INSERT INTO remediation_actions (server_id, action_type, status, service_name, command, created_at,
			created_by, alert_id, approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at,
			exit_code, stdout, stderr`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`+values+`)`,
			server, "restart_service", status, "nginx", "systemctl restart nginx", "2026-01-19 16:00:00.000000", "dashboard", alert,
			approvedAt, approvedBy, nil, nil, nil, nil, nil, nil, nil, nil)
		wantDone(t, err)
		id, err = answer.LastInsertId()
		wantDone(t, err)
		return id
	}
	update := func(id int64, set string, args ...any) {
		t.Helper()
		rawExec(t, db, "UPDATE remediation_actions SET "+set+" WHERE remediation_actions.id = ?", append(args, id)...)
	}
	automatic := func() int64 { t.Helper(); return insert("approved", "2026-01-19 16:00:00.000000", "auto") }
	execute := func(id int64) int64 {
		t.Helper()
		update(id, "status=?, executed_at=?", "executing", "2026-01-19 16:02:00.000000")
		return id
	}
	const finish = "status=?, completed_at=?, exit_code=?, stdout=?, stderr=?"
	update(execute(automatic()), finish, "completed", "2026-01-19 16:03:00.000000", 0, "done", "")
	approved := insert("pending", nil, nil)
	update(approved, "status=?, approved_at=?, approved_by=?", "approved", "2026-01-19 16:01:00.000000", "dashboard")
	update(execute(approved), finish, "failed", "2026-01-19 16:03:00.000000", 1, "", "no such unit")
	update(insert("pending", nil, nil), "status=?, rejected_at=?, rejected_by=?, rejection_reason=?",
		"rejected", "2026-01-19 16:01:00.000000", "dashboard", "not tonight")

	executing := execute(automatic())
	if !o.newest() {
		_, err := db.Exec("UPDATE remediation_actions SET status=?, completed_at=?, exit_code=? WHERE remediation_actions.id = ?",
			"timed_out", "2026-01-19 16:04:00.000000", -1, executing)
		if err == nil || !strings.Contains(err.Error(), "remediation_actions_transition") {
			t.Errorf("timed_out in a table without timed_out_at: %v", err)
		}
		return
	}
	update(executing, "status=?, completed_at=?, exit_code=?, stderr=?, timed_out_at=?",
		"timed_out", "2026-01-19 16:04:00.000000", -1, "timed out after 30 s", "2026-01-19 16:04:00.000000")
	got, err := ledger.Get(t.Context(), executing)
	want := remediation.Action{
		ID: executing, ServerID: server, ActionType: "restart_service", Status: "timed_out", ServiceName: new("nginx"),
		Command: "systemctl restart nginx", CreatedAt: time.Date(2026, 1, 19, 16, 0, 0, 0, time.UTC), CreatedBy: "dashboard", AlertID: &alert,
		ApprovedAt: new(time.Date(2026, 1, 19, 16, 0, 0, 0, time.UTC)), ApprovedBy: new(remediation.AutoApprover),
		ExecutedAt:  new(time.Date(2026, 1, 19, 16, 2, 0, 0, time.UTC)),
		CompletedAt: new(time.Date(2026, 1, 19, 16, 4, 0, 0, time.UTC)), ExitCode: new(int64(-1)), Stderr: new("timed out after 30 s"),
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Get of an action that timed out (-want +got), %v:\n%s", err, diff)
	}
	event := rawColumn(t, db, "SELECT concat_ws(' | ', action_id, kind, actor, occurred_at, detail) FROM remediation_events ORDER BY id DESC LIMIT 1")
	if diff := cmp.Diff([]string{fmt.Sprintf("%d | failed | %s | 2026-01-19 16:04:00.000000 | -1", executing, server)}, event); diff != "" {
		t.Errorf("the event of the timeout (-want +got):\n%s", diff)
	}
	_, err = ledger.Finish(t.Context(), server, executing, remediation.Result{})
	refused := (*remediation.TransitionError)(nil)
	if !errors.As(err, &refused) || refused.From != "timed_out" {
		t.Errorf("Finish of an action that timed out: %v", err)
	}
	for _, set := range []string{"status = 'failed'", "status = 'executing'", "exit_code = 0", "stdout = 'late'", "command = 'true'"} {
		if _, err := db.Exec("UPDATE remediation_actions SET "+set+" WHERE id = ?", executing); err == nil {
			t.Errorf("SET %s of an action that timed out was accepted", set)
		}
	}
	for _, set := range []string{
		"status = 'timed_out', completed_at = '2026-01-19 16:04:00', exit_code = 0", "status = 'timed_out', exit_code = -1",
		"status = 'timed_out', completed_at = '2026-01-19 16:04:00', exit_code = -1, approved_by = 'eve'",
	} {
		if _, err := db.Exec("UPDATE remediation_actions SET " + set + " WHERE status = 'executing'"); err == nil {
			t.Errorf("SET %s of an executing action was accepted", set)
		}
	}
	for _, id := range []int64{automatic(), insert("pending", nil, nil)} {
		if _, err := db.Exec(`UPDATE remediation_actions SET status = 'timed_out', completed_at = '2026-01-19 16:04:00', exit_code = -1
			WHERE id = ?`, id); err == nil {
			t.Error("timed_out of an action that never ran was accepted")
		}
	}
}

// deletes removes an alert and a server with the original's statements.
func (o original) deletes(t *testing.T, path string) {
	t.Helper()
	db := rawPool(t, path, goodPool)
	count := func(from string) string { t.Helper(); return rawColumn(t, db, "SELECT count(*) FROM "+from)[0] }
	rawExec(t, db, "DELETE FROM alerts WHERE alerts.id = ?", 7)
	if n := count("remediation_actions WHERE alert_id = 7"); n != "0" {
		t.Errorf("%s actions still have the deleted alert", n)
	}
	deleted := count("remediation_actions WHERE server_id = 'web-1'")
	rawExec(t, db, "DELETE FROM servers WHERE servers.id = ?", "web-1")
	if n := count("remediation_actions WHERE server_id = 'web-1'"); n != "0" {
		t.Errorf("%s actions of the deleted server are left", n)
	}
	if n := count("remediation_events WHERE server_id = 'web-1' AND kind = 'deleted'"); n != deleted {
		t.Errorf("%s events say that an action was deleted, want %s", n, deleted)
	}
}
