package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"testing"

	modernc "modernc.org/sqlite"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// Some tests need several processes on one file, or kill one. They start this test binary again as a helper process.

// helperEnv is the environment variable that makes the test binary a helper instead of running tests. Its value is the
// helper's name.
const helperEnv = "ACTIONLEDGER_TEST_HELPER"

// helpers are the functions that a helper process can run on the database file at path.
var helpers = map[string]func(ctx context.Context, path string) error{
	"create":           helpCreate,
	"migrate":          helpMigrate,
	"migrate own pool": helpMigrateOwnPool,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		os.Exit(help(name, os.Args[1]))
	}
	modernc.RegisterConnectionHook(recordSettings)
	code := m.Run()
	removeCLI()
	os.Exit(code)
}

// help prints that it is ready, waits until its standard input is closed, and runs a helper. It returns the exit
// status.
func help(name, path string) int {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	if err == nil {
		err = helpers[name](context.Background(), path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func helpCreate(ctx context.Context, path string) error {
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	ledger := remediation.New(store)
	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		return err
	}
	_, err = ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "restart_service", Command: "systemctl restart nginx", CreatedBy: "dashboard",
	})
	return err
}

func helpMigrate(ctx context.Context, path string) error {
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Migrate(ctx)
}

func helpMigrateOwnPool(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", poolDSN(path, goodPool))
	if err != nil {
		return err
	}
	defer db.Close()
	return sqlite.Migrate(ctx, db)
}
