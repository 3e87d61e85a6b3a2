package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // for ExampleImport

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// These need a server, so they are compiled and not run; the tests beside them run the same calls.

func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://hub@db.example/ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool); err != nil {
		log.Fatal(err)
	}
	ledger := remediation.New(postgres.New(pool))
	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
}

// In the caller's transaction the approval holds when the caller commits, together with what else it changed.
func ExampleNew_transaction() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://hub@db.example/ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
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
}

// A ledger that outgrew its file moves with its ids and its history.
func ExampleImport() {
	ctx := context.Background()
	ledgerFile, err := sql.Open("sqlite", "file:ledger.db?mode=ro")
	if err != nil {
		log.Fatal(err)
	}
	defer ledgerFile.Close()
	pool, err := pgxpool.New(ctx, "postgres://hub@db.example/ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool); err != nil {
		log.Fatal(err)
	}
	if err := postgres.Import(ctx, pool, ledgerFile); err != nil {
		log.Fatal(err)
	}
	fmt.Println("imported")
}
