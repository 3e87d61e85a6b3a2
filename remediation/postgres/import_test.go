package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

func TestImportCopiesEveryRowAndTheLedgerGoesOn(t *testing.T) {
	t.Parallel()
	path, lastAction, lastAlert := filledSQLiteLedger(t)
	from := openSQLite(t, path, "mode=ro") // Import writes nothing there
	source := remediation.New(must[*sqlite.Store](t)(sqlite.New(t.Context(),
		openSQLite(t, path, "_pragma=foreign_keys(1)&_time_format=sqlite"))))
	want := actionsUpTo(t, source, lastAction)
	statuses, longest := map[remediation.Status]int{}, 0
	for _, a := range want {
		statuses[a.Status]++
		if a.Stdout != nil {
			longest = max(longest, len(*a.Stdout))
		}
	}
	same(t, "how many actions, statuses and bytes of output the source has", []int{len(want), len(statuses), longest}, []int{509, 7, 1 << 20})
	want4 := want[4]
	want4.Stdout, want4.Stderr = new("caf\uFFFD\uFFFD\uFFFDend\uFFFD"), new("\uFFFD\uFFFD")
	want[4] = want4
	wantServers := must[[]sqlitedb.Server](t)(sqlitedb.New(from).ExportServers(t.Context(),
		sqlitedb.ExportServersParams{MaxRows: 1000}))
	wantAlerts := must[[]sqlitedb.Alert](t)(sqlitedb.New(from).ExportAlerts(t.Context(), sqlitedb.ExportAlertsParams{MaxRows: 1000}))

	for name, databaseURL := range map[string]func(t *testing.T) string{
		"pool as it is": func(t *testing.T) string { return pgtest.URL(t) },
		"simple protocol": func(t *testing.T) string {
			return with(t, pgtest.URL(t), "default_query_exec_mode", "simple_protocol")
		},
		"schema of its own": func(t *testing.T) string {
			url := pgtest.EmptyURL(t)
			run(t, connect(t, url), "CREATE SCHEMA ledger")
			return with(t, url, "search_path", "ledger")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, databaseURL(t))
			migrate(t, pool)
			schema := schemaOf(t, pool)
			if err := postgres.Import(t.Context(), pool, from); err != nil {
				t.Fatal(err)
			}
			same(t, "schema, with its triggers", schemaOf(t, pool), schema)
			ledger := newLedger(postgres.New(pool))
			same(t, "actions", actionsUpTo(t, ledger, lastAction), want)
			same(t, "servers", utc(collect[sqlitedb.Server](t, pool,
				`SELECT id, is_paused, paused_at FROM servers ORDER BY id COLLATE "C"`)), utc(wantServers))
			same(t, "alerts", collect[sqlitedb.Alert](t, pool, "SELECT id, server_id, title FROM alerts ORDER BY id"), wantAlerts)
			goesOn(t, pool, ledger, lastAction, lastAlert)
		})
	}
}

// goesOn expects of a copied ledger what is expected of any other.
func goesOn(t *testing.T, pool *pgxpool.Pool, ledger *remediation.Ledger, lastAction, lastAlert int64) {
	t.Helper()
	for _, change := range []string{"command = 'rm -rf /'", "status = 'completed'", "alert_id = NULL", "stdout = 'fine'", "approved_by = 'eve'"} {
		_, err := pool.Exec(t.Context(), "UPDATE remediation_actions SET "+change)
		same(t, "the answer to SET "+change, sqlState(err), "23514")
	}
	do := must[remediation.Action](t)
	oldest := func(serverID string, status remediation.Status) remediation.Action {
		t.Helper()
		list := must[[]remediation.Action](t)(ledger.List(t.Context(), remediation.Filter{ServerID: serverID, Status: status}))
		if len(list) == 0 {
			t.Fatalf("no action of %s is %s", serverID, status)
		}
		return list[len(list)-1]
	}
	approved := oldest("web-0", remediation.Approved)
	same(t, "Claim of a copied action", do(ledger.Claim(t.Context(), "web-0")).ID, approved.ID)
	same(t, "Finish of a copied action", do(ledger.Finish(t.Context(), "web-0", approved.ID, remediation.Result{})).Status, remediation.Completed)
	pending := oldest("web-5", remediation.Pending)
	same(t, "Approve of a copied action", do(ledger.Approve(t.Context(), pending.ID, "bob")).Status, remediation.Approved)
	same(t, "Claim in the copied maintenance", do(ledger.Claim(t.Context(), "web-5")).ID, pending.ID)
	same(t, "the first new action", do(ledger.Create(t.Context(), newAction("web-0"))).ID, lastAction+1)
	same(t, "the first new alert", must[int64](t)(ledger.AddAlert(t.Context(), "web-0", "down")), lastAlert+1)
	walk(t, ledger, "new-1")
}

func TestImportRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	newestSource, _ := sqliteLedger(t, newest(t))
	for name, c := range map[string]struct {
		target func(t *testing.T, pool *pgxpool.Pool)
		source func(t *testing.T) string
		want   error
	}{
		"a target in use": {func(t *testing.T, pool *pgxpool.Pool) {
			migrate(t, pool)
			run(t, pool, "INSERT INTO servers (id) VALUES ('web-1')")
		}, nil, remediation.ErrInvalidInput},
		"a target without schema": {func(*testing.T, *pgxpool.Pool) {}, nil, remediation.ErrSchemaVersion},
		"an older target":         {func(t *testing.T, pool *pgxpool.Pool) { upTo(t, pool, 4) }, nil, remediation.ErrSchemaVersion},
		"a source without schema": {migrated, sourceAt(0), remediation.ErrSchemaVersion},
		"an older source":         {migrated, sourceAt(4), remediation.ErrSchemaVersion},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.EmptyURL(t))
			c.target(t, pool)
			path := newestSource
			if c.source != nil {
				path = c.source(t)
			}
			schema, rows := schemaOf(t, pool), contentsOf(t, pool)
			err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro"))
			if !errors.Is(err, c.want) {
				t.Errorf("Import: %v, want %v", err, c.want)
			}
			same(t, "schema", schemaOf(t, pool), schema)
			same(t, "rows", contentsOf(t, pool), rows)
		})
	}
}

func migrated(t *testing.T, pool *pgxpool.Pool) { migrate(t, pool) }

func sourceAt(version int) func(t *testing.T) string {
	return func(t *testing.T) string {
		path, _ := sqliteLedger(t, version)
		return path
	}
}

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
		"a command with a NUL byte":         {insert("NULL", "CAST(x'610062' AS TEXT)", "NULL"), "22021"},
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

// actionsUpTo is every action whose id is at most last, with its times in the resolution of both engines.
func actionsUpTo(t *testing.T, l *remediation.Ledger, last int64) map[int64]remediation.Action {
	t.Helper()
	all := map[int64]remediation.Action{}
	for id := int64(1); id <= last; id++ {
		a, err := l.Get(t.Context(), id)
		if errors.Is(err, remediation.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		a.CreatedAt = a.CreatedAt.Truncate(time.Microsecond)
		all[id] = a
	}
	return all
}

func collect[Row any](t *testing.T, db postgresdb.DBTX, query string) []Row {
	t.Helper()
	rows, err := db.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return must[[]Row](t)(pgx.CollectRows(rows, pgx.RowToStructByPos[Row]))
}

func utc(servers []sqlitedb.Server) []sqlitedb.Server {
	for i, s := range servers {
		if s.PausedAt != nil {
			servers[i].PausedAt = new(s.PausedAt.UTC())
		}
	}
	return servers
}
