package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/golang-migrate/migrate/v4/database"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/schema"
)

// migrateWait is how long Migrate waits for another program's lock, such as another Migrate on a large database.
const migrateWait = time.Minute

// Migrate brings the database to the schema that the code needs. All pending steps and the version land in one
// transaction or not at all, so a crash leaves nothing half done, and any number of processes may call it at once: one
// does the work and the others wait for it, up to a minute. The version is kept where the stock migrate CLI keeps it.
//
// remediation.ErrSchemaVersion if the database is newer than the code, or if the CLI left it dirty. When ctx ends while
// it commits, all of it may have happened in spite of the error. db stays open.
func Migrate(ctx context.Context, db *sql.DB) error {
	if err := migrate(ctx, db); err != nil {
		return fmt.Errorf("migrate SQLite ledger: %w", err)
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, and not inside database/sql, which holds a lock then
		return err
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
	// The connection goes back to the caller's pool as it came, also when ctx has ended.
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		// SQLite may have rolled back already, so this may fail for want of a transaction.
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	return errors.Join(err, setBusyTimeout(ctx, conn, busyTimeout))
}

func setBusyTimeout(ctx context.Context, conn *sql.Conn, ms int64) error {
	_, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(ms, 10))
	return err
}

// driver is golang-migrate's seam to one connection. The stock driver commits the mark "dirty", the step and the mark
// "clean" one by one and locks only against its own process; here Lock begins the one transaction around all of it.
type driver struct {
	ctx    context.Context
	conn   *sql.Conn
	failed bool // SQLite lets a transaction go on after an error, so Unlock must know
}

func (d *driver) Lock() error {
	if err := d.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("wait for the write lock: %w", err)
	}
	// As the stock driver makes it, so that the CLI finds its own table.
	return d.exec(`CREATE TABLE IF NOT EXISTS schema_migrations (version uint64,dirty bool);
		CREATE UNIQUE INDEX IF NOT EXISTS version_unique ON schema_migrations (version);`)
}

// Unlock commits, unless a step failed: then that step's error ends the migration, and migrate rolls back.
func (d *driver) Unlock() error {
	if d.failed {
		return nil
	}
	return d.exec("COMMIT")
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

var errNotHere = errors.New("not part of a ledger's migration")

func (d *driver) Open(string) (database.Driver, error) { return nil, errNotHere }
func (d *driver) Drop() error                          { return errNotHere }
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

// newest is read once: each transaction that a caller brings is a store of its own.
var newest = sync.OnceValues(func() (int, error) { return migration.Latest(schema.SQLite) })

// checkVersion refuses a database that the generated queries were not written for.
func checkVersion(ctx context.Context, q querier) error {
	want, err := newest()
	if err != nil {
		return err
	}
	got, dirty, err := readVersion(ctx, q)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	return migration.Check(want, got, dirty)
}
