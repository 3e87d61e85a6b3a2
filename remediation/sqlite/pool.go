package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file makes sure that a database connection of the caller's enforces foreign keys and stores times that sort.

// timeLayout is the format of _time_format=sqlite. SQLite's date functions read it, and times in UTC sort as text.
const timeLayout = "2006-01-02 15:04:05.999999999-07:00"

// checkPool tests how a caller's pool treats foreign keys and times. Both are settings of a connection, so it tests two
// connections at once if the pool allows it: a PRAGMA that the caller executed reached only one of them.
func checkPool(ctx context.Context, db *sql.DB) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, and not while database/sql holds a lock
		return err
	}
	conns := 2
	if stats := db.Stats(); stats.MaxOpenConnections > 0 && stats.MaxOpenConnections-stats.InUse < 2 {
		conns = 1 // a second one might wait for a connection that the caller uses
	}
	for range conns {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := checkConn(ctx, conn); err != nil {
			return err
		}
	}
	return nil
}

func checkConn(ctx context.Context, conn *sql.Conn) error {
	var foreignKeys bool
	if err := conn.QueryRowContext(ctx, "PRAGMA foreign_keys").Scan(&foreignKeys); err != nil {
		return fmt.Errorf("read PRAGMA foreign_keys: %w", err)
	}
	if !foreignKeys {
		return &remediation.InputError{Field: "db", Problem: "has foreign keys off: add _pragma=foreign_keys(1) to its DSN"}
	}
	for _, month := range []time.Month{time.January, time.July} { // some time zones equal UTC only in winter
		probe := time.Date(2026, month, 19, 15, 36, 1, 617957000, time.UTC)
		var stored string // an SQL literal, because with _texttotime the driver converts text to a time
		if err := conn.QueryRowContext(ctx, "SELECT quote(?)", probe).Scan(&stored); err != nil {
			return fmt.Errorf("probe the time format: %w", err)
		}
		if stored != "'"+probe.Format(timeLayout)+"'" {
			return &remediation.InputError{Field: "db", Problem: fmt.Sprintf("stores times as %s, which does not sort as time: "+
				"its DSN needs _time_format=sqlite, and neither _timezone nor _time_integer_format", stored)}
		}
	}
	return nil
}

// sortableTimes passes times to the driver as text in timeLayout, because the time format of a caller's transaction is
// not known.
type sortableTimes struct{ sqlitedb.DBTX }

func (tx sortableTimes) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return tx.DBTX.ExecContext(ctx, query, asText(args)...)
}

func (tx sortableTimes) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.DBTX.QueryContext(ctx, query, asText(args)...)
}

func (tx sortableTimes) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return tx.DBTX.QueryRowContext(ctx, query, asText(args)...)
}

func asText(args []any) []any {
	for i, arg := range args {
		switch t := arg.(type) {
		case time.Time:
			args[i] = t.Format(timeLayout)
		case *time.Time:
			if t != nil {
				args[i] = t.Format(timeLayout)
			}
		}
	}
	return args
}
