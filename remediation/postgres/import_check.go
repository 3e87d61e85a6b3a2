package postgres

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file checks that PostgreSQL can store the rows of an SQLite ledger, before Import copies them.

// imported lists the tables in the order of their foreign keys, with the columns whose values must fit PostgreSQL's
// types. The host program may have added columns to servers and alerts. Outputs are sanitized and always fit.
var imported = []struct{ table, id, columns string }{
	{"servers", "id", "attname IN ('id', 'is_paused', 'paused_at')"},
	{"alerts", "id", "attname IN ('id', 'server_id', 'title')"},
	{"remediation_servers", "server_id", "TRUE"},
	{"remediation_actions", "id", "attname NOT IN ('stdout', 'stderr')"},
	{"remediation_events", "id", "attname <> 'feed_position'"},
}

// importColumn describes a column of PostgreSQL.
type importColumn struct {
	Name, Type string
	Length     int // of VARCHAR(n) in characters, 0 or less if there is no limit
	NotNull    bool
}

// checkRows refuses the first value that PostgreSQL can't store. It runs before COPY, whose errors do not name the row.
func checkRows(ctx context.Context, from *sql.Tx, to pgx.Tx) error {
	servers := map[any]bool{}
	for _, i := range imported {
		described, err := to.Query(ctx, fmt.Sprintf(`SELECT attname::text, atttypid::regtype::text, atttypmod - 4, attnotnull
			FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped AND %s`, i.table, i.columns))
		if err != nil {
			return err
		}
		columns, err := pgx.CollectRows(described, pgx.RowToStructByPos[importColumn])
		if err != nil {
			return err
		}
		if err := checkTable(ctx, from, i.table, i.id, columns, servers); err != nil {
			return fmt.Errorf("%s %w", i.table, err)
		}
	}
	return nil
}

// checkTable checks one table. It adds the ids of the table servers to servers.
func checkTable(ctx context.Context, from *sql.Tx, table, id string, columns []importColumn, servers map[any]bool) error {
	query := "SELECT " + id
	for _, c := range columns {
		query += ", " + c.Name
	}
	rows, err := from.QueryContext(ctx, query+" FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	values, targets := make([]any, 1+len(columns)), make([]any, 1+len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		for i, c := range columns {
			value := values[1+i]
			problem := c.problem(value)
			if c.Name == "server_id" && table != "remediation_events" && problem == "" && !servers[value] {
				problem = literal(value) + " is not a server"
			}
			if problem != "" {
				return fmt.Errorf("%s: %w", literal(values[0]), &remediation.InputError{Field: c.Name, Problem: problem})
			}
		}
		if table == "servers" {
			servers[values[0]] = true
		}
	}
	return rows.Err()
}

// problem returns why a column can't store a value, or "".
func (c importColumn) problem(value any) string {
	switch value.(type) {
	case nil:
		if c.NotNull {
			return "is NULL"
		}
		return ""
	case []byte:
		return "is a BLOB"
	}
	switch c.Type {
	case "bigint":
		if _, ok := value.(int64); !ok {
			return literal(value) + " is not an integer"
		}
	case "boolean":
		if _, err := sqldriver.Bool.ConvertValue(value); err != nil {
			return literal(value) + " is not a boolean"
		}
	case "timestamp with time zone":
		at, ok := value.(time.Time)
		if !ok {
			return literal(value) + " can't be read as a time"
		}
		if year := at.UTC().Year(); year <= -4712 || year > 294_276 { // the range of timestamptz
			return fmt.Sprintf("%v is out of range", at)
		}
	default:
		text, ok := value.(string)
		switch {
		case !ok:
			return literal(value) + " is not text"
		case !utf8.ValidString(text):
			return "is not valid UTF-8"
		case strings.IndexByte(text, 0) >= 0:
			return "contains a NUL byte"
		case c.Length > 0 && utf8.RuneCountInString(text) > c.Length:
			return fmt.Sprintf("is longer than %d characters", c.Length)
		}
	}
	return ""
}

// literal formats a value for an error message, truncated.
func literal(value any) string {
	switch value.(type) {
	case string, []byte:
		return fmt.Sprintf("%.40q", value)
	}
	return fmt.Sprint(value)
}
