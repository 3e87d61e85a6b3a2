// Package sqlcheck checks the SQL of both engines on migrated databases: queries prepare, use indexes, and read few
// pages. It also checks that no code builds SQL from input.
package sqlcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// sqlc's parsers accept some queries that an engine refuses. Its built-in rule sqlc/db-prepare prepares each query.
func TestQueriesPrepareOnMigratedDatabases(t *testing.T) {
	sqlc := strings.Fields(os.Getenv("SQLC"))
	if len(sqlc) == 0 {
		t.Skip("SQLC names no sqlc: run make vet-sql")
	}
	url := pgtest.URL(t)
	path := filepath.Join(t.TempDir(), "vet.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), sqlc[0], append(sqlc[1:], "vet")...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "SQLITE_PATH="+path, "POSTGRES_URL="+url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sqlc vet: %v\n%s", err, out)
	}
}
