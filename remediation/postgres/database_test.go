package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/schema"
)

// This file has helpers for tests on a database.

// bounded returns a context with a timeout, for calls that could hang. No test relies on the timeout.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// notShort skips a test of other processes with -short. The race detector runs with -short and does not see into other
// processes.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("the test starts other processes, which -short skips")
	}
}

// must returns the value of a call, or fails the test on an error: must[int64](t)(ledger.AddAlert(…)).
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// same expects got to equal want. Two times are equal only if their time zones are too, because all times of a ledger
// are in UTC.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	sameTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() })
	if diff := cmp.Diff(want, got, sameTime); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// with returns a database's URL with a parameter added.
func with(t testing.TB, databaseURL, key, value string) string {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(databaseURL))
	params := u.Query()
	params.Set(key, value)
	u.RawQuery = params.Encode()
	return u.String()
}

// connect returns a plain connection, like that of a person at a shell.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn := must[*pgx.Conn](t)(pgx.Connect(t.Context(), url))
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// begin begins a transaction and rolls it back when the test ends. Otherwise the pool could not close.
func begin(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx := must[pgx.Tx](t)(pool.Begin(t.Context()))
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx
}

func migrate(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	if err := postgres.Migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

// run executes statements and fails the test on an error.
func run(t testing.TB, db postgresdb.DBTX, statements string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), statements, args...); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// column returns the first column of every row.
func column[T any](t testing.TB, db postgresdb.DBTX, query string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}

// one returns the only value of the only row.
func one[T any](t testing.TB, db postgresdb.DBTX, query string, args ...any) T {
	t.Helper()
	values := column[T](t, db, query, args...)
	if len(values) != 1 {
		t.Fatalf("%s: %d rows", query, len(values))
	}
	return values[0]
}

// sqlState returns the SQLSTATE of an error of the server, or "" for any other error or none.
func sqlState(err error) string {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// constraintOf returns the constraint that an error of the server names, or "".
func constraintOf(err error) string {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
		return refused.ConstraintName
	}
	return ""
}

// contents has the rows of every table except schema_migrations, as a map from column to value.
type contents map[string][]map[string]any

func contentsOf(t testing.TB, db postgresdb.DBTX) contents {
	t.Helper()
	all := contents{}
	for _, table := range column[string](t, db, `SELECT table_name::text FROM information_schema.tables
		WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> 'schema_migrations'`) {
		all[table] = column[map[string]any](t, db, "SELECT to_jsonb(row) FROM "+table+" AS row ORDER BY 1")
	}
	return all
}

// within returns the tables and columns of c that other has too.
func (c contents) within(other contents) contents {
	shared := contents{}
	for table, rows := range c {
		if other[table] == nil {
			continue
		}
		shared[table] = make([]map[string]any, len(rows))
		for i, row := range rows {
			kept := map[string]any{}
			for name, value := range row {
				if _, ok := other[table][min(i, len(other[table])-1)][name]; ok {
					kept[name] = value
				}
			}
			shared[table][i] = kept
		}
	}
	return shared
}

// schemaOf returns the definition of every object in the current schema.
func schemaOf(t testing.TB, db postgresdb.DBTX) []string {
	t.Helper()
	return column[string](t, db, `
		SELECT object FROM (
			SELECT concat_ws(' ', table_name, row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position),
				column_name, data_type, character_maximum_length, column_default, is_nullable, identity_generation)
			FROM information_schema.columns WHERE table_schema = current_schema()
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
			UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
			FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
			UNION ALL SELECT concat_ws(' ', tgenabled, pg_get_triggerdef(t.oid))
			FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
			WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
			UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
		) AS objects (object) ORDER BY object`)
}

// state is the row of golang-migrate's table schema_migrations.
type state struct {
	Version int
	Dirty   bool
}

// stateOf returns nil for a database that was never migrated.
func stateOf(t testing.TB, db postgresdb.DBTX) *state {
	t.Helper()
	if !one[bool](t, db, "SELECT to_regclass('schema_migrations') IS NOT NULL") {
		return nil
	}
	rows, err := db.Query(t.Context(), "SELECT version, dirty FROM schema_migrations")
	if err != nil {
		t.Fatal(err)
	}
	return must[*state](t)(pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[state]))
}

// newest returns the newest version of the PostgreSQL schema.
func newest(t testing.TB) int {
	t.Helper()
	return must[int](t)(migration.Latest(schema.Postgres))
}

// step runs the SQL of one migration and sets the version, without golang-migrate.
func step(t testing.TB, db postgresdb.DBTX, version int, direction string) {
	t.Helper()
	files := must[[]string](t)(fs.Glob(schema.Postgres, fmt.Sprintf("%06d_*.%s.sql", version, direction)))
	if len(files) != 1 {
		t.Fatalf("%d files for version %d %s", len(files), version, direction)
	}
	text := must[[]byte](t)(fs.ReadFile(schema.Postgres, files[0]))
	run(t, db, string(text))
	if direction == "down" {
		version--
	}
	run(t, db, "CREATE TABLE IF NOT EXISTS schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)")
	run(t, db, "DELETE FROM schema_migrations")
	run(t, db, "INSERT INTO schema_migrations VALUES ($1, FALSE)", version)
}
