package soak

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// This file tests the feed of events on PostgreSQL: on a standby, after a promotion, with prepared transactions and
// after a restore.

// feed reads events as a consumer does, and keeps its position.
type feed struct {
	after int64
	read  []int64
}

// wantNew reads all new events of a ledger and expects want of them.
func (f *feed) wantNew(t *testing.T, when string, ledger *remediation.Ledger, want int) {
	t.Helper()
	got := 0
	for {
		page := must[[]remediation.Event](t)(ledger.Events(t.Context(), f.after, 3))
		if len(page) == 0 {
			break
		}
		got += len(page)
		for _, e := range page {
			f.after, f.read = e.ID, append(f.read, e.ID)
		}
	}
	if got != want {
		t.Errorf("%d new events %s, want %d", got, when, want)
	}
}

// wantAllStored expects that each stored event was read exactly once.
func (f *feed) wantAllStored(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	rows := must[pgx.Rows](t)(pool.Query(t.Context(), "SELECT id FROM remediation_events ORDER BY id"))
	want := must[[]int64](t)(pgx.CollectRows(rows, pgx.RowTo[int64]))
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(f.read))); diff != "" {
		t.Errorf("IDs of the events (-stored +read):\n%s", diff)
	}
}

// createOn creates an action, which adds two events.
func createOn(t *testing.T, ledger *remediation.Ledger) {
	t.Helper()
	must[remediation.Action](t)(ledger.Create(t.Context(), remediation.NewAction{
		ServerID: loadServers[0], ActionType: "check", Command: "true", CreatedBy: "ann"}))
}

// beginOn begins a transaction and returns it with a ledger on it.
func beginOn(t *testing.T, pool *pgxpool.Pool, options pgx.TxOptions) (pgx.Tx, *remediation.Ledger) {
	t.Helper()
	tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), options))
	t.Cleanup(func() { tx.Rollback(t.Context()) })
	return tx, remediation.New(postgres.New(tx))
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A consumer reads the feed on a standby and after its promotion, while transactions are open on the primary. It must
// read every event exactly once.
func TestStandbyFeedMissesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	primary := newCluster(t)
	d := ledgerOn(t, primary)
	pool := pgtest.Pool(t, string(d))
	ledger := remediation.New(postgres.New(pool))
	createOn(t, ledger)
	before, ledgerBefore := beginOn(t, pool, pgx.TxOptions{}) // open while the standby starts
	createOn(t, ledgerBefore)
	createOn(t, ledger)
	standby := primary.standby(t, 0)
	replica := pgtest.Pool(t, strings.Replace(string(clusterURL("ledger", standby)), "read-write", "any", 1))
	replicaLedger := remediation.New(postgres.New(replica))
	waitForReplay := func() {
		t.Helper()
		var written string
		if err := pool.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&written); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the standby has replayed it", func() (done bool) {
			err := replica.QueryRow(t.Context(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written).Scan(&done)
			if err != nil {
				t.Fatal(err)
			}
			return done
		})
	}
	var reader feed
	waitForReplay()
	reader.wantNew(t, "before the open transaction", replicaLedger, 2)
	during, ledgerDuring := beginOn(t, pool, pgx.TxOptions{})
	createOn(t, ledgerDuring)
	createOn(t, ledger)
	waitForReplay()
	reader.wantNew(t, "while both transactions are open", replicaLedger, 0)
	commit(t, before)
	waitForReplay()
	reader.wantNew(t, "before the transaction that is still open", replicaLedger, 4)
	snapshot, snapshotLedger := beginOn(t, replica, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	reader.wantNew(t, "in a repeatable-read transaction", snapshotLedger, 0)
	commit(t, during)
	createOn(t, ledger)
	waitForReplay()
	reader.wantNew(t, "later in the same transaction", snapshotLedger, 0)
	commit(t, snapshot)
	reader.wantNew(t, "without an open transaction", replicaLedger, 6)
	reader.wantAllStored(t, pool)

	// The consumer continues on the new primary.
	open, ledgerOpen := beginOn(t, pool, pgx.TxOptions{})
	createOn(t, ledgerOpen)
	createOn(t, ledger)
	commit(t, open)
	waitForReplay()
	primary.crash(t)
	standby.promote(t)
	createOn(t, replicaLedger)
	reader.wantNew(t, "after the promotion", replicaLedger, 6)
	reader.wantAllStored(t, replica)
}

// A prepared transaction holds back later events of its database, also after a restart.
// A prepared transaction of another database does not.
func TestPreparedTransactionDelaysTheFeedOfItsDatabase(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "max_prepared_transactions = 5")
	pool := pgtest.Pool(t, string(ledgerOn(t, c)))
	other := pgtest.Pool(t, string(clusterURL("postgres", c)))
	ledger := remediation.New(postgres.New(pool))
	exec := func(pool *pgxpool.Pool, statements string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), statements); err != nil {
			t.Fatalf("%s: %v", statements, err)
		}
	}
	exec(other, "BEGIN; CREATE TABLE elsewhere (); PREPARE TRANSACTION 'of another database'")
	var reader feed
	createOn(t, ledger)
	reader.wantNew(t, "with a prepared transaction in another database", ledger, 2)
	for _, how := range []string{"COMMIT", "ROLLBACK"} {
		tx, txLedger := beginOn(t, pool, pgx.TxOptions{})
		createOn(t, txLedger)
		if _, err := tx.Exec(t.Context(), "PREPARE TRANSACTION 'of this one'"); err != nil {
			t.Fatal(err)
		}
		tx.Rollback(t.Context()) // returns the connection to the pool; the prepared transaction stays
		createOn(t, ledger)
		reader.wantNew(t, "while the transaction is prepared", ledger, 0)
		c.stop(t, "immediate") // a prepared transaction survives a restart
		c.start(t)
		pool.Reset()
		reader.wantNew(t, "after a restart", ledger, 0)
		exec(pool, how+" PREPARED 'of this one'")
		reader.wantNew(t, "after "+how, ledger, map[string]int{"COMMIT": 4, "ROLLBACK": 2}[how])
	}
	reader.wantAllStored(t, pool)
}

// A ledger is restored into a cluster with lower transaction ids. After Migrate the feed continues where it was.
func TestFeedContinuesAfterRestoreIntoAnotherCluster(t *testing.T) {
	t.Parallel()
	old := newCluster(t)
	from := pgtest.Pool(t, string(ledgerOn(t, old)))
	// Use up transaction ids, so that the other cluster's are lower.
	_, err := from.Exec(t.Context(), "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	if err != nil {
		t.Fatal(err)
	}
	ledger := remediation.New(postgres.New(from))
	var reader feed
	createOn(t, ledger)
	reader.wantNew(t, "in the old cluster", ledger, 2)
	createOn(t, ledger)
	dump := filepath.Join(old.dir, "dump")
	connection := func(c *cluster) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=ledger", c.port)
	}
	old.run(t, "pg_dump", "--format=custom", "--file", dump, "--dbname", connection(old))

	c := newCluster(t)
	c.run(t, "createdb", "--host=127.0.0.1", fmt.Sprint("--port=", c.port), "--username=postgres", "ledger")
	c.run(t, "pg_restore", "--dbname", connection(c), dump)
	to := pgtest.Pool(t, string(clusterURL("ledger", c)))
	ledger = remediation.New(postgres.New(to))
	createOn(t, ledger)
	if _, err := ledger.Events(t.Context(), reader.after, 10); !errors.Is(err, remediation.ErrSchemaVersion) {
		t.Errorf("Events before Migrate: %v, want ErrSchemaVersion", err)
	}
	open, txLedger := beginOn(t, to, pgx.TxOptions{})
	if _, err := open.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	createOn(t, txLedger)
	createOn(t, ledger)
	reader.wantNew(t, "before the open transaction", ledger, 4)
	commit(t, open)
	reader.wantNew(t, "after its commit", ledger, 4)
	reader.wantAllStored(t, to)
	if !slices.IsSorted(reader.read) {
		t.Errorf("the feed returned events %v, want the old events before the new ones", reader.read)
	}
}
