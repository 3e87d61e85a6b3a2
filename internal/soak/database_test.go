package soak

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// database is the path of an SQLite file or a PostgreSQL URL. Another process can open the ledger with it.
type database string

func (d database) isPostgres() bool { return strings.HasPrefix(string(d), "postgres") }

// engines has a function for each engine that creates a database for a test.
var engines = map[string]func(t *testing.T) database{
	"sqlite":   newSQLite,
	"postgres": func(t *testing.T) database { return database(pgtest.URL(t)) },
}

// onEngines runs a test on a new database of each engine, and checks the database afterwards.
func onEngines(t *testing.T, test func(t *testing.T, d database)) {
	for name, fresh := range engines {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			t.Cleanup(func() { d.check(t) })
			test(t, d)
		})
	}
}

// newSQLite creates a migrated ledger in a new SQLite file.
func newSQLite(t *testing.T) database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	store, err := sqlite.Open(t.Context(), path)
	if err == nil {
		err = store.Migrate(t.Context())
	}
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return database(path)
}

// open opens the ledger as a program does, and returns a function that closes it. A PostgreSQL pool has 16 connections.
func (d database) open(ctx context.Context) (remediation.Store, func() error, error) {
	if !d.isPostgres() {
		store, err := sqlite.Open(ctx, string(d), sqlite.WithBusyTimeout(time.Minute))
		if err != nil {
			return nil, nil, err
		}
		return store, store.Close, nil
	}
	config, err := pgxpool.ParseConfig(string(d))
	if err != nil {
		return nil, nil, err
	}
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return postgres.New(pool), func() error { pool.Close(); return nil }, nil
}

// ledger opens the ledger and closes it when the test ends.
func (d database) ledger(t *testing.T, opts ...remediation.Option) *remediation.Ledger {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeStore(); err != nil {
			t.Error(err)
		}
	})
	return remediation.New(store, opts...)
}

// raw opens the database without the ledger, for raw SQL.
func (d database) raw(t *testing.T) *sql.DB {
	t.Helper()
	var db *sql.DB
	if d.isPostgres() {
		db = stdlib.OpenDBFromPool(pgtest.Pool(t, string(d)))
	} else {
		var err error
		db, err = sql.Open("sqlite", "file:"+string(d)+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)")
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// inconsistent counts rows that no sequence of the ledger's calls can produce. It states the rules of the triggers
// again, independently of them.
const inconsistent = `
SELECT count(*) FROM remediation_actions AS a WHERE NOT (CASE a.status
	WHEN 'pending' THEN a.approved_at IS NULL AND a.rejected_at IS NULL AND a.executed_at IS NULL AND a.completed_at IS NULL
	WHEN 'approved' THEN a.approved_at IS NOT NULL AND a.rejected_at IS NULL AND a.executed_at IS NULL AND a.completed_at IS NULL
	WHEN 'rejected' THEN a.rejected_at IS NOT NULL AND a.executed_at IS NULL AND a.completed_at IS NULL
	WHEN 'executing' THEN a.approved_at IS NOT NULL AND a.rejected_at IS NULL AND a.executed_at IS NOT NULL AND a.completed_at IS NULL
	WHEN 'completed' THEN a.approved_at IS NOT NULL AND a.rejected_at IS NULL AND a.executed_at IS NOT NULL
		AND a.completed_at IS NOT NULL AND a.exit_code IS NOT NULL AND a.exit_code = 0
	WHEN 'failed' THEN a.approved_at IS NOT NULL AND a.rejected_at IS NULL AND a.executed_at IS NOT NULL
		AND a.completed_at IS NOT NULL AND (a.exit_code IS NULL OR a.exit_code <> 0)
	ELSE FALSE
	END AND (a.approved_at IS NULL) = (a.approved_by IS NULL) AND (a.rejected_at IS NULL) = (a.rejected_by IS NULL)
	AND (a.rejected_at IS NULL) = (a.rejection_reason IS NULL)
	AND (a.expires_at IS NULL OR a.expires_at > a.created_at
		AND (a.approved_at IS NULL OR a.approved_at < a.expires_at) AND (a.executed_at IS NULL OR a.executed_at < a.expires_at))
	AND (a.not_before IS NULL OR a.executed_at IS NULL OR a.executed_at >= a.not_before)
	AND (a.executed_at IS NOT NULL OR a.heartbeat_at IS NULL AND a.cancel_requested_at IS NULL)
	AND (a.cancel_requested_at IS NULL) = (a.cancel_requested_by IS NULL)
	AND (a.cancel_requested_at IS NULL) = (a.cancel_reason IS NULL))`

// unrecorded counts actions whose events don't match the row: each step of the row must have exactly one event.
const unrecorded = `
SELECT count(*) FROM remediation_actions AS a LEFT JOIN (
	SELECT r.action_id,
		sum(CASE r.kind WHEN 'created' THEN 1 ELSE 0 END) AS created,
		sum(CASE r.kind WHEN 'approved' THEN 1 ELSE 0 END) AS approved,
		sum(CASE r.kind WHEN 'rejected' THEN 1 ELSE 0 END) AS rejected,
		sum(CASE r.kind WHEN 'executing' THEN 1 ELSE 0 END) AS executing,
		sum(CASE r.kind WHEN 'cancel_requested' THEN 1 ELSE 0 END) AS cancels,
		sum(CASE WHEN r.kind IN ('completed', 'failed') THEN 1 ELSE 0 END) AS ended
	FROM remediation_events AS r GROUP BY r.action_id
) AS e ON e.action_id = a.id
WHERE e.action_id IS NULL OR NOT (e.created = 1
	AND e.approved = CASE WHEN a.approved_at IS NULL THEN 0 ELSE 1 END
	AND e.rejected = CASE WHEN a.rejected_at IS NULL THEN 0 ELSE 1 END
	AND e.executing = CASE WHEN a.executed_at IS NULL THEN 0 ELSE 1 END
	AND e.cancels = CASE WHEN a.cancel_requested_at IS NULL THEN 0 ELSE 1 END
	AND e.ended = CASE WHEN a.completed_at IS NULL THEN 0 ELSE 1 END)`

// check fails the test if the database breaks a rule that every database must satisfy at every time.
func (d database) check(t *testing.T) {
	t.Helper()
	db := d.raw(t)
	defer db.Close()
	want := map[string]string{inconsistent: "0", unrecorded: "0",
		"SELECT count(idempotency_key) - count(DISTINCT idempotency_key) FROM remediation_actions": "0"}
	if !d.isPostgres() {
		want["PRAGMA integrity_check"] = "ok"
		want["SELECT count(*) FROM pragma_foreign_key_check"] = "0"
	}
	for query, answer := range want {
		var got string
		if err := db.QueryRowContext(context.WithoutCancel(t.Context()), query).Scan(&got); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if got != answer {
			t.Errorf("%s: got %s, want %s", strings.TrimSpace(query), got, answer)
		}
	}
}

// must returns the value of a call that has no reason to fail here. An error ends the test.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
