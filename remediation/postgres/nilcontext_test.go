package postgres_test

import (
	"context"
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// If a panic left a lock or a connection in use, the next call would wait until its context ends.
func TestNilContextPanicsAndLeavesNoLock(t *testing.T) {
	t.Parallel()
	var none context.Context
	ctx := bounded(t)
	url := pgtest.EmptyURL(t)
	pool := pgtest.Pool(t, with(t, url, "pool_max_conns", "1"))
	path, _ := sqliteLedger(t, newest(t))
	from := openSQLite(t, path, "mode=ro")
	from.SetMaxOpenConns(1)
	wantPanic(t, "Migrate", func() { _ = postgres.Migrate(none, pool) })
	if err := postgres.Migrate(ctx, pool); err != nil {
		t.Fatal(err)
	}
	wantPanic(t, "Import", func() { _ = postgres.Import(none, pool, from) })
	if err := postgres.Import(ctx, pool, from); err != nil {
		t.Fatal(err)
	}
	wantPanic(t, "AddServer on a pool", func() { _ = newLedger(postgres.New(pool)).AddServer(none, "web-1") })
	walk(t, newLedger(postgres.New(pool)), "web-1")
	ledger := newLedger(postgres.New(connect(t, url)))
	wantPanic(t, "AddServer on a connection", func() { _ = ledger.AddServer(none, "web-2") })
	walk(t, ledger, "web-2")
}

// wantPanic expects call to panic.
func wantPanic(t *testing.T, what string, call func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s with a nil context did not panic", what)
		}
	}()
	call()
}
