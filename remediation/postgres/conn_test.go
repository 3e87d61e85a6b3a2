package postgres_test

import (
	"errors"
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// The tests of this file run the lifecycle on each kind of connection: a pool, a single connection, a transaction of
// the caller, and each of pgx's query modes.

func TestLifecycleOnAPool(t *testing.T) {
	t.Parallel()
	walk(t, newLedger(postgres.New(pgtest.Pool(t, pgtest.URL(t)))), "web-1")
}

func TestLifecycleOnOneConnection(t *testing.T) {
	t.Parallel()
	walk(t, newLedger(postgres.New(connect(t, pgtest.URL(t)))), "web-1")
}

func TestLifecycleInTheCallersTransaction(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	outside := newLedger(postgres.New(pool))
	before := contentsOf(t, pool)

	tx := begin(t, pool)
	walk(t, newLedger(postgres.New(tx)), "web-1")
	same(t, "rows outside the transaction before the commit", contentsOf(t, pool), before)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "rows after the rollback", contentsOf(t, pool), before)

	tx = begin(t, pool)
	all := walk(t, newLedger(postgres.New(tx)), "web-1")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	readBack(t, outside, all)
}

func TestRefusalLeavesTheCallersTransactionUsable(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	outside := newLedger(postgres.New(pool))
	all := walk(t, outside, "web-1")
	pending, completed := all[0].ID, all[len(all)-1].ID
	must[remediation.Action](t)(outside.Withdraw(t.Context(), all[1].ID, "carol", "so that nothing is approved"))
	approved := must[remediation.Action](t)(outside.Create(t.Context(), newAction("web-1"))).ID
	if err := outside.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		call func(l *remediation.Ledger) error
		want error
	}{
		"a transition from the wrong status": {func(l *remediation.Ledger) error {
			_, err := l.Approve(t.Context(), completed, "bob")
			return err
		}, remediation.ErrInvalidTransition},
		"an unknown action": {func(l *remediation.Ledger) error {
			_, err := l.Reject(t.Context(), 1<<62, "bob", "no")
			return err
		}, remediation.ErrNotFound},
		"another server's action": {func(l *remediation.Ledger) error {
			_, err := l.Finish(t.Context(), "web-2", pending, remediation.Result{})
			return err
		}, remediation.ErrNotFound},
		"an unknown server": {func(l *remediation.Ledger) error {
			_, err := l.Create(t.Context(), newAction("nowhere"))
			return err
		}, remediation.ErrServerNotFound},
		"an alert of an unknown server": {func(l *remediation.Ledger) error {
			_, err := l.AddAlert(t.Context(), "nowhere", "down")
			return err
		}, remediation.ErrServerNotFound},
		"an unknown alert": {func(l *remediation.Ledger) error {
			given := newAction("web-1")
			given.AlertID = new(int64(1 << 62))
			_, err := l.Create(t.Context(), given)
			return err
		}, remediation.ErrAlertNotFound},
		"an approved action of a paused server": {func(l *remediation.Ledger) error {
			_, err := l.Start(t.Context(), approved)
			return err
		}, remediation.ErrInvalidTransition},
		"nothing to claim": {func(l *remediation.Ledger) error {
			_, err := l.Claim(t.Context(), "web-1")
			return err
		}, remediation.ErrNothingToClaim},
	} {
		t.Run(name, func(t *testing.T) {
			before := contentsOf(t, pool)
			tx := begin(t, pool)
			inTx := newLedger(postgres.New(tx))
			if err := c.call(inTx); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			same(t, "rows after the refused call", contentsOf(t, tx), before)
			got := must[remediation.Action](t)(inTx.Create(t.Context(), newAction("web-1")))
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			same(t, "the action that the transaction created afterwards", must[remediation.Action](t)(outside.Get(t.Context(), got.ID)), got)
		})
	}
}

// A program behind a connection pooler may need one of these modes.
func TestLifecycleInEveryQueryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, with(t, pgtest.EmptyURL(t), "default_query_exec_mode", mode))
			migrate(t, pool)
			walk(t, newLedger(postgres.New(pool)), "web-1")
			if err := postgres.Migrate(t.Context(), pool); err != nil {
				t.Errorf("the second Migrate: %v", err)
			}
		})
	}
}

func TestTimesAreUTCWhateverTheServersZone(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	run(t, connect(t, url), `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET timezone = ''America/New_York''', current_database());
		EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''', current_database());
	END $$`)
	for mode, iso := range map[string]bool{
		"cache_statement": false, "cache_describe": false, "describe_exec": false,
		// These two modes read times as text, and pgx can only read the ISO style. A program sets it in its URL.
		"exec": true, "simple_protocol": true,
	} {
		t.Run(mode, func(t *testing.T) {
			url := with(t, url, "default_query_exec_mode", mode)
			if iso {
				url = with(t, url, "datestyle", "ISO")
			}
			pool := pgtest.Pool(t, url)
			same(t, "the server's zone", one[string](t, pool, "SHOW timezone"), "America/New_York")
			walk(t, newLedger(postgres.New(pool)), mode)
			same(t, "the stored times", column[string](t, pool, `
				SELECT DISTINCT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
				FROM remediation_actions,
					LATERAL (VALUES (created_at), (approved_at), (rejected_at), (executed_at), (completed_at)) AS times (at)
				WHERE at IS NOT NULL`), []string{"2026-11-23 13:17:09.047807"})
		})
	}
}

func TestUnmigratedDatabaseLeavesTheCallersTransactionUsable(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	tx := begin(t, pool)
	run(t, tx, "CREATE TABLE hub_log (line TEXT)")
	if _, err := newLedger(postgres.New(tx)).Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrSchemaVersion) {
		t.Fatalf("Claim: %v, want ErrSchemaVersion", err)
	}
	run(t, tx, "INSERT INTO hub_log VALUES ('still usable')")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "lines", one[int64](t, pool, "SELECT count(*) FROM hub_log"), int64(1))
}
