package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// The diagram in schema/README.md shows exactly the tables and columns of SQLite. PostgreSQL has the same, and some
// more.
func TestDiagramIsTheSchema(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	rows, err := db.QueryContext(t.Context(), `SELECT group_concat(t.name || '.' || c.name, char(10))
		FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
		WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> 'schema_migrations'
		GROUP BY t.name ORDER BY t.name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var want, shown []string
	for rows.Next() {
		var columns string
		if err := rows.Scan(&columns); err != nil {
			t.Fatal(err)
		}
		want = append(want, columns)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	text := read(t, "schema/README.md")
	for _, table := range regexp.MustCompile(`(?ms)^    (\w+) \{\n(.*?)^    \}`).FindAllStringSubmatch(text, -1) {
		names := regexp.MustCompile(`(?m)^        \w+ (\w+).*\n`).ReplaceAllString(table[2], table[1]+".$1\n")
		shown = append(shown, strings.TrimSpace(names))
	}
	slices.Sort(shown)
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("columns (-schema +diagram):\n%s", diff)
	}
}

func TestEachMigrationIsListed(t *testing.T) {
	newest, err := migration.Latest(schema.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, "schema/README.md")
	for v := 1; v <= newest+1; v++ {
		if listed := strings.Contains(text, fmt.Sprintf("\n| %d | ", v)); listed != (v <= newest) {
			t.Errorf("schema/README.md lists migration %d: %t", v, listed)
		}
	}
}
