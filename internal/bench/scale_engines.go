package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// This file builds a history on each engine: on SQLite in a file, on PostgreSQL in a database.

func sqliteBuilder(db *sql.DB) builder {
	return builder{
		files: schema.SQLite,
		exec: func(ctx context.Context, statement string) error {
			_, err := db.ExecContext(ctx, statement)
			return err
		},
		notDurable: "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF",
		durable:    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
		at:         func(e string) string { return "strftime('%Y-%m-%d %H:%M:%S+00:00', " + e + ", 'unixepoch')" },
		text:       func(e string) string { return "hex(zeroblob((" + e + ") / 2))" },
	}
}

func postgresBuilder(pool *pgxpool.Pool) builder {
	return builder{
		files: schema.Postgres,
		exec: func(ctx context.Context, statement string) error {
			_, err := pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
			return err
		},
		notDurable: "SET synchronous_commit = off",
		durable:    "SET synchronous_commit = on",
		at:         func(e string) string { return "to_timestamp(" + e + ")" },
		text:       func(e string) string { return "repeat(md5(CAST(n AS TEXT)), CAST(" + e + " AS INTEGER) / 32)" },
	}
}

// postgresScaled builds a history in its own database. Triggers, with those of foreign keys, are off during the build.
func postgresScaled(ctx context.Context, c config, rows, open int) (_ *scaled, err error) {
	pool, drop, err := newPostgres(ctx, c, 1)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			drop()
		}
	}()
	b := postgresBuilder(pool)
	steps, err := b.timeSeed(ctx, rows)
	if err != nil {
		return nil, err
	}
	err = b.exec(ctx, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; SET session_replication_role = replica")
	if err != nil {
		return nil, err
	}
	later, err := b.build(ctx, rows, open)
	if err != nil {
		return nil, err
	}
	newest, err := b.newest()
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)",
		fmt.Sprintf("INSERT INTO schema_migrations VALUES (%d, FALSE)", newest),
		"VACUUM (ANALYZE) remediation_actions",
	} {
		if err := b.exec(ctx, statement); err != nil {
			return nil, err
		}
	}
	if err := b.events(ctx); err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "VACUUM (ANALYZE) remediation_events"); err != nil {
		return nil, err
	}
	d := &scaled{rows: rows, steps: append(steps, later...), close: drop, took: map[string]samples{}}
	if err := pool.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&d.bytes); err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "RESET session_replication_role; CHECKPOINT"); err != nil {
		return nil, err
	}
	d.ledger = remediation.New(postgres.New(pool))
	return d, nil
}

// buildSQLite builds a history in its own file.
func buildSQLite(ctx context.Context, path string, rows, open int) (*scaled, error) {
	early := path + ".seed"
	steps, err := withFile(ctx, early, func(b builder) ([]migrationTime, error) { return b.timeSeed(ctx, rows) })
	remove(early)
	if err != nil {
		return nil, err
	}
	later, err := withFile(ctx, path, func(b builder) ([]migrationTime, error) {
		steps, err := b.build(ctx, rows, open)
		if err != nil {
			return nil, err
		}
		newest, err := b.newest()
		if err != nil {
			return nil, err
		}
		// The same table as Migrate creates.
		err = b.exec(ctx, fmt.Sprintf(`CREATE TABLE schema_migrations (version uint64,dirty bool);
			CREATE UNIQUE INDEX version_unique ON schema_migrations (version);
			INSERT INTO schema_migrations VALUES (%d, FALSE);`, newest))
		if err != nil {
			return nil, err
		}
		return steps, b.events(ctx)
	})
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	d := &scaled{rows: rows, steps: append(steps, later...), took: map[string]samples{}}
	d.close = func() {
		store.Close()
		remove(path)
	}
	d.ledger = remediation.New(store)
	if info, err := os.Stat(path); err == nil {
		d.bytes = info.Size()
	}
	return d, nil
}

// withFile opens an SQLite file for the time of fill.
func withFile(ctx context.Context, path string, fill func(builder) ([]migrationTime, error)) ([]migrationTime, error) {
	db, err := sql.Open("sqlite", "file:"+path+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-262144)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	steps, err := fill(sqliteBuilder(db))
	return steps, errors.Join(err, db.Close())
}

// buildOutputs inserts 1,000 completed actions. size is the length of each output, key the SQL expression of its
// dedupe_key.
func buildOutputs(ctx context.Context, path string, size int, key string) error {
	_, store, err := newLedger(ctx, path, 1, normal)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	_, err = withFile(ctx, path, func(b builder) ([]migrationTime, error) {
		return nil, b.fill(ctx, fmt.Sprintf(`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by,
			approved_at, approved_by, executed_at, completed_at, exit_code, stdout, stderr, dedupe_key) `+series(1000)+`
			SELECT 'server-0', 'restart_service', 'completed', 'true', %[1]s, 'alice', %[1]s, 'bob', %[1]s, %[1]s, 0, %[2]s, '', %[3]s FROM s`,
			b.at("1735689600 + n"), b.text(fmt.Sprint(size)), key))
	})
	return err
}
