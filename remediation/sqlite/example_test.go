package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// A complete program: one action goes from its request to its result.
func Example() {
	ctx := context.Background()
	path, remove := exampleFile()
	defer remove()

	store, err := sqlite.Open(ctx, path) // created if there is none
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	ledger := remediation.New(store)

	// The hub queues a command. In maintenance it waits for a person; in normal mode it is approved at once.
	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	queued, err := ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "echo all is well", CreatedBy: "dashboard",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("queued:", queued.Status)

	if _, err := ledger.Approve(ctx, queued.ID, "alice"); err != nil {
		log.Fatal(err)
	}

	// The agent of web-1 takes what may run, runs it, and reports.
	for {
		action, err := ledger.Claim(ctx, "web-1")
		if errors.Is(err, remediation.ErrNothingToClaim) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		var stdout, stderr strings.Builder
		cmd := exec.CommandContext(ctx, "sh", "-c", action.Command)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			log.Fatal(err) // it did not even start: there is no exit code to report
		}
		done, err := ledger.Finish(ctx, "web-1", action.ID, remediation.Result{
			ExitCode: int64(cmd.ProcessState.ExitCode()), Stdout: stdout.String(), Stderr: stderr.String(),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s by %s, exit code %d: %s", done.Status, *done.ApprovedBy, *done.ExitCode, *done.Stdout)
	}
	// Output:
	// queued: pending
	// completed by alice, exit code 0: all is well
}

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

// A program that has a pool already keeps the ledger in the same database.
func ExampleNew() {
	ctx := context.Background()
	path, remove := exampleFile()
	defer remove()

	db, err := sql.Open("sqlite", "file:"+path+
		"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_time_format=sqlite&_txlock=immediate")
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

// A pool whose connections would spoil the ledger is refused, with what mends it.
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

// The approval and the program's own row hold together, or neither does.
func ExampleTx() {
	ctx := context.Background()
	db, id, remove := examplePool()
	defer remove()

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
	fmt.Println(err) // a refusal leaves the transaction as usable as it was
	if _, err := tx.ExecContext(ctx, "INSERT INTO hub_log (line) VALUES ('alice approved it')"); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}

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

// exampleFile returns the path of a database that nobody has made yet.
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
