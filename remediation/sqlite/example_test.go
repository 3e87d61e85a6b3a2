package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// ExampleOpen and the others are the examples of the package and of its README.
func ExampleOpen() {
	ctx := context.Background()
	path, remove := exampleFile()
	defer remove()

	store, err := sqlite.Open(ctx, path, sqlite.WithBusyTimeout(30*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ledger := remediation.New(store)
	_, err = ledger.Get(ctx, 1)
	fmt.Println("before Migrate, the schema fits:", !errors.Is(err, remediation.ErrSchemaVersion))

	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = ledger.Get(ctx, 1)
	fmt.Println(err)
	// Output:
	// before Migrate, the schema fits: false
	// get action 1: no such action
}

// A program that already has a pool stores the ledger in the same database.
func ExampleNew() {
	ctx := context.Background()
	path, remove := exampleFile()
	defer remove()

	// region: pool
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"+
		"&_pragma=temp_store(memory)&_time_format=sqlite&_txlock=immediate")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := sqlite.Migrate(ctx, db); err != nil {
		log.Fatal(err)
	}
	store, err := sqlite.New(ctx, db)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close() // leaves db open
	ledger := remediation.New(store)
	// endregion

	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	action, err := ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "uptime", CreatedBy: "dashboard",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status, "by", *action.ApprovedBy)
	// Output: approved by auto
}

// New returns an error for a pool with the wrong settings. The error says how to correct them.
func ExampleNew_refused() {
	ctx := context.Background()
	path, remove := exampleFile()
	defer remove()

	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	_, err = sqlite.New(ctx, db)
	if refused := (*remediation.InputError)(nil); errors.As(err, &refused) {
		fmt.Println(refused.Field)
		fmt.Println(refused.Problem)
	}
	// Output:
	// db
	// has foreign keys off: add _pragma=foreign_keys(1) to its DSN
}

// One transaction commits the approval and the program's own row.
func ExampleTx() {
	ctx := context.Background()
	db, id, remove := examplePool()
	defer remove()

	// region: tx
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	ledger := remediation.New(sqlite.Tx(tx))
	if _, err := ledger.Approve(ctx, id, "alice"); err != nil {
		log.Fatal(err)
	}
	_, err = ledger.Approve(ctx, id, "bob")
	fmt.Println(err) // a refusal leaves the transaction usable
	if _, err := tx.ExecContext(ctx, "INSERT INTO hub_log (line) VALUES ('alice approved it')"); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	// endregion

	var status, line string
	err = db.QueryRowContext(ctx, "SELECT status, line FROM remediation_actions, hub_log").Scan(&status, &line)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status+",", line)
	// Output:
	// approve: action 1 is approved already
	// approved, alice approved it
}

// exampleFile returns the path of a database that does not exist yet.
func exampleFile() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "actionledger-example-")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "ledger.db"), func() {
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}

// examplePool returns a hub's own database with an empty table hub_log and one pending action.
func examplePool() (db *sql.DB, id int64, remove func()) {
	ctx := context.Background()
	path, removeFile := exampleFile()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_time_format=sqlite&_txlock=immediate")
	if err != nil {
		log.Fatal(err)
	}
	if err := sqlite.Migrate(ctx, db); err != nil {
		log.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE hub_log (line TEXT NOT NULL)"); err != nil {
		log.Fatal(err)
	}
	store, err := sqlite.New(ctx, db)
	if err != nil {
		log.Fatal(err)
	}
	ledger := remediation.New(store)
	err = errors.Join(ledger.AddServer(ctx, "web-1"), ledger.Pause(ctx, "web-1"))
	if err != nil {
		log.Fatal(err)
	}
	action, err := ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "uptime", CreatedBy: "dashboard",
	})
	if err != nil {
		log.Fatal(err)
	}
	return db, action.ID, func() {
		if err := errors.Join(store.Close(), db.Close()); err != nil {
			log.Fatal(err)
		}
		removeFile()
	}
}
