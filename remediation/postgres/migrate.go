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

// Migrate brings the database to the schema that the code needs, and puts back what somebody dropped or disabled of the
// lifecycle's rules. Where nothing is to do it only reads, and waits for nobody. All pending steps and the version land in
// one transaction or not at all, so a crash leaves nothing half done, and any number of processes may call it at once: one
// does the work and the others wait for it, as long as ctx lets them. The version and the lock are those of the stock
// migrate CLI, so the two don't collide either.
//
// After a restore into another cluster it also makes the old events readable there, and new ones come after them.
//
// remediation.ErrSchemaVersion if the database is newer than the code, or if the CLI left it dirty. When ctx ends while
// it commits, all of it may have happened in spite of the error. pool stays open.
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

// upToDate reports whether there is nothing to do. What it can't read is for the migration itself to report.
func upToDate(ctx context.Context, pool *pgxpool.Pool) bool {
	if checkVersion(ctx, pool) != nil {
		return false
	}
	foreign := true
	err := pool.QueryRow(ctx, "SELECT "+foreignEvents).Scan(&foreign)
	return err == nil && !foreign
}

// driver is golang-migrate's seam to one transaction. The stock driver commits the mark "dirty", the step and the mark
// "clean" one by one; here Lock begins the one transaction around all of it.
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
		return errors.Join(err, d.rollback()) // golang-migrate unlocks only what it saw locked
	}
	return nil
}

// wait takes the advisory lock that the stock driver takes, and makes its table as it makes it.
func (d *driver) wait() error {
	var name, schemaName string
	if err := d.tx.QueryRow(d.ctx, "SELECT current_database(), current_schema()").Scan(&name, &schemaName); err != nil {
		return err
	}
	// The CLI makes its lock's number of the URL's path, with the slash.
	id, err := database.GenerateAdvisoryLockId("/"+name, schemaName, "schema_migrations")
	if err != nil {
		return err
	}
	if err := d.exec("SELECT pg_advisory_xact_lock($1)", id); err != nil {
		return fmt.Errorf("wait for the migration lock: %w", err)
	}
	// Asked first: a role that may not create tables can still find that there is nothing to do. to_regclass would not do,
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

// repair adopts another cluster's events and restores the rules of the newest version, and leaves any other alone.
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

// adoptEvents gives this cluster's transaction ids positions above those of events that another cluster has written.
// The lock lets every transaction that has written events end first. The lowest id that is open gets the first new
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

// foreignEvents is true where another cluster has written events.
const foreignEvents = "(SELECT max(feed_position) FROM remediation_events WHERE feed_position > remediation_events_newest()) IS NOT NULL"

// rollback works after ctx has ended too, or the pool would keep a connection with an open transaction.
func (d *driver) rollback() error {
	return d.tx.Rollback(context.WithoutCancel(d.ctx))
}

// restoreRules creates the rules that are missing, and enables those that are disabled.
func (d *driver) restoreRules() error {
	_, missing, err := look(d.ctx, d.tx)
	if err != nil {
		return err
	}
	for _, rule := range missing {
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

var errNotHere = errors.New("not supported by the ledger's migration driver")

func (d *driver) Open(string) (database.Driver, error) { return nil, errNotHere }
func (d *driver) Drop() error                          { return errNotHere }
func (d *driver) Close() error                         { return nil } // the caller's pool stays open
