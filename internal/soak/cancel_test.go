package soak

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// Callers cancel their contexts at random moments. Each cancelled call must have happened completely or not at all, and
// no connection, transaction or goroutine may leak. The test is not parallel because it counts the goroutines of the
// process.
func TestCancelledCallIsAtomic(t *testing.T) {
	onEngines(t, func(t *testing.T, d database) {
		outside := d.raw(t)
		before := goleak.IgnoreCurrent()
		store, closeStore := openForCancelRun(t, d)
		s := &cancelRun{t: t, ledger: remediation.New(store)}
		run := newRun(t, 3, s.String)
		for run.next() {
			s.makeCalls(run.Uint64())
			checkOrdinaryCalls(t, s.ledger)
			checkNoOpenTransaction(t, d, outside)
		}
		closeStore()
		checkNoGoroutineLeak(t, before)
		s.resolveOpen(d.ledger(t))
		// A PostgreSQL server may still finish a statement that its client gave up on. SQLite runs in the caller's
		// process.
		if s.late > 0 && !d.isPostgres() {
			t.Errorf("%d cancelled calls changed an action after they had returned", s.late)
		}
	})
}

// With a rollback journal a commit waits for readers, so a context can also end during the commit.
func TestCancelledCallIsAtomicWithARollbackJournal(t *testing.T) {
	d := newSQLite(t)
	t.Cleanup(func() { d.check(t) })
	reader := d.raw(t)
	var mode string
	if err := reader.QueryRow("PRAGMA journal_mode = DELETE").Scan(&mode); err != nil || mode != "delete" {
		t.Fatalf("journal mode %q, %v", mode, err)
	}
	before := goleak.IgnoreCurrent()
	pool := must[*sql.DB](t)(sql.Open("sqlite", "file:"+string(d)+
		"?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_time_format=sqlite&_txlock=immediate"))
	pool.SetMaxOpenConns(4)
	store := must[*sqlite.Store](t)(sqlite.New(t.Context(), pool))
	s := &cancelRun{t: t, ledger: remediation.New(store)}
	run := newRun(t, 1, s.String)
	for run.next() {
		ctx, cancel := context.WithCancel(t.Context())
		var reading sync.WaitGroup
		reading.Go(func() {
			for ctx.Err() == nil {
				var n int
				const slow = "SELECT count(*) FROM remediation_actions AS a, remediation_events AS e"
				if err := reader.QueryRow(slow).Scan(&n); err != nil {
					t.Error(err)
					return
				}
			}
		})
		s.makeCalls(run.Uint64())
		cancel()
		reading.Wait()
		checkOrdinaryCalls(t, s.ledger)
		waitUntil(t, "every connection is back in the pool", func() bool { return pool.Stats().InUse == 0 })
	}
	wantNoError(t, store.Close(), pool.Close())
	checkNoGoroutineLeak(t, before)
	s.resolveOpen(d.ledger(t))
	if s.late > 0 {
		t.Errorf("%d cancelled calls changed an action after they had returned", s.late)
	}
}

// openForCancelRun opens a ledger. On PostgreSQL its close function also checks that every connection is back in the
// pool.
func openForCancelRun(t *testing.T, d database) (remediation.Store, func()) {
	t.Helper()
	if !d.isPostgres() {
		store, closeStore, err := d.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return store, func() {
			if err := closeStore(); err != nil {
				t.Error(err)
			}
		}
	}
	pool := must[*pgxpool.Pool](t)(pgxpool.New(t.Context(), string(withParam(t, d, "pool_max_conns", "16"))))
	return postgres.New(pool), func() {
		waitUntil(t, "every connection is back in the pool", func() bool { return pool.Stat().AcquiredConns() == 0 })
		pool.Close()
	}
}

// checkOrdinaryCalls takes one action through its lifecycle, without any cancelled context.
func checkOrdinaryCalls(t *testing.T, l *remediation.Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const server = "calm"
	if err := errors.Join(l.AddServer(ctx, server), l.Pause(ctx, server)); err != nil {
		t.Fatal(err)
	}
	a, err := l.Create(ctx, remediation.NewAction{
		ServerID: server, ActionType: "run_command", Command: "true", CreatedBy: "ann"})
	if err == nil {
		_, err = l.Approve(ctx, a.ID, "ben")
	}
	if err == nil {
		_, err = l.Claim(ctx, server)
	}
	if err == nil {
		_, err = l.Finish(ctx, server, a.ID, remediation.Result{})
	}
	if err != nil {
		t.Fatalf("an ordinary call after the cancelled calls: %v", err)
	}
}

// checkNoOpenTransaction waits until the calls have left no open transaction. It looks from a connection of its own.
func checkNoOpenTransaction(t *testing.T, d database, db *sql.DB) {
	t.Helper()
	conn := must[*sql.Conn](t)(db.Conn(t.Context()))
	defer conn.Close()
	// SQLite can truncate the WAL only if no other connection reads or writes. Otherwise the first column is 1.
	open := "PRAGMA wal_checkpoint(TRUNCATE)"
	if d.isPostgres() {
		open = `SELECT count(*), 0, 0 FROM pg_stat_activity WHERE datname = current_database()
			AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`
	} else if _, err := conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "no transaction is open", func() bool {
		var n, log, moved int
		if err := conn.QueryRowContext(t.Context(), open).Scan(&n, &log, &moved); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// checkNoGoroutineLeak waits longer than goleak does by default, because the last timer of a pgx pool runs for half a
// second.
func checkNoGoroutineLeak(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < 10*time.Second; {
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}
