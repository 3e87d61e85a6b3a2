package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// manySQLiteRows adds more than one page (importPage) of servers, alerts and actions.
const manySQLiteRows = `
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
	INSERT INTO servers (id) SELECT 'web-' || i FROM n;
	INSERT INTO alerts (server_id, title) SELECT id, 'down' FROM servers;
	INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, alert_id)
	SELECT server_id, 'restart_service', 'pending', 'true', '2026-01-19 15:36:01.617957', 'dashboard', id FROM alerts;`

// withoutRules returns an SQLite ledger with manySQLiteRows and without triggers. Together with ignoreConstraints a
// test can write any value to it.
func withoutRules(t *testing.T) (path string, db *sql.DB) {
	t.Helper()
	path, db = sqliteLedger(t, newest(t))
	must[sql.Result](t)(db.Exec(manySQLiteRows))
	rows := must[*sql.Rows](t)(db.Query("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
	defer rows.Close()
	drop := "BEGIN;"
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		drop += "DROP TRIGGER " + name + ";"
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	must[sql.Result](t)(db.Exec(drop + "COMMIT"))
	return path, db
}

// ignoreConstraints turns off what stops invalid values, as an older program may have done. It applies to the
// statements after it on the same connection.
const ignoreConstraints = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;"

func TestImportNamesTheValueThatPostgreSQLCannotStore(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	schema, rows := schemaOf(t, pool), contentsOf(t, pool)
	file, db := withoutRules(t)
	template := must[[]byte](t)(os.ReadFile(file))
	set := func(assignment string) string {
		return "UPDATE remediation_actions SET " + assignment + " WHERE id = 117"
	}
	event := func(assignment string) string {
		return "UPDATE remediation_events SET " + assignment + " WHERE id = 117"
	}
	long := strings.Repeat("日", 256)
	for name, c := range map[string]struct{ sql, want string }{
		"an action of an unknown server": {set("server_id = 'gone'"), `remediation_actions 117: server_id "gone" is not a server`},
		"a server in another case":       {set("server_id = 'WEB-1'"), `remediation_actions 117: server_id "WEB-1" is not a server`},
		"an alert of an unknown server":  {"UPDATE alerts SET server_id = 'gone' WHERE id = 117", `alerts 117: server_id "gone" is not a server`},
		"a server's id that is too long": {"INSERT INTO servers (id) VALUES ('" + long + "')", `servers "` + long[:3*40] + `": id is longer than 100 characters`},
		"a server's id that is a BLOB":   {"INSERT INTO servers (id) VALUES (x'776562')", `servers "web": id is a BLOB`},
		"a mode that is text":            {"UPDATE servers SET is_paused = 'often' WHERE id = 'web-17'", `servers "web-17": is_paused "often" is not a boolean`},
		"a mode that is 2":               {"UPDATE servers SET is_paused = 2 WHERE id = 'web-17'", `servers "web-17": is_paused 2 is not a boolean`},
		"a mode that is NULL": {`ALTER TABLE servers DROP COLUMN is_paused; ALTER TABLE servers ADD COLUMN is_paused BOOLEAN;
			UPDATE servers SET is_paused = FALSE WHERE id <> 'web-17'`, `servers "web-17": is_paused is NULL`},
		"a pause that is not a time":      {"UPDATE servers SET paused_at = 'lunch' WHERE id = 'web-17'", `servers "web-17": paused_at "lunch" can't be read as a time`},
		"an alert's title too long":       {"UPDATE alerts SET title = '" + long + "' WHERE id = 117", `alerts 117: title is longer than 255 characters`},
		"a status too long":               {set("status = 'waiting for the manager'"), `remediation_actions 117: status is longer than 20 characters`},
		"a service's name too long":       {set("service_name = '" + long + "'"), `remediation_actions 117: service_name is longer than 255 characters`},
		"a command with a NUL byte":       {set("command = CAST(x'610062' AS TEXT)"), `remediation_actions 117: command contains a NUL byte`},
		"a reason that is not UTF-8":      {set("rejection_reason = CAST(x'6e6fff' AS TEXT)"), `remediation_actions 117: rejection_reason is not valid UTF-8`},
		"an approver that is a BLOB":      {set("approved_by = x'626f62'"), `remediation_actions 117: approved_by is a BLOB`},
		"a key that is too long":          {set("dedupe_key = '" + long + "'"), `remediation_actions 117: dedupe_key is longer than 255 characters`},
		"a time that is a number":         {set("created_at = 1700000000"), `remediation_actions 117: created_at 1700000000 can't be read as a time`},
		"a time that is a Julian day":     {set("executed_at = 2461060.5"), `remediation_actions 117: executed_at 2.4610605e+06 can't be read as a time`},
		"a time that is a word":           {set("approved_at = 'yesterday'"), `remediation_actions 117: approved_at "yesterday" can't be read as a time`},
		"a date that does not exist":      {set("completed_at = '2026-02-30 12:00:00'"), `remediation_actions 117: completed_at "2026-02-30 12:00:00" can't be read as a time`},
		"a time of a year with 5 digits":  {set("rejected_at = '10000-01-01 00:00:00'"), `remediation_actions 117: rejected_at "10000-01-01 00:00:00" can't be read as a time`},
		"a time that is a BLOB":           {set("created_at = x'32303236'"), `remediation_actions 117: created_at is a BLOB`},
		"an exit code that is text":       {set("exit_code = 'SIGKILL'"), `remediation_actions 117: exit_code "SIGKILL" is not an integer`},
		"an exit code that is a fraction": {set("exit_code = 1.5"), `remediation_actions 117: exit_code 1.5 is not an integer`},
		"an alert that is text":           {set("alert_id = 'CPU'"), `remediation_actions 117: alert_id "CPU" is not an integer`},
		"an event's actor too long":       {event("actor = '" + long + "'"), `remediation_events 117: actor is longer than 100 characters`},
		"an event's time that is a word":  {event("occurred_at = 'now'"), `remediation_events 117: occurred_at "now" can't be read as a time`},
		"an event's action that is text":  {event("action_id = 'first'"), `remediation_events 117: action_id "first" is not an integer`},
		"an event's detail with a NUL":    {event("detail = CAST(x'00' AS TEXT)"), `remediation_events 117: detail contains a NUL byte`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			if err := os.WriteFile(path, template, 0o600); err != nil {
				t.Fatal(err)
			}
			must[sql.Result](t)(openSQLite(t, path, "").Exec(ignoreConstraints + c.sql))
			err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro"))
			if !errors.Is(err, remediation.ErrInvalidInput) || err.Error() != "import SQLite ledger: "+c.want {
				t.Errorf("Import: %v, want the error %q", err, c.want)
			}
			same(t, "schema, with its triggers", schemaOf(t, pool), schema)
			same(t, "rows", contentsOf(t, pool), rows)
		})
	}
	// With _inttotime the driver reads integers as times, so that a year can be out of range.
	t.Run("a time out of range", func(t *testing.T) {
		must[sql.Result](t)(db.Exec(set("created_at = 9223372036854775807")))
		err := postgres.Import(t.Context(), pool, openSQLite(t, file, "mode=ro&_inttotime=1"))
		if err == nil || !strings.Contains(err.Error(), "remediation_actions 117: created_at ") || !strings.HasSuffix(err.Error(), " is out of range") {
			t.Errorf("Import: %v, want that created_at is out of range", err)
		}
		same(t, "rows", contentsOf(t, pool), rows)
	})
	walk(t, newLedger(postgres.New(pool)), "web-1")
}

// Such an action is imported without an alert, as ON DELETE SET NULL leaves it if foreign keys are on.
func TestImportOfAnActionWhoseAlertWasDeleted(t *testing.T) {
	t.Parallel()
	path, db := withoutRules(t)
	must[sql.Result](t)(db.Exec(ignoreConstraints + "DELETE FROM alerts WHERE id IN (1, 117, 250); UPDATE remediation_actions SET alert_id = NULL WHERE id = 2"))
	pool := pgtest.Pool(t, pgtest.URL(t))
	if err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro")); err != nil {
		t.Fatal(err)
	}
	same(t, "actions without an alert", column[int64](t, pool, "SELECT id FROM remediation_actions WHERE alert_id IS NULL ORDER BY id"),
		[]int64{1, 2, 117, 250})
	same(t, "how many actions have their own alert", one[int](t, pool, "SELECT count(*)::int FROM remediation_actions WHERE alert_id = id"), 246)
}

// A Ledger refuses to add such a server, but an older program may have added one.
func TestImportCopiesAServerWithAnEmptyID(t *testing.T) {
	t.Parallel()
	path, db := sqliteLedger(t, newest(t))
	must[sql.Result](t)(db.Exec(manySQLiteRows))
	must[sql.Result](t)(db.Exec("INSERT INTO servers (id) VALUES ('')"))
	pool := pgtest.Pool(t, pgtest.URL(t))
	if err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro")); err != nil {
		t.Fatal(err)
	}
	same(t, "servers", one[int](t, pool, "SELECT count(*)::int FROM servers"), 251)
}

// copyInterruption is an interruption that also counts the COPYs of a connection. It calls do when one begins.
type copyInterruption struct {
	interruption
}

func (c *copyInterruption) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return c.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{})
}

func (*copyInterruption) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

func TestCancelledImportLeavesTheTargetEmpty(t *testing.T) {
	t.Parallel()
	path, db := sqliteLedger(t, newest(t))
	must[sql.Result](t)(db.Exec(manySQLiteRows))
	from := openSQLite(t, path, "mode=ro")
	url := pgtest.URL(t)
	observer := connect(t, url)
	schema, rows := schemaOf(t, observer), contentsOf(t, observer)
	attempt := func(at int) (statements int, err error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tracer := &copyInterruption{interruption{at: at, do: cancel}}
		pool := traced(t, url, tracer)
		err = postgres.Import(ctx, pool, from)
		statements = tracer.seen
		wantIdlePool(t, pool)
		return statements, err
	}
	for at := 1; ; at++ {
		statements, err := attempt(at)
		if statements < at { // the attempt had fewer statements, so it was not cancelled
			t.Logf("cancelled before each of %d statements and COPYs", statements)
			if err != nil {
				t.Error(err)
			}
			same(t, "actions", one[int](t, observer, "SELECT count(*)::int FROM remediation_actions"), 250)
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Import, cancelled at statement %d: %v, want context.Canceled", at, err)
		}
		same(t, fmt.Sprintf("schema after a cancel at statement %d", at), schemaOf(t, observer), schema)
		same(t, fmt.Sprintf("rows after a cancel at statement %d", at), contentsOf(t, observer), rows)
	}
}

func TestOnlyOneOfTwoImportsFillsTheTarget(t *testing.T) {
	t.Parallel()
	path, db := sqliteLedger(t, newest(t))
	must[sql.Result](t)(db.Exec(manySQLiteRows))
	from, pool := openSQLite(t, path, "mode=ro"), pgtest.Pool(t, pgtest.URL(t))
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- postgres.Import(t.Context(), pool, from) }()
	}
	refused := 0
	for range 2 {
		err := <-ended
		if errors.Is(err, remediation.ErrInvalidInput) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	same(t, "how many imports were refused", refused, 1)
	same(t, "actions", one[int](t, pool, "SELECT count(*)::int FROM remediation_actions"), 250)
}
