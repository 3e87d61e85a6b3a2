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

// importPage is how many rows are in memory at once; each may carry its outputs.
const importPage = 100

// Import copies a ledger from SQLite into an empty, migrated PostgreSQL ledger: servers, alerts, actions and events,
// every id and every audit field as it is, also of actions older than the rules. New ids go on after the highest ever used.
//
// It reads one state of ledger, whose schema must be migrated too, and writes one transaction: after an error the
// PostgreSQL ledger is as empty as before. Only bytes of stdout and stderr that PostgreSQL can't hold become U+FFFD, and
// alert_id becomes NULL where the alert is gone. Any other value that PostgreSQL's keys and types can't hold is an
// *InputError, such as a server that is gone or a name longer than its column; it names the table, the id and the column.
// The role must own the tables, because the triggers are off while old rows arrive. Stop the programs that write to
// ledger first, or what they write meanwhile stays behind.
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
		// An old row may break rules that are younger than it, and events arrive as they were written.
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

// checkSource refuses a database whose columns are not those that the queries name.
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

// lockEmpty keeps other writers out, and refuses to mix two ledgers.
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
	err := pages("", func(s sqlitedb.Server) string { return s.ID + "\x00" }, // the least text after an id; '' is an id too
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

// alertGone is the actions whose alert was deleted by a program that had foreign keys off. ON DELETE SET NULL would have
// left them without one.
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

// pages copies all rows from first on; next says where the page after a row begins.
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

// continueIDs goes on where SQLite would have: its AUTOINCREMENT remembers ids of rows that are gone.
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

// lastID is the highest id that SQLite ever gave in table, or 0 for a table that another program made without
// AUTOINCREMENT; sqlite_sequence exists only beside tables with it.
func lastID(ctx context.Context, from *sql.Tx, table string) (last int64, err error) {
	var kept int
	err = from.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_sequence'").Scan(&kept)
	if err != nil || kept == 0 {
		return 0, err
	}
	err = from.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", table).Scan(&last)
	return last, err
}
