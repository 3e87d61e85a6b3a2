package postgres_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
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

// Import copies every row unchanged, and the PostgreSQL ledger then works like any other.
func TestImportCopiesEveryRowAndTheLedgerWorks(t *testing.T) {
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
	same(t, "actions, statuses and the longest output in bytes of the source", []int{len(want), len(statuses), longest}, []int{509, 7, 1 << 20})
	want4 := want[4]
	want4.Stdout, want4.Stderr = new("caf\uFFFD\uFFFD\uFFFDend\uFFFD"), new("\uFFFD\uFFFD")
	want[4] = want4
	wantServers := must[[]sqlitedb.Server](t)(sqlitedb.New(from).ExportServers(t.Context(),
		sqlitedb.ExportServersParams{MaxRows: 1000}))
	wantAlerts := must[[]sqlitedb.Alert](t)(sqlitedb.New(from).ExportAlerts(t.Context(), sqlitedb.ExportAlertsParams{MaxRows: 1000}))
	wantEvents := eventsInUTC(must[[]sqlitedb.RemediationEvent](t)(sqlitedb.New(from).ExportEvents(t.Context(),
		sqlitedb.ExportEventsParams{MaxRows: 10_000})))
	if len(wantEvents) < len(want) {
		t.Fatalf("the source has only %d events", len(wantEvents))
	}

	for name, databaseURL := range map[string]func(t *testing.T) string{
		"default": func(t *testing.T) string { return pgtest.URL(t) },
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
			same(t, "servers", serversInUTC(collect[sqlitedb.Server](t, pool,
				`SELECT id, is_paused, paused_at FROM servers ORDER BY id COLLATE "C"`)), serversInUTC(wantServers))
			same(t, "alerts", collect[sqlitedb.Alert](t, pool, "SELECT id, server_id, title FROM alerts ORDER BY id"), wantAlerts)
			same(t, "events", eventsInUTC(collect[sqlitedb.RemediationEvent](t, pool, `
				SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events ORDER BY id`)), wantEvents)
			feed := &feedReader{ledger: ledger}
			same(t, "number of events in the feed", feed.poll(t), len(wantEvents))
			wantWorkingLedger(t, pool, ledger, lastAction, lastAlert)
		})
	}
}

// wantWorkingLedger expects an imported ledger to enforce the rules, continue the lifecycle of imported actions, and
// give new rows the ids after lastAction and lastAlert.
func wantWorkingLedger(t *testing.T, pool *pgxpool.Pool, ledger *remediation.Ledger, lastAction, lastAlert int64) {
	t.Helper()
	for _, change := range []string{"command = 'rm -rf /'", "status = 'completed'", "alert_id = NULL", "stdout = 'fine'", "approved_by = 'eve'"} {
		_, err := pool.Exec(t.Context(), "UPDATE remediation_actions SET "+change)
		same(t, "the SQLSTATE of SET "+change, sqlState(err), "23514")
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
	same(t, "Claim of an imported action", do(ledger.Claim(t.Context(), "web-0")).ID, approved.ID)
	same(t, "Finish of an imported action", do(ledger.Finish(t.Context(), "web-0", approved.ID, remediation.Result{})).Status, remediation.Completed)
	pending := oldest("web-5", remediation.Pending)
	same(t, "Approve of an imported action", do(ledger.Approve(t.Context(), pending.ID, "bob")).Status, remediation.Approved)
	same(t, "Claim on an imported paused server", do(ledger.Claim(t.Context(), "web-5")).ID, pending.ID)
	same(t, "the id of the first new action", do(ledger.Create(t.Context(), newAction("web-0"))).ID, lastAction+1)
	same(t, "the id of the first new alert", must[int64](t)(ledger.AddAlert(t.Context(), "web-0", "down")), lastAlert+1)
	walk(t, ledger, "new-1")
}

func TestImportRefusesAnUnsuitableSourceOrTarget(t *testing.T) {
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

// The newest version of the Python original has columns that the ledger does not know, the terminal status timed_out,
// and actions of deleted alerts, because its foreign keys were off.
func TestImportOfAnAdoptedOriginal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "homelab.db")
	db := openSQLite(t, path, "_time_format=sqlite")
	tables := must[[]byte](t)(os.ReadFile("../sqlite/testdata/original_newest.sql"))
	for _, statements := range []string{
		string(tables),
		`INSERT INTO servers (id, hostname, status, is_paused, is_inactive) VALUES ('web-1', 'web-1.lan', 'online', 0, 0)`,
		`INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by, alert_id, approved_at,
			approved_by, executed_at, completed_at, exit_code, stderr, timeout_seconds, timed_out_at) VALUES
			(1, 'web-1', 'reboot', 'timed_out', 'true', '2026-01-19 15:36:01.617957', 'dashboard', NULL, '2026-01-19 15:36:02.000000',
				'auto', '2026-01-19 15:37:00.000001', '2026-01-19 15:37:31.000000', -1, 'timed out', 30, '2026-01-19 15:37:31.000000'),
			(2, 'web-1', 'reboot', 'pending', 'true', '2026-01-19 15:36:01.617957', 'dashboard', 4711, NULL,
				NULL, NULL, NULL, NULL, NULL, 30, NULL)`,
		// As `migrate force 4` does.
		`CREATE TABLE schema_migrations (version uint64, dirty bool); INSERT INTO schema_migrations VALUES (4, FALSE)`,
	} {
		must[sql.Result](t)(db.Exec(statements))
	}
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	want := eventsInUTC(must[[]sqlitedb.RemediationEvent](t)(sqlitedb.New(db).ExportEvents(t.Context(),
		sqlitedb.ExportEventsParams{MaxRows: 100})))

	pool := pgtest.Pool(t, pgtest.URL(t))
	if err := postgres.Import(t.Context(), pool, db); err != nil {
		t.Fatal(err)
	}
	var kinds []remediation.EventKind
	got := eventsInUTC(collect[sqlitedb.RemediationEvent](t, pool,
		"SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events ORDER BY id"))
	for _, e := range got {
		kinds = append(kinds, e.Kind)
	}
	same(t, "events", got, want)
	same(t, "their kinds", kinds, []remediation.EventKind{remediation.EventCreated, remediation.EventCreated,
		remediation.EventApproved, remediation.EventExecuting, remediation.EventFailed})
	ledger := newLedger(postgres.New(pool))
	why := must[remediation.Explanation](t)(ledger.Explain(t.Context(), 1))
	same(t, "Explain", why.String(), "action 1 timed out at 2026-01-19 15:37:31 UTC with exit code -1")
	listed := must[[]remediation.Action](t)(ledger.List(t.Context(), remediation.Filter{Status: "timed_out"}))
	same(t, "number of actions that timed out", len(listed), 1)
	same(t, "the reference to the deleted alert", must[remediation.Action](t)(ledger.Get(t.Context(), 2)).AlertID, (*int64)(nil))
}

func migrated(t *testing.T, pool *pgxpool.Pool) { migrate(t, pool) }

// sourceAt returns a function that creates an SQLite ledger at a version.
func sourceAt(version int) func(t *testing.T) string {
	return func(t *testing.T) string {
		path, _ := sqliteLedger(t, version)
		return path
	}
}

// actionsUpTo returns every action with an id up to last. It truncates created_at to microseconds, as PostgreSQL stores
// it.
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

// collect returns the rows of a query as structs.
func collect[Row any](t *testing.T, db postgresdb.DBTX, query string) []Row {
	t.Helper()
	rows, err := db.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return must[[]Row](t)(pgx.CollectRows(rows, pgx.RowToStructByPos[Row]))
}

func serversInUTC(servers []sqlitedb.Server) []sqlitedb.Server {
	for i, s := range servers {
		if s.PausedAt != nil {
			servers[i].PausedAt = new(s.PausedAt.UTC())
		}
	}
	return servers
}

// eventsInUTC converts the times to UTC and truncates them to microseconds, as PostgreSQL stores them.
func eventsInUTC(events []sqlitedb.RemediationEvent) []sqlitedb.RemediationEvent {
	for i, e := range events {
		events[i].OccurredAt = e.OccurredAt.UTC().Truncate(time.Microsecond)
	}
	return events
}

func TestImportCopiesLimitsAndSettings(t *testing.T) {
	t.Parallel()
	path, now := limitedSQLiteLedger(t)
	source := remediation.New(must[*sqlite.Store](t)(sqlite.New(t.Context(), openSQLite(t, path, "_pragma=foreign_keys(1)&_time_format=sqlite"))))
	pool := pgtest.Pool(t, pgtest.URL(t))
	if err := postgres.Import(t.Context(), pool, openSQLite(t, path, "mode=ro")); err != nil {
		t.Fatal(err)
	}
	ledger := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return now }))
	for id := int64(1); id <= 2; id++ {
		want := must[remediation.Action](t)(source.Get(t.Context(), id))
		same(t, "action", must[remediation.Action](t)(ledger.Get(t.Context(), id)), want)
		same(t, "its history", must[[]remediation.Event](t)(ledger.History(t.Context(), id)), must[[]remediation.Event](t)(source.History(t.Context(), id)))
	}
	same(t, "servers", must[[]remediation.Server](t)(ledger.Servers(t.Context(), "", 0)), must[[]remediation.Server](t)(source.Servers(t.Context(), "", 0)))
	pending := must[remediation.Action](t)(ledger.Get(t.Context(), 2))
	_, err := ledger.Approve(t.Context(), pending.ID, pending.CreatedBy)
	refused, _ := errors.AsType[*remediation.TransitionError](err)
	same(t, "the reason against approval by the creator", refused.Why, remediation.ReasonSelfApproval)
}
