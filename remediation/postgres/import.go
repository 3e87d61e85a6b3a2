package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/schema"
)

// This file copies an SQLite ledger to PostgreSQL; see Import.

// importPage is the number of rows in memory at once. Each may have its outputs.
const importPage = 100

// Import copies a ledger from SQLite into an empty, migrated PostgreSQL ledger: servers, alerts, actions and events,
// with every id and every audit field unchanged, even in actions that predate the rules. New ids are higher than any
// that was ever used.
//
// Import reads one snapshot of ledger, whose schema must be migrated too, and writes one transaction: after an error
// the PostgreSQL ledger is still empty. Bytes of stdout and stderr that PostgreSQL can't store become U+FFFD, and
// alert_id becomes NULL if the alert no longer exists. Any other value that violates PostgreSQL's keys or types, such
// as a missing server or a name longer than its column, is an *InputError that names the table, the id and the column.
// The role must own the tables, because the triggers are off during the copy. First stop the programs that write to
// ledger: later changes are not copied.
func Import(ctx context.Context, pool *pgxpool.Pool, ledger *sql.DB) error {
	if err := importLedger(ctx, pool, ledger); err != nil {
		return fmt.Errorf("import SQLite ledger: %w", err)
	}
	return nil
}

func importLedger(ctx context.Context, pool *pgxpool.Pool, ledger *sql.DB) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, before pool and ledger are in use
		return err
	}
	if err := checkVersion(ctx, pool); err != nil {
		return err
	}
	from, err := ledger.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer from.Rollback()
	if err := checkSource(ctx, from); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(to pgx.Tx) error {
		if err := lockEmpty(ctx, to); err != nil {
			return err
		}
		if err := checkRows(ctx, from, to); err != nil {
			return err
		}
		// Old rows may violate newer rules, and events are copied as they were written.
		const off = "ALTER TABLE remediation_actions DISABLE TRIGGER USER; ALTER TABLE remediation_events DISABLE TRIGGER USER"
		if _, err := to.Exec(ctx, off); err != nil {
			return err
		}
		if err := copyRows(ctx, from, postgresdb.New(to)); err != nil {
			return err
		}
		const on = "ALTER TABLE remediation_actions ENABLE TRIGGER USER; ALTER TABLE remediation_events ENABLE TRIGGER USER"
		if _, err := to.Exec(ctx, on); err != nil {
			return err
		}
		return continueIDs(ctx, from, to)
	})
}

// checkSource refuses a database whose columns differ from those of the queries.
func checkSource(ctx context.Context, from *sql.Tx) error {
	want, err := migration.Latest(schema.SQLite)
	if err != nil {
		return err
	}
	var migrated int
	got, dirty := database.NilVersion, false
	err = from.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'").Scan(&migrated)
	if err == nil && migrated > 0 {
		err = from.QueryRowContext(ctx, "SELECT version, dirty FROM schema_migrations LIMIT 1").Scan(&got, &dirty)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read the SQLite schema's version: %w", err)
	}
	return migration.Check(want, got, dirty)
}

// lockEmpty locks out other writers, and refuses a database that already has a ledger.
func lockEmpty(ctx context.Context, to pgx.Tx) error {
	if _, err := to.Exec(ctx, `LOCK TABLE servers, alerts, remediation_servers, remediation_actions, remediation_events
		IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	var used bool
	err := to.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM servers) OR EXISTS (SELECT 1 FROM remediation_events)
		OR EXISTS (SELECT 1 FROM remediation_events_gone)`).Scan(&used)
	if err == nil && used {
		err = &remediation.InputError{Field: "pool", Problem: "already has a ledger; import into an empty database"}
	}
	return err
}

func copyRows(ctx context.Context, tx *sql.Tx, to *postgresdb.Queries) error {
	from := sqlitedb.New(tx)
	// s.ID + "\x00" is the smallest text after an id. The first page starts at '', because an id can be empty.
	err := pages("", func(s sqlitedb.Server) string { return s.ID + "\x00" },
		func(first string) ([]sqlitedb.Server, error) {
			return from.ExportServers(ctx, sqlitedb.ExportServersParams{First: first, MaxRows: importPage})
		},
		func(page []sqlitedb.Server) error {
			_, err := to.ImportServers(ctx, each(page, func(s sqlitedb.Server) postgresdb.ImportServersParams {
				return postgresdb.ImportServersParams(s)
			}))
			return err
		})
	if err != nil {
		return fmt.Errorf("copy servers: %w", err)
	}
	err = pages("", func(s sqlitedb.RemediationServer) string { return s.ServerID + "\x00" },
		func(first string) ([]sqlitedb.RemediationServer, error) {
			return from.ExportServerSettings(ctx, sqlitedb.ExportServerSettingsParams{First: first, MaxRows: importPage})
		},
		func(page []sqlitedb.RemediationServer) error {
			_, err := to.ImportServerSettings(ctx, each(page, func(s sqlitedb.RemediationServer) postgresdb.ImportServerSettingsParams {
				return postgresdb.ImportServerSettingsParams(s)
			}))
			return err
		})
	if err != nil {
		return fmt.Errorf("copy remediation_servers: %w", err)
	}
	err = pages(int64(math.MinInt64), func(a sqlitedb.Alert) int64 { return a.ID },
		func(after int64) ([]sqlitedb.Alert, error) {
			return from.ExportAlerts(ctx, sqlitedb.ExportAlertsParams{After: after, MaxRows: importPage})
		},
		func(page []sqlitedb.Alert) error {
			_, err := to.ImportAlerts(ctx, each(page, func(a sqlitedb.Alert) postgresdb.ImportAlertsParams {
				return postgresdb.ImportAlertsParams(a)
			}))
			return err
		})
	if err != nil {
		return fmt.Errorf("copy alerts: %w", err)
	}
	err = pages(int64(math.MinInt64), func(a sqlitedb.RemediationAction) int64 { return a.ID },
		func(after int64) ([]sqlitedb.RemediationAction, error) {
			return from.ExportActions(ctx, sqlitedb.ExportActionsParams{After: after, MaxRows: importPage})
		},
		func(page []sqlitedb.RemediationAction) error {
			gone, err := alertGone(ctx, tx, page[0].ID, page[len(page)-1].ID)
			if err != nil {
				return err
			}
			_, err = to.ImportActions(ctx, each(page, func(a sqlitedb.RemediationAction) postgresdb.ImportActionsParams {
				if gone[a.ID] {
					a.AlertID = nil
				}
				clean(a.Stdout)
				clean(a.Stderr)
				return postgresdb.ImportActionsParams(a)
			}))
			return err
		})
	if err != nil {
		return fmt.Errorf("copy actions: %w", err)
	}
	err = pages(int64(math.MinInt64), func(e sqlitedb.RemediationEvent) int64 { return e.ID },
		func(after int64) ([]sqlitedb.RemediationEvent, error) {
			return from.ExportEvents(ctx, sqlitedb.ExportEventsParams{After: after, MaxRows: importPage})
		},
		func(page []sqlitedb.RemediationEvent) error {
			_, err := to.ImportEvents(ctx, each(page, func(e sqlitedb.RemediationEvent) postgresdb.ImportEventsParams {
				return postgresdb.ImportEventsParams(e)
			}))
			return err
		})
	if err != nil {
		return fmt.Errorf("copy events: %w", err)
	}
	return nil
}

// alertGone has the actions whose alert was deleted while foreign keys were off. With foreign keys on, ON DELETE SET
// NULL would have removed the reference.
func alertGone(ctx context.Context, from *sql.Tx, first, last int64) (map[int64]bool, error) {
	rows, err := from.QueryContext(ctx, `SELECT id FROM remediation_actions
		WHERE id BETWEEN ? AND ? AND alert_id NOT IN (SELECT id FROM alerts)`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	gone := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		gone[id] = true
	}
	return gone, rows.Err()
}

// pages copies all rows, starting at first; next returns the start of the page after a row.
func pages[Row, Key any](first Key, next func(Row) Key, read func(Key) ([]Row, error), write func([]Row) error) error {
	for {
		page, err := read(first)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := write(page); err != nil {
			return err
		}
		first = next(page[len(page)-1])
	}
}

// each converts the rows of a page.
func each[Row, Param any](page []Row, convert func(Row) Param) []Param {
	params := make([]Param, len(page))
	for i, row := range page {
		params[i] = convert(row)
	}
	return params
}

func clean(output *string) {
	if output == nil {
		return
	}
	*output = strings.Map(func(r rune) rune {
		if r == 0 {
			return utf8.RuneError
		}
		return r
	}, *output)
}

// continueIDs sets the sequences after the highest id that SQLite ever used. Its AUTOINCREMENT remembers ids of deleted
// rows.
func continueIDs(ctx context.Context, from *sql.Tx, to pgx.Tx) error {
	for table, next := range map[string]string{
		"alerts": `SELECT setval(pg_get_serial_sequence('alerts', 'id'),
			greatest($1, coalesce(max(id), 0)) + 1, false) FROM alerts`,
		"remediation_actions": `SELECT setval(pg_get_serial_sequence('remediation_actions', 'id'),
			greatest($1, coalesce(max(id), 0)) + 1, false) FROM remediation_actions`,
		"remediation_events": `SELECT setval(pg_get_serial_sequence('remediation_events', 'id'),
			greatest($1, coalesce(max(id), 0)) + 1, false) FROM remediation_events`,
	} {
		used, err := lastID(ctx, from, table)
		if err != nil {
			return fmt.Errorf("read the last id of %s: %w", table, err)
		}
		if _, err := to.Exec(ctx, next, used); err != nil {
			return fmt.Errorf("continue the ids of %s: %w", table, err)
		}
	}
	return nil
}

// lastID returns the highest id that SQLite ever used in table, or 0 if another program created the table without
// AUTOINCREMENT. sqlite_sequence exists only if a table has it.
func lastID(ctx context.Context, from *sql.Tx, table string) (last int64, err error) {
	var kept int
	err = from.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_sequence'").Scan(&kept)
	if err != nil || kept == 0 {
		return 0, err
	}
	err = from.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", table).Scan(&last)
	return last, err
}
