package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/schema"
)

// Migrate upgrades the database to the schema of this code, and restores rules that were dropped or disabled. If there
// is nothing to do, it only reads and waits for no lock. All pending steps and the version are committed in one
// transaction, so a crash leaves nothing half done. Any number of processes may call it at once: one migrates, and the
// others wait for it until their ctx ends. The version table and the lock are those of the stock migrate CLI, so the
// two do not conflict.
//
// After a restore into another cluster Migrate also makes the restored events readable; new events come after them.
//
// The error is remediation.ErrSchemaVersion if the database is newer than the code, or if the CLI left it dirty. If ctx
// ends during the commit, the migration may have been committed in spite of the error. pool stays open.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	err := ctx.Err() // a nil context panics here, before pool is in use
	if err == nil && !upToDate(ctx, pool) {
		err = migration.Up(schema.Postgres, &driver{ctx: ctx, pool: pool})
	}
	if err != nil {
		return fmt.Errorf("migrate PostgreSQL ledger: %w", err)
	}
	return nil
}

// upToDate reports whether there is nothing to do. The migration itself reports what upToDate can't read.
func upToDate(ctx context.Context, pool *pgxpool.Pool) bool {
	if checkVersion(ctx, pool) != nil {
		return false
	}
	foreign := true
	err := pool.QueryRow(ctx, "SELECT "+foreignEvents).Scan(&foreign)
	return err == nil && !foreign
}

// driver lets golang-migrate work in one transaction. The stock driver commits the dirty mark, the step and the clean
// mark separately; here Lock begins a transaction for the whole run.
type driver struct {
	ctx    context.Context
	pool   *pgxpool.Pool
	tx     pgx.Tx
	failed bool
}

func (d *driver) Lock() error {
	tx, err := d.pool.Begin(d.ctx)
	if err != nil {
		return err
	}
	d.tx = tx
	if err := d.wait(); err != nil {
		return errors.Join(err, d.rollback()) // golang-migrate does not unlock after a failed Lock
	}
	return nil
}

// wait takes the advisory lock of the stock driver, and creates the same version table.
func (d *driver) wait() error {
	var name, schemaName string
	if err := d.tx.QueryRow(d.ctx, "SELECT current_database(), current_schema()").Scan(&name, &schemaName); err != nil {
		return err
	}
	// The CLI derives the number of its lock from the path of the URL, with the slash.
	id, err := database.GenerateAdvisoryLockId("/"+name, schemaName, "schema_migrations")
	if err != nil {
		return err
	}
	if err := d.exec("SELECT pg_advisory_xact_lock($1)", id); err != nil {
		return fmt.Errorf("wait for the migration lock: %w", err)
	}
	// A role that may not create tables can still find that there is nothing to do. to_regclass can't be used here,
	// because its cache may be older than the wait for the lock.
	var exists bool
	err = d.tx.QueryRow(d.ctx, `SELECT EXISTS (
		SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migrations')`).Scan(&exists)
	if err != nil || exists {
		return err
	}
	return d.exec("CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)")
}

func (d *driver) Unlock() error {
	err := d.repair()
	if err != nil || d.failed {
		return errors.Join(err, d.rollback())
	}
	return d.tx.Commit(d.ctx)
}

// repair adopts events of another cluster and restores rules, if the database has the newest version.
func (d *driver) repair() error {
	want, err := newest()
	if err != nil || d.failed {
		return err
	}
	version, dirty, err := d.Version()
	if err != nil || version != want || dirty {
		return err
	}
	if err := d.exec(adoptEvents); err != nil {
		return err
	}
	return d.restoreRules()
}

// adoptEvents gives the transactions of this cluster feed positions after all events that another cluster has written.
// The lock waits for all transactions that have written events. The lowest open transaction id gets the first new
// position, so that no event comes before an old one. A role that may not read events has nothing to adopt.
const adoptEvents = `DO $$
DECLARE
	base bigint;
BEGIN
	IF NOT has_table_privilege('remediation_events', 'SELECT')
		OR NOT ` + foreignEvents + `
	THEN
		RETURN;
	END IF;
	LOCK TABLE remediation_events IN EXCLUSIVE MODE;
	SELECT max(feed_position) + 1 - pg_snapshot_xmin(pg_current_snapshot())::text::bigint INTO base
	FROM (SELECT feed_position FROM remediation_events UNION ALL SELECT feed_position FROM remediation_events_gone) AS known;
	EXECUTE pg_catalog.format($function$
		CREATE OR REPLACE FUNCTION remediation_events_position(xid8) RETURNS bigint
		LANGUAGE sql IMMUTABLE AS 'SELECT $1::text::bigint + %s'
	$function$, base);
END
$$`

// foreignEvents is true if another cluster has written events.
const foreignEvents = "(SELECT max(feed_position) FROM remediation_events WHERE feed_position > remediation_events_newest()) IS NOT NULL"

// rollback also works after ctx has ended. Otherwise the pool would keep a connection with an open transaction.
func (d *driver) rollback() error {
	return d.tx.Rollback(context.WithoutCancel(d.ctx))
}

// restoreRules creates the rules that are missing, and enables those that are disabled.
func (d *driver) restoreRules() error {
	_, missingRules, err := readSchema(d.ctx, d.tx)
	if err != nil {
		return err
	}
	for _, rule := range missingRules {
		var disabled bool
		err := d.tx.QueryRow(d.ctx, `SELECT EXISTS (
			SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(nullif($1, '')) AND tgname = $2)`, rule.Table, rule.Name).Scan(&disabled)
		if err == nil && disabled {
			err = d.exec("ALTER TABLE " + rule.Table + " ENABLE TRIGGER " + rule.Name)
		} else if err == nil {
			err = d.exec(rule.SQL)
		}
		if err != nil {
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
	return d.exec("INSERT INTO schema_migrations (version, dirty) VALUES ($1, $2)", version, dirty)
}

func (d *driver) Version() (int, bool, error) {
	version, dirty, err := readVersion(d.ctx, d.tx)
	d.failed = d.failed || err != nil
	return version, dirty, err
}

func (d *driver) exec(query string, args ...any) error {
	_, err := d.tx.Exec(d.ctx, query, args...)
	d.failed = d.failed || err != nil
	return err
}

var errUnsupported = errors.New("not supported by the ledger's migration driver")

func (d *driver) Open(string) (database.Driver, error) { return nil, errUnsupported }
func (d *driver) Drop() error                          { return errUnsupported }
func (d *driver) Close() error                         { return nil } // the caller's pool stays open
