package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-migrate/migrate/v4/database"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/schema"
)

// migrateWait is how long Migrate waits for another program's lock, such as another Migrate on a large database.
const migrateWait = time.Minute

// Migrate brings the database to the schema that the code needs. One transaction commits all pending steps and the
// new version, so a crash leaves nothing half done. Any number of processes may call Migrate at once: one does the
// work, and the others wait for it, up to a minute. If the schema is up to date, Migrate only reads and waits for no
// lock. The version is stored where the stock migrate CLI stores it.
//
// Migrate also restores rules of the lifecycle that were dropped, such as triggers that a host program lost when it
// recreated one of its tables.
//
// It returns remediation.ErrSchemaVersion if the database is newer than the code, or if the CLI left it dirty. If ctx
// ends during the commit, the migration may have been committed in spite of the error. db stays open.
func Migrate(ctx context.Context, db *sql.DB) error {
	if err := migrate(ctx, db); err != nil {
		return fmt.Errorf("migrate SQLite ledger: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, and not while database/sql holds a lock
		return err
	}
	if checkVersion(ctx, db) == nil {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var busyTimeout int64
	if err := conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&busyTimeout); err != nil {
		return err
	}
	err = setBusyTimeout(ctx, conn, migrateWait.Milliseconds())
	if err == nil {
		err = migration.Up(schema.SQLite, &driver{ctx: ctx, conn: conn})
	}
	// The connection returns to the caller's pool unchanged, even if ctx has ended.
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		// This fails if SQLite has rolled back by itself.
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	return errors.Join(err, setBusyTimeout(ctx, conn, busyTimeout))
}

func setBusyTimeout(ctx context.Context, conn *sql.Conn, ms int64) error {
	_, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(ms, 10))
	return err
}

// driver lets golang-migrate work on one connection. The stock driver commits the mark "dirty", the step and the mark
// "clean" one by one, and its lock excludes only its own process. Here Lock begins one transaction around all of it.
type driver struct {
	ctx    context.Context
	conn   *sql.Conn
	failed bool // makes Unlock skip the commit, which SQLite would allow after a failed statement
}

func (d *driver) Lock() error {
	if err := d.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("wait for the write lock: %w", err)
	}
	// The same table as the stock driver's, so that the CLI can use it.
	return d.exec(`CREATE TABLE IF NOT EXISTS schema_migrations (version uint64,dirty bool);
		CREATE UNIQUE INDEX IF NOT EXISTS version_unique ON schema_migrations (version);`)
}

// Unlock commits unless a step failed. After a failure, the step's error ends the migration, and migrate rolls back.
func (d *driver) Unlock() error {
	if d.failed {
		return nil
	}
	if err := d.restoreRules(); err != nil {
		return err
	}
	return d.exec("COMMIT")
}

// restoreRules creates the rules that the database lacks, if it is at the latest version.
func (d *driver) restoreRules() error {
	want, err := latest()
	if err != nil {
		return err
	}
	if version, dirty, err := d.Version(); err != nil || version != want || dirty {
		return err
	}
	missing, err := missingRules(d.ctx, d.conn)
	if err != nil {
		return err
	}
	for _, rule := range missing {
		if err := d.exec(rule.SQL); err != nil {
			return fmt.Errorf("restore the rule %s: %w", rule.Name, err)
		}
	}
	return nil
}

func (d *driver) Run(step io.Reader) error {
	statements, err := io.ReadAll(step)
	if err != nil {
		d.failed = true
		return err
	}
	return d.exec(string(statements))
}

func (d *driver) SetVersion(version int, dirty bool) error {
	if err := d.exec("DELETE FROM schema_migrations"); err != nil {
		return err
	}
	return d.exec("INSERT INTO schema_migrations (version, dirty) VALUES (?, ?)", version, dirty)
}

func (d *driver) Version() (int, bool, error) {
	version, dirty, err := readVersion(d.ctx, d.conn)
	d.failed = d.failed || err != nil
	return version, dirty, err
}

func (d *driver) exec(query string, args ...any) error {
	_, err := d.conn.ExecContext(d.ctx, query, args...)
	d.failed = d.failed || err != nil
	return err
}

var errUnsupported = errors.New("not supported by the ledger's migration driver")

func (d *driver) Open(string) (database.Driver, error) { return nil, errUnsupported }
func (d *driver) Drop() error                          { return errUnsupported }
func (d *driver) Close() error                         { return nil } // the caller's connection stays open

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readVersion(ctx context.Context, q querier) (version int, dirty bool, err error) {
	var tables int
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'").Scan(&tables)
	if err != nil || tables == 0 {
		return database.NilVersion, false, err
	}
	err = q.QueryRowContext(ctx, "SELECT version, dirty FROM schema_migrations LIMIT 1").Scan(&version, &dirty)
	if errors.Is(err, sql.ErrNoRows) {
		return database.NilVersion, false, nil
	}
	return version, dirty, err
}

// The embedded migrations are parsed once, because each call of Tx makes a store, which checks version and rules.
var (
	latest = sync.OnceValues(func() (int, error) { return migration.Latest(schema.SQLite) })
	rules  = sync.OnceValues(func() ([]migration.Rule, error) { return migration.Rules(schema.SQLite) })
)

// checkVersion returns remediation.ErrSchemaVersion if the database has another version than the generated queries
// need, or lacks rules.
func checkVersion(ctx context.Context, q querier) error {
	want, err := latest()
	if err != nil {
		return err
	}
	got, dirty, err := readVersion(ctx, q)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if err := migration.Check(want, got, dirty); err != nil {
		return err
	}
	missing, err := missingRules(ctx, q)
	if err != nil {
		return fmt.Errorf("read the schema's rules: %w", err)
	}
	return migration.CheckRules(missing)
}

// missingRules returns the rules that the database lacks.
func missingRules(ctx context.Context, q querier) ([]migration.Rule, error) {
	all, err := rules()
	if err != nil {
		return nil, err
	}
	var list string
	err = q.QueryRowContext(ctx, "SELECT group_concat(name, ' ') FROM sqlite_master WHERE type <> 'table'").Scan(&list)
	if err != nil {
		return nil, err
	}
	return migration.Missing(all, strings.Fields(list)), nil
}
