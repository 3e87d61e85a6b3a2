package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// These helpers open databases for the tests, and read and write them without the ledger.

// goodPool has the DSN parameters that a pool for New should have.
const goodPool = "_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_time_format=sqlite"

func poolDSN(path, params string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + params
}

// ledgerFile returns the path of a database that does not exist yet. After the test, the database must pass SQLite's
// own checks.
func ledgerFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	t.Cleanup(func() { checkLedgerFile(t, path) })
	return path
}

func checkLedgerFile(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	db := rawPool(t, path, "")
	defer db.Close()
	if diff := cmp.Diff([]string{"ok"}, rawColumn(t, db, "PRAGMA integrity_check")); diff != "" {
		t.Errorf("%s fails its integrity check (-want +got):\n%s", path, diff)
	}
	if broken := rawColumn(t, db, `SELECT "table" FROM pragma_foreign_key_check`); len(broken) > 0 {
		t.Errorf("%s has dangling references in %v", path, broken)
	}
}

// openLedger opens the ledger at path, without Migrate.
func openLedger(t testing.TB, path string, opts ...sqlite.Option) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// openMigrated opens the ledger at path and migrates it.
func openMigrated(t testing.TB, path string, opts ...sqlite.Option) *sqlite.Store {
	t.Helper()
	store := openLedger(t, path, opts...)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

// serverStore opens the ledger at path, migrates it, and adds the server "web-1".
func serverStore(t testing.TB, path string, opts ...sqlite.Option) *sqlite.Store {
	t.Helper()
	store := openMigrated(t, path, opts...)
	if err := remediation.New(store).AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return store
}

// storeOn returns a Store that uses the test's own pool.
func storeOn(t testing.TB, db *sql.DB) *sqlite.Store {
	t.Helper()
	store, err := sqlite.New(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// rawPool opens path like another program, without the ledger.
func rawPool(t testing.TB, path, params string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", poolDSN(path, params))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func rawExec(t testing.TB, db *sql.DB, statements string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statements, args...); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// withoutTriggers runs write while the triggers that meet the condition are dropped, and creates them again.
func withoutTriggers(t testing.TB, db *sql.DB, condition string, write func()) {
	t.Helper()
	from := " FROM sqlite_master WHERE type = 'trigger' AND " + condition
	rules := rawColumn(t, db, "SELECT sql"+from)
	for _, drop := range rawColumn(t, db, "SELECT 'DROP TRIGGER ' || name"+from) {
		rawExec(t, db, drop)
	}
	write()
	for _, rule := range rules {
		rawExec(t, db, rule)
	}
}

// rawColumn returns the first column of every row, as text.
func rawColumn(t testing.TB, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var values []string
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		values = append(values, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}

// contents has the rows of a database by table and column. Each list has the column's value of every row, by rowid.
type contents map[string]map[string][]string

// rawContents reads each value as an SQL literal with its storage class, so that only identical values compare equal.
func rawContents(t testing.TB, db *sql.DB) contents {
	t.Helper()
	all := contents{}
	for _, table := range rawColumn(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
		columns := rawColumn(t, db, "SELECT name FROM pragma_table_info(?)", table)
		all[table] = map[string][]string{}
		var literals []string
		row, values := make([]any, len(columns)), make([]string, len(columns))
		for i, column := range columns {
			all[table][column] = nil
			literals = append(literals, fmt.Sprintf("typeof(%[1]s) || ' ' || quote(%[1]s)", column))
			row[i] = &values[i]
		}
		rows, err := db.Query(fmt.Sprintf("SELECT %s FROM %s ORDER BY rowid", strings.Join(literals, ", "), table))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			err = errors.Join(err, rows.Scan(row...))
			for i, column := range columns {
				all[table][column] = append(all[table][column], values[i])
			}
		}
		if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// within returns the tables and columns of c that other has too, without the table of golang-migrate.
func (c contents) within(other contents) contents {
	shared := contents{}
	for table, columns := range other {
		if c[table] == nil || table == "schema_migrations" {
			continue
		}
		shared[table] = map[string][]string{}
		for column := range columns {
			if values, ok := c[table][column]; ok {
				shared[table][column] = values
			}
		}
	}
	return shared
}

// rawSchema returns every object of the schema as sqlite_master has it.
func rawSchema(t testing.TB, db *sql.DB) []string {
	t.Helper()
	return rawColumn(t, db, "SELECT concat_ws(' | ', type, name, tbl_name, sql) FROM sqlite_master ORDER BY type, name")
}

// rawVersion returns the version in golang-migrate's table, or -1 if there is none.
func rawVersion(t testing.TB, db *sql.DB) (version int, dirty bool) {
	t.Helper()
	if rawColumn(t, db, "SELECT name FROM sqlite_master WHERE name = 'schema_migrations'") == nil {
		return -1, false
	}
	err := db.QueryRow("SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty)
	if errors.Is(err, sql.ErrNoRows) {
		return -1, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return version, dirty
}

func newestVersion(t testing.TB) int {
	t.Helper()
	version, err := migration.Latest(schema.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// walkLifecycle creates actions of the server and takes them through every transition, so that every status has an
// action. It returns the ids by status. The server must not be paused and must have no approved actions.
func walkLifecycle(t testing.TB, ledger *remediation.Ledger, serverID string, alertID *int64) map[remediation.Status][]int64 {
	t.Helper()
	ctx := t.Context()
	do := func(a remediation.Action, err error) remediation.Action {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	create := func() int64 {
		return do(ledger.Create(ctx, remediation.NewAction{
			ServerID: serverID, ActionType: "restart_service", Command: "systemctl restart nginx", CreatedBy: "dashboard",
			AlertID: alertID,
		})).ID
	}
	claimed, withdrawn := create(), create()
	if got := do(ledger.Claim(ctx, serverID)).ID; got != claimed {
		t.Fatalf("claimed action %d, want %d", got, claimed)
	}
	do(ledger.Finish(ctx, serverID, claimed, remediation.Result{Stdout: "done\n"}))
	do(ledger.Withdraw(ctx, withdrawn, "alice", "not tonight"))
	approved := create()

	if err := ledger.Pause(ctx, serverID); err != nil {
		t.Fatal(err)
	}
	pending, rejected, failed, executing := create(), create(), create(), create()
	do(ledger.Reject(ctx, rejected, "alice", "wrong server"))
	for _, id := range []int64{failed, executing} {
		do(ledger.Approve(ctx, id, "alice"))
		do(ledger.Start(ctx, id))
	}
	do(ledger.Finish(ctx, serverID, failed, remediation.Result{ExitCode: 3, Stderr: "no such unit\n"}))
	if err := ledger.Unpause(ctx, serverID); err != nil {
		t.Fatal(err)
	}

	want := map[remediation.Status][]int64{
		remediation.Pending: {pending}, remediation.Approved: {approved}, remediation.Rejected: {rejected, withdrawn},
		remediation.Executing: {executing}, remediation.Completed: {claimed}, remediation.Failed: {failed},
	}
	got := map[remediation.Status][]int64{}
	listed, err := ledger.List(ctx, remediation.Filter{ServerID: serverID, Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range listed {
		got[a.Status] = append(got[a.Status], a.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("ids by status (-want +got):\n%s", diff)
	}
	return got
}
