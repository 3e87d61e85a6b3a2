package postgres_test

import (
	"context"
	"database/sql"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // for ExampleImport

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/schema"
)

// TestExamples runs the examples. They need a server and have no "// Output:", so go test does not run them by itself.
func TestExamples(t *testing.T) {
	url := pgtest.EmptyURL(t)
	t.Setenv("LEDGER_URL", url)
	Example() // migrates, and adds the server web-1

	pool := pgtest.Pool(t, url)
	run(t, pool, "CREATE TABLE hub_log (line text NOT NULL)")
	ledger := remediation.New(postgres.New(pool))
	if err := ledger.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		create(t, ledger)
	}
	ExampleNew_transaction()
	approved := must[remediation.Action](t)(ledger.Get(t.Context(), 7))
	same(t, "the approval", approved.Status, remediation.Approved)
	same(t, "the line in hub_log", one[string](t, pool, "SELECT line FROM hub_log"), approved.Command)

	file, _ := sqliteLedger(t, must[int](t)(migration.Latest(schema.SQLite)))
	t.Chdir(filepath.Dir(file))
	t.Setenv("LEDGER_URL", pgtest.URL(t))
	ExampleImport()
}

// The environment variable LEDGER_URL has the URL of the database, such as postgres://hub@db.example/ledger.
func Example() {
	ctx := context.Background()
	// region: open
	pool, err := pgxpool.New(ctx, os.Getenv("LEDGER_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool); err != nil {
		log.Fatal(err)
	}
	ledger := remediation.New(postgres.New(pool))
	// endregion
	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
}

// The approval and the caller's own row are committed in one transaction.
func ExampleNew_transaction() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("LEDGER_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	// region: tx
	tx, err := pool.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback(ctx)
	approved, err := remediation.New(postgres.New(tx)).Approve(ctx, 7, "alice")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO hub_log (line) VALUES ($1)", approved.Command); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	// endregion
}

// Import copies a ledger from an SQLite file to PostgreSQL, with its ids and its history.
func ExampleImport() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("LEDGER_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	// region: import
	ledgerFile, err := sql.Open("sqlite", "file:ledger.db?mode=ro")
	if err != nil {
		log.Fatal(err)
	}
	defer ledgerFile.Close()
	if err := postgres.Migrate(ctx, pool); err != nil {
		log.Fatal(err)
	}
	if err := postgres.Import(ctx, pool, ledgerFile); err != nil {
		log.Fatal(err)
	}
	// endregion
}
