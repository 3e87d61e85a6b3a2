package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// manySQLiteRows is more than one page of everything.
const manySQLiteRows = `
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
	INSERT INTO servers (id) SELECT 'web-' || i FROM n;
	INSERT INTO alerts (server_id, title) SELECT id, 'down' FROM servers;
	INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, alert_id)
	SELECT server_id, 'restart_service', 'pending', 'true', '2026-01-19 15:36:01.617957', 'dashboard', id FROM alerts;`

func TestFailedImportLeavesTheTargetEmpty(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	schema, rows := schemaOf(t, pool), contentsOf(t, pool)
	insert := func(service, command, alert string) string {
		return fmt.Sprintf(`INSERT INTO remediation_actions (server_id, action_type, status, service_name, command, created_at, created_by, alert_id)
			VALUES ('web-1', 'restart_service', 'pending', %s, %s, '2026-01-19 15:36:01', 'dashboard', %s)`, service, command, alert)
	}
	long := "'" + strings.Repeat("x", 300) + "'"
	for name, c := range map[string]struct{ sql, state string }{
		"a server's id that is too long":    {"INSERT INTO servers (id) VALUES (" + long + ")", "22001"},
		"a service's name that is too long": {insert(long, "'true'", "NULL"), "22001"},
		"a command with a NUL byte":         {"DROP TRIGGER remediation_actions_insert; " + insert("NULL", "CAST(x'610062' AS TEXT)", "NULL"), "22021"},
		"an alert that does not exist":      {"PRAGMA foreign_keys = OFF; " + insert("NULL", "'true'", "4711"), "23503"},
	} {
		t.Run(name, func(t *testing.T) {
			path, db := sqliteLedger(t, newest(t))
			must[sql.Result](t)(db.Exec(manySQLiteRows))
			must[sql.Result](t)(db.Exec(c.sql))
			err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro"))
			same(t, fmt.Sprintf("the server's answer to Import: %v", err), sqlState(err), c.state)
			same(t, "schema, with its triggers", schemaOf(t, pool), schema)
			same(t, "rows", contentsOf(t, pool), rows)
		})
	}
	walk(t, newLedger(postgres.New(pool)), "web-1")
}

// Nobody can add such a server through a Ledger, but an older program may have.
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

// copies does something at one of a connection's COPYs: when it begins.
type copies struct {
	interruption
}

func (c *copies) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return c.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{})
}

func (*copies) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

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
		tracer := &copies{interruption{at: at, do: cancel}}
		pool := traced(t, url, tracer)
		err = postgres.Import(ctx, pool, from)
		statements = tracer.seen
		useAll(t, pool)
		return statements, err
	}
	for at := 1; ; at++ {
		statements, err := attempt(at)
		if statements < at { // so it was not cancelled
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
	same(t, "how many were refused", refused, 1)
	same(t, "actions", one[int](t, pool, "SELECT count(*)::int FROM remediation_actions"), 250)
}
