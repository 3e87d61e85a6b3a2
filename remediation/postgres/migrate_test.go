package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// Migrate creates the schema in an empty database. A second Migrate changes nothing.
func TestMigrateFromEmptyAndAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	migrate(t, pool)
	same(t, "version", stateOf(t, pool), &state{newest(t), false})
	all := walk(t, newLedger(postgres.New(pool)), "web-1")

	schema, rows := schemaOf(t, pool), contentsOf(t, pool)
	migrate(t, pool)
	same(t, "version after the second Migrate", stateOf(t, pool), &state{newest(t), false})
	same(t, "schema after the second Migrate", schemaOf(t, pool), schema)
	same(t, "rows after the second Migrate", contentsOf(t, pool), rows)
	readBack(t, newLedger(postgres.New(pool)), all) // also checks that Migrate has not closed the pool
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, conn *pgx.Conn){
		"the first step": func(t *testing.T, conn *pgx.Conn) {
			run(t, conn, "CREATE TABLE alerts (id TEXT PRIMARY KEY, name TEXT)")
			run(t, conn, "INSERT INTO alerts VALUES ('1', 'the host program''s own')")
		},
		"a later step": func(t *testing.T, conn *pgx.Conn) {
			upTo(t, conn, 2)
			run(t, conn, "CREATE TABLE remediation_actions_by_type (id BIGINT)") // the name of an index of the ledger
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.EmptyURL(t)
			conn, pool := connect(t, url), pgtest.Pool(t, url)
			prepare(t, conn)
			version, schema, rows := stateOf(t, conn), schemaOf(t, conn), contentsOf(t, conn)
			for range 2 {
				if err := postgres.Migrate(t.Context(), pool); sqlState(err) != "42P07" { // duplicate_table
					t.Errorf("Migrate: %v, want duplicate_table", err)
				}
				same(t, "version", stateOf(t, conn), version)
				same(t, "schema", schemaOf(t, conn), schema)
				same(t, "rows", contentsOf(t, conn), rows)
			}
			run(t, conn, "DROP TABLE IF EXISTS remediation_actions_by_type")
			if version == nil {
				run(t, conn, "DROP TABLE alerts")
			}
			migrate(t, pool)
			walk(t, newLedger(postgres.New(pool)), "web-2")
		})
	}
}

func TestUnsuitableSchemaIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema   string
		says     string // part of the error
		migrates bool   // whether Migrate works
	}{
		"none at all":     {"", "no schema yet; call Migrate", true},
		"all reverted":    {"CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL)", "call Migrate", true},
		"newer":           {"UPDATE schema_migrations SET version = 999", "upgrade the program", false},
		"dirty":           {"UPDATE schema_migrations SET dirty = TRUE", "left half done", false},
		"dirty and newer": {"UPDATE schema_migrations SET dirty = TRUE, version = 999", "left half done", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.EmptyURL(t)
			pool, conn := pgtest.Pool(t, url), connect(t, url)
			if !c.migrates {
				migrate(t, pool)
			}
			run(t, conn, c.schema)
			schema := schemaOf(t, conn)
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, remediation.ErrSchemaVersion) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want ErrSchemaVersion that says %q", what, err, c.says)
				}
			}
			if !c.migrates {
				refused("Migrate", postgres.Migrate(t.Context(), pool))
			}
			for name := range calls(nil) {
				for on, db := range map[string]postgresdb.DBTX{"pool": pool, "conn": conn} {
					refused(name+" on a "+on, calls(newLedger(postgres.New(db)))[name](t.Context()))
				}
				tx := begin(t, pool)
				refused(name+" on a tx", calls(newLedger(postgres.New(tx)))[name](t.Context()))
				tx.Rollback(t.Context())
			}
			same(t, "schema after the refusals", schemaOf(t, conn), schema)
			if c.migrates {
				store := postgres.New(pool)
				refused("the first call of a store", newLedger(store).AddServer(t.Context(), "web-1"))
				migrate(t, pool)
				walk(t, newLedger(store), "web-1")
			}
		})
	}
}

func TestCancelledWaitForTheLockChangesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn, observer := connect(t, url), pgtest.Pool(t, url)
	config := must[*pgxpool.Config](t)(pgxpool.ParseConfig(url))
	config.MaxConns = 2
	pool := must[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), config))
	t.Cleanup(func() { go pool.Close() }) // in the background, because a leaked connection would block it
	upTo(t, conn, 3)
	version, schema := stateOf(t, conn), schemaOf(t, conn)

	// The lock of the CLI, which uses the path of its URL as the database's name.
	lock := must[string](t)(database.GenerateAdvisoryLockId("/"+one[string](t, conn, "SELECT current_database()::text"),
		"public", "schema_migrations"))
	run(t, conn, "SELECT pg_advisory_lock($1)", lock)
	for range 4 { // more often than the pool has connections, so that a leak blocks it
		ctx, cancel := context.WithCancel(bounded(t))
		returned := make(chan error, 1)
		go func() { returned <- postgres.Migrate(ctx, pool) }()
		untilWaiting(t, observer, 1, returned)
		cancel()
		if err := <-returned; !errors.Is(err, context.Canceled) {
			t.Errorf("Migrate: %v, want context.Canceled", err)
		}
		same(t, "version", stateOf(t, conn), version)
		same(t, "schema", schemaOf(t, conn), schema)
		wantIdlePool(t, pool)
	}
	run(t, conn, "SELECT pg_advisory_unlock($1)", lock)
	migrate(t, pool)
	wantIdlePool(t, pool)
}

// wantIdlePool expects that all connections of the pool can be acquired at once, work, and are not in a transaction.
func wantIdlePool(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(bounded(t))
		if err != nil {
			t.Fatalf("acquire every connection: %v", err)
		}
		defer conn.Release()
		same(t, "transaction status", conn.Conn().PgConn().TxStatus(), byte('I'))
		same(t, "an answer", one[int](t, conn, "SELECT 1"), 1)
	}
}

// Two ledgers share a database. Each has a schema of its own, and their tables have the same names.
func TestLedgerLivesInTheSchemaOfTheSearchPath(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{"search_path": "ledger", "options": "-csearch_path=ledger"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			url := pgtest.EmptyURL(t)
			shell := connect(t, url)
			run(t, shell, "CREATE SCHEMA ledger")
			pool := pgtest.Pool(t, with(t, url, key, value))
			migrate(t, pool)
			same(t, "objects that Migrate created in public", schemaOf(t, shell), []string{})
			ledger := newLedger(postgres.New(pool))
			all := walk(t, ledger, "web-1")

			other := pgtest.Pool(t, url)
			if err := newLedger(postgres.New(other)).AddServer(t.Context(), "web-1"); !errors.Is(err, remediation.ErrSchemaVersion) {
				t.Errorf("AddServer outside the search path: %v, want ErrSchemaVersion", err)
			}
			migrate(t, other)
			walk(t, newLedger(postgres.New(other)), "web-1")
			readBack(t, ledger, all)

			// An alert can be deleted by a session without the ledger in its search path. In that search path there is
			// another alert with the same id.
			run(t, shell, "DELETE FROM ledger.alerts")
			for _, a := range all {
				a.AlertID = nil
				same(t, "an action whose alert was deleted", must[remediation.Action](t)(ledger.Get(t.Context(), a.ID)), a)
			}
			same(t, "the alerts in public", one[int](t, shell, "SELECT count(*)::int FROM alerts"), 1)
			_, err := shell.Exec(t.Context(), "UPDATE ledger.remediation_actions SET status = 'pending'")
			same(t, "the SQLSTATE of raw SQL", sqlState(err), "23514")
		})
	}
}

// upTo migrates an empty database to version, without golang-migrate.
func upTo(t testing.TB, db postgresdb.DBTX, version int) {
	t.Helper()
	for v := 1; v <= version; v++ {
		step(t, db, v, "up")
	}
}
