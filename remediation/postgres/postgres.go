// Package postgres stores a ledger in a PostgreSQL database, through pgx (github.com/jackc/pgx/v5) and its native
// protocol.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/schema"
)

// New returns a store on conn, a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx of the caller, for remediation.New. The store
// is as safe for concurrent use as conn: a pool is safe, the other two are not. The caller closes conn.
//
// On a pool, concurrent calls of one kind share a statement and its transaction. Each call is still refused, or ended
// by its context, separately, and is durable when it returns.
//
// On a pgx.Tx changes become durable when the caller commits, and a refused transition leaves the transaction usable.
//
// The first call checks the schema's version and rules. Until Migrate has run, every call returns
// remediation.ErrSchemaVersion.
func New(conn postgresdb.DBTX) remediation.Store {
	s := &store{conn: conn, queries: postgresdb.New(conn)}
	if pool, ok := conn.(*pgxpool.Pool); ok {
		s.pool, s.batches = pool, newBatches()
	}
	return s
}

// store implements remediation.Backend.
type store struct {
	remediation.Feed

	conn    postgresdb.DBTX
	queries *queries
	pool    *pgxpool.Pool // nil if conn is not a pool; then there are no batches
	batches
	checked        atomic.Bool // the schema has the version that the queries were generated for
	skipUnreadable atomic.Bool // the driver has failed to read an action; see readable
}

// Backend is for remediation.New.
func (s *store) Backend() remediation.Backend { return s }

type queries = postgresdb.Queries

// row is the result of a statement about one action.
type row = postgresdb.RemediationAction

// query is a generated method, which runs one statement.
type query[P, T any] = func(*queries, context.Context, P) (T, error)

// run runs one statement.
func run[P, T any](ctx context.Context, s *store, run query[P, T], params P) (none T, err error) {
	if err := s.check(ctx); err != nil {
		return none, err
	}
	result, err := run(s.queries, ctx, params)
	return result, interpret(err)
}

// check checks the schema once.
func (s *store) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, before conn is in use
		return err
	}
	if s.checked.Load() {
		return nil
	}
	if err := checkVersion(ctx, s.conn); err != nil {
		return err
	}
	s.checked.Store(true)
	return nil
}

// change runs one statement that changes the database.
func change[P, T any](ctx context.Context, s *store, statement query[P, T], params P) (T, error) {
	result, err := run(ctx, s, statement, params)
	if !errors.Is(err, pgx.ErrNoRows) {
		// After other errors too: the change may be committed, and a rollback may make delayed events visible.
		s.Changed()
	}
	return result, err
}

// readable runs a statement that returns actions. A row that predates the rules may have an infinite time, which pgx
// can't read, and then the whole statement fails. After the first such failure the store leaves such rows out.
func readable[T any](s *store, list func(skipUnreadable bool) (T, error)) (T, error) {
	skip := s.skipUnreadable.Load()
	result, err := list(skip)
	if skip || !isUnreadable(err) {
		return result, err
	}
	s.skipUnreadable.Store(true)
	return list(true)
}

func isUnreadable(err error) bool {
	_, unreadable := errors.AsType[pgx.ScanArgError](err)
	return unreadable
}

// Read once, because each transaction of a caller makes a new store.
var (
	newest = sync.OnceValues(func() (int, error) { return migration.Latest(schema.Postgres) })
	rules  = sync.OnceValues(func() ([]migration.Rule, error) { return migration.Rules(schema.Postgres) })
)

// checkVersion returns an error if the database has another version than the code, or lacks rules.
func checkVersion(ctx context.Context, conn postgresdb.DBTX) error {
	want, err := newest()
	if err != nil {
		return err
	}
	got, dirty := database.NilVersion, false
	// First, because reading a table that does not exist would abort a caller's transaction.
	exists, missingRules, err := readSchema(ctx, conn)
	if err == nil && exists {
		got, dirty, err = readVersion(ctx, conn)
	}
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", interpret(err))
	}
	if err := migration.Check(want, got, dirty); err != nil {
		return err
	}
	return migration.CheckRules(missingRules)
}

// readSchema returns whether there is a version table, and the rules that are missing or disabled in the search path.
func readSchema(ctx context.Context, conn postgresdb.DBTX) (versioned bool, missingRules []migration.Rule, err error) {
	all, err := rules()
	if err != nil {
		return false, nil, err
	}
	var tables, others []string
	for _, rule := range all {
		if rule.Table == "" {
			others = append(others, rule.Name)
		} else if !slices.Contains(tables, rule.Table) {
			tables = append(tables, rule.Table)
		}
	}
	var present []string
	err = conn.QueryRow(ctx, `
		SELECT to_regclass('schema_migrations') IS NOT NULL, ARRAY(
			SELECT t.tgname::text
			FROM unnest($1::text[]) AS r (name) JOIN pg_trigger AS t ON t.tgrelid = to_regclass(r.name)
			WHERE t.tgenabled IN ('O', 'A')
			UNION ALL
			SELECT r.name FROM unnest($2::text[]) AS r (name) WHERE to_regclass(r.name) IS NOT NULL)`,
		tables, others).Scan(&versioned, &present)
	return versioned, migration.Missing(all, present), err
}

func readVersion(ctx context.Context, conn postgresdb.DBTX) (version int, dirty bool, err error) {
	err = conn.QueryRow(ctx, "SELECT version, dirty FROM schema_migrations LIMIT 1").Scan(&version, &dirty)
	if errors.Is(err, pgx.ErrNoRows) {
		return database.NilVersion, false, nil
	}
	return version, dirty, err
}

// SQLSTATEs that the ledger handles (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	foreignKeyViolation  = "23503"
	lockNotAvailable     = "55P03" // lock_timeout
	deadlockDetected     = "40P01"
	serializationFailure = "40001" // in a caller's transaction above READ COMMITTED
	tooManyConnections   = "53300"
)

// interpret converts an error of the database to an error of the ledger.
func interpret(err error) error {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch refused.Code {
	case foreignKeyViolation: // the row was deleted between the statement's check and that of the foreign key
		switch refused.ConstraintName {
		case "remediation_actions_alert_id_fkey":
			return remediation.ErrAlertNotFound
		case "remediation_actions_server_id_fkey", "alerts_server_id_fkey":
			return remediation.ErrServerNotFound
		}
	case lockNotAvailable, deadlockDetected, serializationFailure, tooManyConnections:
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}
