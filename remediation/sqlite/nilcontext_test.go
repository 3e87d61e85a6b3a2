package sqlite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// The same pool and stores are used after the panics, because a lock that a panic left behind would block them.
func TestNilContextPanicsAndLeavesNoLock(t *testing.T) {
	t.Parallel()
	var none context.Context
	path := ledgerFile(t)
	wantPanic(t, "Open", func() { _, _ = sqlite.Open(none, path) })
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open with a nil context created a file: %v", err)
	}
	opened := openLedger(t, path)
	pool := rawPool(t, path, goodPool)
	pool.SetMaxOpenConns(1)
	wantPanic(t, "New", func() { _, _ = sqlite.New(none, pool) })
	wantPanic(t, "Migrate", func() { _ = sqlite.Migrate(none, pool) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		onPool, err := sqlite.New(t.Context(), pool)
		if err != nil {
			t.Error(err)
			return
		}
		defer onPool.Close()
		for name, store := range map[string]*sqlite.Store{"Open": opened, "New": onPool} {
			wantPanic(t, "Migrate of the store of "+name, func() { _ = store.Migrate(none) })
			err := errors.Join(store.Migrate(t.Context()), remediation.New(store).AddServer(t.Context(), "web-1"))
			if err != nil {
				t.Errorf("after the panics, on the store of %s: %v", name, err)
			}
		}
		tx, err := pool.Begin()
		if err != nil {
			t.Error(err)
			return
		}
		defer tx.Rollback()
		wantPanic(t, "AddServer in a transaction", func() { _ = remediation.New(sqlite.Tx(tx)).AddServer(none, "web-2") })
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM servers").Scan(&n); err != nil || n != 1 {
			t.Errorf("the transaction has %d servers, %v, want 1", n, err)
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("a call hangs after the panics")
	}
}

func wantPanic(t *testing.T, name string, call func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s with a nil context did not panic", name)
		}
	}()
	call()
}

func TestOpenWithAnEndedContextCreatesNoFile(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := ledgerFile(t)
	if _, err := sqlite.Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v, want context.Canceled", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open created a file: %v", err)
	}
	pool := rawPool(t, path, goodPool)
	if _, err := sqlite.New(ctx, pool); !errors.Is(err, context.Canceled) {
		t.Errorf("New: %v, want context.Canceled", err)
	}
}
