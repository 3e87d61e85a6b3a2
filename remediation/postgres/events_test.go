package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// feedReader reads the feed as a consumer does. It remembers the last event and every event that it has read.
type feedReader struct {
	ledger *remediation.Ledger
	after  int64
	seen   []int64
}

// poll reads all new events and returns how many there were.
func (r *feedReader) poll(t *testing.T) int {
	t.Helper()
	return r.pollOn(t, r.ledger)
}

func (r *feedReader) pollOn(t *testing.T, ledger *remediation.Ledger) int {
	t.Helper()
	for n := 0; ; {
		page := must[[]remediation.Event](t)(ledger.Events(t.Context(), r.after, 3))
		if len(page) == 0 {
			return n
		}
		n += len(page)
		for _, e := range page {
			r.after = e.ID
			r.seen = append(r.seen, e.ID)
		}
	}
}

// wantAllOnce expects that the reader got every stored event exactly once, in any order.
func (r *feedReader) wantAllOnce(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	same(t, "ids of the events in the feed", slices.Sorted(slices.Values(r.seen)),
		column[int64](t, pool, "SELECT id FROM remediation_events ORDER BY id"))
}

// newFeed returns a ledger with the server "web-1", its database and a reader of its events.
func newFeed(t *testing.T) (*pgxpool.Pool, *remediation.Ledger, *feedReader) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return pool, ledger, &feedReader{ledger: ledger}
}

// openTx begins a transaction and returns a ledger in it. The transaction is rolled back when the test ends.
func openTx(t *testing.T, pool *pgxpool.Pool) (pgx.Tx, *remediation.Ledger) {
	t.Helper()
	tx := must[pgx.Tx](t)(pool.Begin(t.Context()))
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx, newLedger(postgres.New(tx))
}

// openOldTx opens a transaction that has its snapshot and its id. It does not see transactions that begin later, and its
// events get lower feed positions than theirs.
func openOldTx(t *testing.T, pool *pgxpool.Pool) (pgx.Tx, *remediation.Ledger) {
	t.Helper()
	tx, inTx := openTx(t, pool)
	run(t, tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	run(t, tx, "SELECT pg_current_xact_id()")
	return tx, inTx
}

// create creates an action of the server "web-1", which is two events unless the server is paused: created and approved.
func create(t *testing.T, l *remediation.Ledger) remediation.Action {
	t.Helper()
	return must[remediation.Action](t)(l.Create(t.Context(), newAction("web-1")))
}

// end commits a transaction or rolls it back: end(t, tx.Commit).
func end(t *testing.T, commitOrRollback func(context.Context) error) {
	t.Helper()
	if err := commitOrRollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTransactionDelaysLaterEvents(t *testing.T) {
	t.Parallel()
	for _, change := range []struct {
		call   string
		events int
		run    func(t *testing.T, tx pgx.Tx, inTx *remediation.Ledger)
	}{
		{"Create", 2, func(t *testing.T, _ pgx.Tx, inTx *remediation.Ledger) { create(t, inTx) }},
		{"Claim", 1, func(t *testing.T, _ pgx.Tx, inTx *remediation.Ledger) {
			must[remediation.Action](t)(inTx.Claim(t.Context(), "web-1"))
		}},
		{"DELETE", 1, func(t *testing.T, tx pgx.Tx, _ *remediation.Ledger) { run(t, tx, "DELETE FROM remediation_actions") }},
	} {
		for _, commits := range []bool{true, false} {
			pool, ledger, reader := newFeed(t)
			create(t, ledger)
			same(t, "new events before "+change.call, reader.poll(t), 2)
			tx, inTx := openTx(t, pool)
			change.run(t, tx, inTx)
			for range 3 {
				create(t, ledger) // commits, but began after the open transaction
				same(t, "new events while "+change.call+" is open", reader.poll(t), 0)
			}
			if commits {
				end(t, tx.Commit)
				same(t, "new events after its commit", reader.poll(t), 6+change.events)
			} else {
				end(t, tx.Rollback)
				same(t, "new events after its rollback", reader.poll(t), 6)
			}
			reader.wantAllOnce(t, pool)
		}
	}
}

func TestOpenTransactionDelaysAnEmptyFeed(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	same(t, "events of an empty feed", reader.poll(t), 0)
	tx, inTx := openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	same(t, "new events while it is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 4)
	reader.wantAllOnce(t, pool)
}

func TestTransactionThatWritesOtherTablesDelaysTheFeed(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	tx, inTx := openTx(t, pool)
	if err := inTx.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	create(t, ledger)
	same(t, "new events while a writer of other tables is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 2)
	reader.wantAllOnce(t, pool)
}

func TestTransactionWithoutAnIDDoesNotDelayTheFeed(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level}))
		t.Cleanup(func() { tx.Rollback(context.Background()) })
		must[[]remediation.Event](t)(newLedger(postgres.New(tx)).Events(t.Context(), 0, 100))
	}
	create(t, ledger)
	same(t, "new events while readers are open", reader.poll(t), 2)
	reader.wantAllOnce(t, pool)
}

func TestFeedEndsAtTheOldestOfSeveralOpenTransactions(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	first, firstLedger := openTx(t, pool)
	second, secondLedger := openTx(t, pool)
	create(t, ledger)
	create(t, firstLedger)
	create(t, ledger)
	create(t, secondLedger)
	create(t, firstLedger)
	create(t, ledger)
	same(t, "new events while both are open", reader.poll(t), 2)
	end(t, second.Commit)
	same(t, "new events after the second has ended", reader.poll(t), 0)
	end(t, first.Rollback)
	same(t, "new events after both have ended", reader.poll(t), 6)
	reader.wantAllOnce(t, pool)
}

func TestSavepointRollbackLosesNoEvent(t *testing.T) {
	t.Parallel()
	for _, savepointIsFirst := range []bool{true, false} {
		pool, ledger, reader := newFeed(t)
		tx, inTx := openTx(t, pool)
		if !savepointIsFirst {
			create(t, inTx)
		}
		nested := must[pgx.Tx](t)(tx.Begin(t.Context()))
		create(t, newLedger(postgres.New(nested)))
		end(t, nested.Rollback)
		create(t, inTx)
		create(t, ledger)
		same(t, "new events while it is open", reader.poll(t), 0)
		nested = must[pgx.Tx](t)(tx.Begin(t.Context()))
		create(t, newLedger(postgres.New(nested)))
		end(t, nested.Commit) // releases the savepoint
		create(t, ledger)
		same(t, "new events while it is still open", reader.poll(t), 0)
		end(t, tx.Commit)
		reader.poll(t)
		reader.wantAllOnce(t, pool)
	}
}

// Transaction A has the lower transaction id and the higher event ids, and commits first. The feed gives its events
// first, and then those of B if it commits, although their ids are lower.
func TestFeedReturnsLowerEventIDsAfterHigherOnes(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		pool, _, reader := newFeed(t)
		a, ledgerA := openOldTx(t, pool)
		xidA := one[int64](t, a, "SELECT pg_current_xact_id()::text::bigint")
		b, ledgerB := openTx(t, pool)
		if xidB := one[int64](t, b, "SELECT pg_current_xact_id()::text::bigint"); xidB <= xidA {
			t.Fatalf("B has transaction id %d, want it above A's %d", xidB, xidA)
		}
		create(t, ledgerB)
		create(t, ledgerA)
		end(t, a.Commit)
		same(t, "A's events while B is open", reader.poll(t), 2)
		if commits {
			end(t, b.Commit)
		} else {
			end(t, b.Rollback)
		}
		reader.poll(t)
		reader.wantAllOnce(t, pool)
	}
}

func TestCauseComesBeforeItsEffect(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		pool, ledger, reader := newFeed(t)
		if err := ledger.Pause(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		old := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level}))
		t.Cleanup(func() { old.Rollback(context.Background()) })
		if level == pgx.ReadCommitted {
			run(t, old, "SELECT pg_current_xact_id()") // its id is lower than that of the action's creation
		}
		a := create(t, ledger)
		create(t, ledger)
		must[remediation.Action](t)(newLedger(postgres.New(old)).Approve(t.Context(), a.ID, "bob"))
		end(t, old.Commit)
		kinds := []remediation.EventKind{}
		for _, e := range must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 10)) {
			if e.ActionID == a.ID {
				kinds = append(kinds, e.Kind)
			}
		}
		same(t, "the action's events in the feed", kinds, []remediation.EventKind{remediation.EventCreated, remediation.EventApproved})
		reader.poll(t)
		reader.wantAllOnce(t, pool)
	}
}

// An UPDATE that waited for a row lock changes the newest version of the row, which its own snapshot does not contain.
func TestCauseComesBeforeAnEffectThatWaitedForItsLock(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	a := create(t, ledger)
	old, _ := openTx(t, pool)
	run(t, old, "SELECT pg_current_xact_id()")
	young, youngLedger := openTx(t, pool)
	must[remediation.Action](t)(youngLedger.Start(t.Context(), a.ID))
	pid := one[uint32](t, old, "SELECT pg_backend_pid()")
	finished := make(chan error, 1)
	go func() {
		_, err := old.Exec(t.Context(), "UPDATE remediation_actions SET status = 'completed', completed_at = now(), exit_code = 0 "+
			"WHERE id = $1 AND status IN ('approved', 'executing')", a.ID)
		finished <- err
	}()
	for one[int64](t, pool, "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", pid) == 0 {
		runtime.Gosched()
	}
	end(t, young.Commit)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	end(t, old.Commit)
	reader.poll(t)
	reader.wantAllOnce(t, pool)
	same(t, "kinds by feed position", column[string](t, pool, "SELECT kind::text FROM remediation_events ORDER BY feed_position, id"),
		[]string{"created", "approved", "executing", "completed"})
}

func TestSubtransactionsLoseNoEvent(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	tx, _ := openTx(t, pool)
	run(t, tx, `DO $$ BEGIN
		FOR i IN 1..150 LOOP -- more subtransactions than a session lists in shared memory
			BEGIN
				INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
				VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann');
				IF i % 3 = 0 THEN
					RAISE EXCEPTION 'undone';
				END IF;
			EXCEPTION WHEN raise_exception THEN
				NULL;
			END;
		END LOOP;
	END $$`)
	create(t, ledger)
	same(t, "new events while it is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 100+2)
	reader.wantAllOnce(t, pool)
}

// One connection runs many transactions. What one of them has stored in the session must not count for the next one.
func TestEachTransactionOfAConnectionDelaysTheFeed(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	conn := must[*pgxpool.Conn](t)(pool.Acquire(t.Context()))
	defer conn.Release()
	for i := range 4 {
		tx := must[pgx.Tx](t)(conn.Begin(t.Context()))
		create(t, newLedger(postgres.New(tx)))
		create(t, ledger)
		same(t, "new events while it is open", reader.poll(t), 0)
		if i%2 == 0 {
			end(t, tx.Commit)
		} else {
			end(t, tx.Rollback)
		}
		reader.poll(t)
		reader.wantAllOnce(t, pool)
	}
}

func TestFeedInAWritingTransactionEndsBeforeItsOwnEvents(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	tx, inTx := openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	same(t, "events in the transaction", reader.pollOn(t, inTx), 2)
	end(t, tx.Commit)
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

func TestFeedInARepeatableReadTransactionIsComplete(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		pool, ledger, reader := newFeed(t)
		create(t, ledger)
		writer, writerLedger := openTx(t, pool)
		create(t, writerLedger)
		create(t, ledger)
		tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level}))
		t.Cleanup(func() { tx.Rollback(context.Background()) })
		inTx := newLedger(postgres.New(tx))
		// There may be fewer than two events: transactions of other databases that were open at the snapshot and have
		// ended since can delay them.
		n := reader.pollOn(t, inTx)
		same(t, "at most the two events before the writer's", n <= 2, true)
		end(t, writer.Commit)
		create(t, ledger)
		n += reader.pollOn(t, inTx)
		same(t, "at most two events in the same snapshot", n <= 2, true)
		end(t, tx.Commit)
		same(t, "all events", n+reader.poll(t), 8)
		reader.wantAllOnce(t, pool)
	}
}

// A reader continues after the position of its last event, even if that event was deleted. Here the position of the event
// with the next lower id would be wrong: it comes after events that were not read yet.
func TestFeedContinuesAfterADeletedEvent(t *testing.T) {
	t.Parallel()
	pool, ledger, _ := newFeed(t)
	a, ledgerA := openOldTx(t, pool)
	b, ledgerB := openTx(t, pool)
	kept := create(t, ledgerB)
	deleted := create(t, ledgerA)
	end(t, a.Commit)
	end(t, b.Commit)
	page := must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 2))
	same(t, "the action that comes first", page[1].ActionID, deleted.ID)
	run(t, pool, "DELETE FROM remediation_actions WHERE id = $1", deleted.ID)
	run(t, pool, "DELETE FROM remediation_events WHERE action_id = $1", deleted.ID)
	last := create(t, ledger)
	var got []int64
	for after := page[1].ID; ; {
		next := must[[]remediation.Event](t)(ledger.Events(t.Context(), after, 1))
		if len(next) == 0 {
			break
		}
		after, got = next[0].ID, append(got, next[0].ActionID)
	}
	same(t, "the actions after it", got, []int64{kept.ID, kept.ID, last.ID, last.ID})
}

// A transaction may end after a query's snapshot and before the query computes the horizon. Its events are not in the
// snapshot, so the horizon must not pass them.
func TestHorizonIsThatOfTheQuerysSnapshot(t *testing.T) {
	t.Parallel()
	pool, _, _ := newFeed(t)
	locker := connect(t, pool.Config().ConnString())
	run(t, locker, "SELECT pg_advisory_lock(1)")
	tx, _ := openTx(t, pool)
	id := one[int64](t, tx, "SELECT pg_current_xact_id()::text::bigint")
	var horizon int64
	finished := make(chan error, 1)
	go func() {
		finished <- pool.QueryRow(t.Context(), `WITH waited AS MATERIALIZED (SELECT pg_advisory_lock_shared(1))
			SELECT remediation_events_horizon(ARRAY(SELECT id FROM generate_series($1 - 10000, $1 + 10000) AS id WHERE id <> $1))
			FROM waited`, id).Scan(&horizon) // as if all other transactions were in another database
	}()
	for one[int64](t, locker, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0 {
		runtime.Gosched()
	}
	end(t, tx.Commit)
	run(t, locker, "SELECT pg_advisory_unlock(1)")
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	if horizon > id {
		t.Errorf("the horizon is %d, above the transaction %d that was open", horizon, id)
	}
}

func TestTwoLedgersInOneDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	run(t, connect(t, url), "CREATE SCHEMA one; CREATE SCHEMA two")
	var pools []*pgxpool.Pool
	var readers []*feedReader
	for _, name := range []string{"one", "two"} {
		pool := pgtest.Pool(t, with(t, url, "search_path", name))
		migrate(t, pool)
		ledger := newLedger(postgres.New(pool))
		if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		pools, readers = append(pools, pool), append(readers, &feedReader{ledger: ledger})
	}
	tx, inTx := openTx(t, pools[0])
	create(t, inTx)
	create(t, readers[0].ledger)
	create(t, readers[1].ledger)
	run(t, tx, "SET LOCAL search_path = two")
	create(t, inTx)
	for i, reader := range readers {
		same(t, "new events while a transaction of both is open", reader.poll(t), 0)
		create(t, readers[i].ledger)
	}
	end(t, tx.Commit)
	for i, reader := range readers {
		same(t, "new events after its commit", reader.poll(t), 6)
		reader.wantAllOnce(t, pools[i])
	}
}

// Four writers run random transactions, up to three at once, which end in random order.
func TestFeedOfRandomTransactionsIsComplete(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	if err := ledger.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	url := pool.Config().ConnString()
	var writers sync.WaitGroup
	for w := range 4 {
		conns := [3]*pgx.Conn{connect(t, url), connect(t, url), connect(t, url)}
		writers.Go(func() {
			if err := writeAtRandom(t.Context(), conns, rand.New(rand.NewPCG(seed, uint64(w)))); err != nil {
				t.Error(err)
			}
		})
	}
	finished := make(chan struct{})
	go func() { writers.Wait(); close(finished) }()
	for done, polls := false, 0; ; polls++ {
		n := 0
		if polls%2 == 0 {
			n = reader.poll(t)
		} else {
			tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}))
			n = reader.pollOn(t, newLedger(postgres.New(tx)))
			end(t, tx.Commit)
		}
		if done && n == 0 && polls%2 == 0 {
			break
		}
		select {
		case <-finished:
			done = true // poll once more
		default:
		}
	}
	reader.wantAllOnce(t, pool)
}

// writeAtRandom has at most one open transaction per connection, and does one random step on a random connection at a
// time.
func writeAtRandom(ctx context.Context, conns [3]*pgx.Conn, random *rand.Rand) error {
	var txs [3]pgx.Tx
	for range 150 {
		i := random.IntN(len(conns))
		var err error
		switch tx := txs[i]; {
		case tx == nil && random.IntN(2) == 0:
			_, err = newLedger(postgres.New(conns[i])).Create(ctx, newAction("web-1"))
		case tx == nil:
			if txs[i], err = conns[i].Begin(ctx); err == nil && random.IntN(2) == 0 {
				_, err = txs[i].Exec(ctx, "SELECT pg_current_xact_id()") // gets its id long before it writes
			}
		case random.IntN(5) == 0:
			txs[i], err = nil, tx.Rollback(ctx)
		case random.IntN(4) == 0:
			txs[i], err = nil, tx.Commit(ctx)
		case random.IntN(3) == 0: // a savepoint
			var nested pgx.Tx
			if nested, err = tx.Begin(ctx); err != nil {
				return err
			}
			if _, err = newLedger(postgres.New(nested)).Create(ctx, newAction("web-1")); err != nil {
				return err
			}
			if random.IntN(2) == 0 {
				err = nested.Commit(ctx)
			} else {
				err = nested.Rollback(ctx)
			}
		default:
			_, err = newLedger(postgres.New(tx)).Create(ctx, newAction("web-1"))
		}
		if err != nil {
			return err
		}
	}
	for _, tx := range txs {
		if tx != nil {
			if err := tx.Commit(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestTransactionInAnotherDatabaseDoesNotDelayTheFeed(t *testing.T) {
	t.Parallel()
	otherPool, _, _ := newFeed(t)
	_, otherLedger := openTx(t, otherPool)
	create(t, otherLedger)
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	same(t, "new events while it is open", reader.poll(t), 2)

	// PostgreSQL caches the list of sessions for the rest of a transaction, unless the query clears that cache.
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level}))
		t.Cleanup(func() { tx.Rollback(context.Background()) })
		run(t, tx, "SELECT count(*) FROM pg_stat_activity")
		_, anotherLedger := openTx(t, otherPool)
		create(t, anotherLedger)
		create(t, ledger)
		same(t, "new events later in a "+string(level)+" transaction", reader.pollOn(t, newLedger(postgres.New(tx))) > 0, level == pgx.ReadCommitted)
		end(t, tx.Commit)
		reader.poll(t)
		reader.wantAllOnce(t, pool)
	}
}

// raisePositions raises the feed positions of events, as if they were restored from a cluster with higher transaction
// ids.
func raisePositions(t *testing.T, pool *pgxpool.Pool, where string) {
	t.Helper()
	run(t, pool, "ALTER TABLE remediation_events DISABLE TRIGGER USER")
	run(t, pool, "UPDATE remediation_events SET feed_position = feed_position + 1000000000000 WHERE "+where)
	run(t, pool, "ALTER TABLE remediation_events ENABLE TRIGGER USER")
}

func TestEventsOfAnotherClusterAreReadAfterMigrate(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	for range 3 {
		create(t, ledger)
	}
	raisePositions(t, pool, "id > 2")
	wantSchemaVersion := func(when string) {
		t.Helper()
		_, err := ledger.Events(t.Context(), reader.after, 10)
		if !errors.Is(err, remediation.ErrSchemaVersion) || !strings.Contains(fmt.Sprint(err), "another PostgreSQL cluster") {
			t.Errorf("Events %s: %v, want ErrSchemaVersion", when, err)
		}
	}
	same(t, "events with positions of this cluster", len(must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 10))), 2)
	reader.after, reader.seen = 2, []int64{1, 2}
	wantSchemaVersion("before Migrate")
	same(t, "events after the last one", must[[]remediation.Event](t)(ledger.Events(t.Context(), 6, 10)), []remediation.Event{})
	tx, inTx := openTx(t, pool)
	run(t, tx, "SELECT pg_current_xact_id()") // has an id and is open during Migrate
	create(t, ledger)
	wantSchemaVersion("after a new event")
	run(t, pool, "DELETE FROM remediation_actions WHERE id = 3; DELETE FROM remediation_events WHERE action_id = 3 AND kind <> 'deleted'")
	before := one[string](t, pool, "SELECT coalesce(array_to_string(proacl, ','), '') FROM pg_proc WHERE proname = 'remediation_events_position'")
	migrate(t, pool)
	create(t, inTx)
	create(t, ledger)
	end(t, tx.Commit)
	reader.poll(t)
	reader.wantAllOnce(t, pool)
	same(t, "whether the events come in the order of their ids", slices.IsSorted(reader.seen), true)
	same(t, "privileges on remediation_events_position", one[string](t, pool,
		"SELECT coalesce(array_to_string(proacl, ','), '') FROM pg_proc WHERE proname = 'remediation_events_position'"), before)

	// The feed works as before, and also after a second restore.
	tx, inTx = openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	same(t, "new events while a transaction is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 4)
	raisePositions(t, pool, "TRUE")
	create(t, ledger)
	wantSchemaVersion("after a second restore")
	migrate(t, pool)
	schema := schemaOf(t, pool)
	create(t, ledger)
	same(t, "new events after Migrate", reader.poll(t), 4)
	reader.wantAllOnce(t, pool)
	migrate(t, pool)
	same(t, "schema after Migrate with nothing to do", schemaOf(t, pool), schema)
}

// Before Migrate, new events get the position of the last old event. Migrate must wait for those that are not committed
// yet, or a reader would miss them.
func TestMigrateWaitsForOpenWritersOfEvents(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	raisePositions(t, pool, "TRUE")
	tx, inTx := openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	finished := make(chan error, 1)
	go func() { finished <- postgres.Migrate(t.Context(), pool) }()
	for one[int64](t, pool, "SELECT count(*) FROM pg_locks WHERE relation = 'remediation_events'::regclass AND NOT granted") == 0 && len(finished) == 0 {
		runtime.Gosched()
	}
	if len(finished) > 0 {
		reader.poll(t) // Migrate did not wait: move the reader past the open transaction, so that wantAllOnce fails
	}
	end(t, tx.Commit)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

// The last event that a reader got may have been deleted. If it came from another cluster, its position is higher than
// those of this cluster too, and new events must come after it.
func TestNewEventsComeAfterThoseDeletedInAnotherCluster(t *testing.T) {
	t.Parallel()
	for _, migrated := range []bool{false, true} { // whether Migrate runs before the first new event
		pool, ledger, reader := newFeed(t)
		for range 3 {
			create(t, ledger)
		}
		reader.poll(t)
		run(t, pool, "DELETE FROM remediation_actions")
		reader.poll(t)
		raisePositions(t, pool, "TRUE")
		raisePositions(t, pool, "id > 4")
		run(t, pool, "DELETE FROM remediation_events WHERE id > 4")
		if migrated {
			migrate(t, pool)
		}
		create(t, ledger)
		if !migrated {
			migrate(t, pool)
		}
		same(t, "new events", reader.poll(t), 2)
	}
}

// Only the triggers on remediation_actions write events. An INSERT into remediation_events is refused.
func TestEventsAreWrittenOnlyByChangesOfActions(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	const columns = "INSERT INTO remediation_events (action_id, server_id, kind, occurred_at"
	for _, statement := range []string{
		columns + ") VALUES (1, 'web-1', 'failed', now())",
		columns + ", feed_position) VALUES (1, 'web-1', 'failed', now(), 1)",
		columns + ") SELECT 1, 'web-1', 'failed', now() FROM generate_series(1, 3)",
		"INSERT INTO remediation_events DEFAULT VALUES",
		"INSERT INTO remediation_events SELECT * FROM remediation_events ON CONFLICT DO NOTHING",
	} {
		_, err := pool.Exec(t.Context(), statement)
		same(t, "the rule that refuses "+statement, constraintOf(err), "remediation_events_append_only")
	}
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

func TestEventsTableRefusesInvalidRows(t *testing.T) {
	t.Parallel()
	pool, _, _ := newFeed(t)
	run(t, pool, "ALTER TABLE remediation_events DISABLE TRIGGER USER")
	good := map[string]string{"id": "7", "action_id": "1", "server_id": "'web-1'", "kind": "'created'", "actor": "'ann'",
		"occurred_at": "now()", "detail": "'x'"}
	insert := func(column, value string) error {
		r := maps.Clone(good)
		r[column] = value
		columns := slices.Sorted(maps.Keys(r))
		var values []string
		for _, c := range columns {
			values = append(values, r[c])
		}
		tx := begin(t, pool)
		defer tx.Rollback(context.Background())
		_, err := tx.Exec(t.Context(), fmt.Sprintf("INSERT INTO remediation_events (%s) VALUES (%s)",
			strings.Join(columns, ", "), strings.Join(values, ", ")))
		return err
	}
	for column, values := range map[string]map[string]string{
		"id":        {"0": "remediation_events_id_check", "-7": "remediation_events_id_check"},
		"action_id": {"0": "remediation_events_check"},
		"server_id": {"''": "remediation_events_check"},
		"kind":      {"''": "remediation_events_kind_check", "'Created'": "remediation_events_kind_check", "'pending'": "remediation_events_kind_check"},
		"occurred_at": {"'infinity'": "remediation_events_occurred_at_check", "'-infinity'": "remediation_events_occurred_at_check",
			"'0001-12-31 23:59:59.999999+00 BC'": "remediation_events_occurred_at_check", "'0001-01-01 00:00:00+00'": "",
			"'10000-01-01 00:00:00+00'": "remediation_events_occurred_at_check", "'9999-12-31 23:59:59.999999+00'": ""},
	} {
		for value, want := range values {
			same(t, "the rule that refuses "+column+" = "+value, constraintOf(insert(column, value)), want)
		}
	}
	if err := insert("feed_position", "NULL"); sqlState(err) != "23502" {
		t.Errorf("feed_position = NULL: %v, want not_null_violation", err)
	}
	for _, kind := range []remediation.EventKind{"created", "approved", "rejected", "executing", "completed", "failed",
		remediation.EventOutputCleared, "deleted"} {
		if err := insert("kind", "'"+string(kind)+"'"); err != nil {
			t.Errorf("kind %s: %v", kind, err)
		}
	}
}

// The deletion of a row that predates the rules is recorded even if its values are invalid in other kinds of events.
func TestInvalidLegacyRowsCanBeDeleted(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	upTo(t, pool, 4)
	run(t, pool, legacyRows)
	run(t, pool, `INSERT INTO servers (id) VALUES ('');
		INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by)
		VALUES (0, '', '', '', '', 'infinity', ''), (-1, 'old-1', 'x', 'failed', '', '-infinity', '')`)
	actions := one[int64](t, pool, "SELECT count(*) FROM remediation_actions")
	migrate(t, pool)
	run(t, pool, "DELETE FROM servers")
	same(t, "deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events WHERE kind = 'deleted'"), actions)
}

func TestTruncateOfActionsIsRecordedAndOfEventsRefused(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"TRUNCATE remediation_actions", "TRUNCATE servers CASCADE", "TRUNCATE remediation_actions RESTART IDENTITY"} {
		pool, ledger, reader := newFeed(t)
		actions := []remediation.Action{create(t, ledger), create(t, ledger)}
		actions[0] = must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")) // its row is now stored after the other one
		before := reader.poll(t)
		for _, refused := range []string{"TRUNCATE remediation_events", "TRUNCATE remediation_events, remediation_actions", "TRUNCATE remediation_events CASCADE"} {
			if _, err := pool.Exec(t.Context(), refused); sqlState(err) != "23514" {
				t.Errorf("%s: %v, want it refused", refused, err)
			}
		}
		same(t, "after the refusals", one[int64](t, pool, "SELECT count(*) FROM remediation_actions"), int64(2))
		run(t, pool, statement)
		last := reader.after
		same(t, "new events", reader.poll(t), 2)
		reader.wantAllOnce(t, pool)
		same(t, "all events", len(reader.seen), before+2)
		for i, e := range must[[]remediation.Event](t)(ledger.Events(t.Context(), last, 10)) {
			if age := time.Since(e.OccurredAt); age < -time.Minute || age > time.Minute {
				t.Errorf("OccurredAt is %s, want about now", e.OccurredAt)
			}
			e.ID, e.OccurredAt = 0, time.Time{}
			same(t, statement, e, remediation.Event{
				ActionID: actions[i].ID, ServerID: "web-1", Kind: remediation.EventDeleted, Detail: new(string(actions[i].Status)),
			})
		}
		if _, err := pool.Exec(t.Context(), "TRUNCATE remediation_events"); sqlState(err) != "23514" {
			t.Errorf("TRUNCATE of events without actions: %v, want it refused", err)
		}
	}
}

func TestRoleWithoutRightsOnEventsStillRecordsThem(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	role := fmt.Sprintf("actionledger_clerk_%s", one[string](t, pool, "SELECT oid::text FROM pg_database WHERE datname = current_database()"))
	run(t, pool, "CREATE ROLE "+role)
	t.Cleanup(func() {
		ctx := context.Background()
		pool.Exec(ctx, "DROP OWNED BY "+role)
		if _, err := pool.Exec(ctx, "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	run(t, pool, "GRANT SELECT, INSERT, UPDATE, DELETE ON remediation_actions TO "+role)
	run(t, pool, "GRANT SELECT, UPDATE ON servers TO "+role)
	run(t, pool, "GRANT SELECT ON alerts, schema_migrations TO "+role)

	conn := connect(t, url)
	run(t, conn, "SET ROLE "+role)
	clerk := newLedger(postgres.New(conn))
	a := create(t, clerk)
	for _, call := range []func() (remediation.Action, error){
		func() (remediation.Action, error) { return clerk.Approve(t.Context(), a.ID, "bob") },
		func() (remediation.Action, error) { return clerk.Claim(t.Context(), "web-1") },
		func() (remediation.Action, error) {
			return clerk.Finish(t.Context(), "web-1", a.ID, remediation.Result{})
		},
	} {
		must[remediation.Action](t)(call())
	}
	if n := must[int64](t)(clerk.ClearOutput(t.Context(), now.Add(time.Hour), 10)); n != 1 {
		t.Errorf("ClearOutput cleared %d, want 1", n)
	}
	if n := must[int64](t)(clerk.Prune(t.Context(), now.Add(time.Hour), 10)); n != 1 {
		t.Errorf("Prune deleted %d, want 1", n)
	}
	for _, query := range []string{
		"SELECT * FROM remediation_events", "DELETE FROM remediation_events",
		"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'approved', now())",
	} {
		if _, err := conn.Exec(t.Context(), query); sqlState(err) != "42501" {
			t.Errorf("%s: %v, want permission denied", query, err)
		}
	}
	same(t, "kinds", column[string](t, pool, "SELECT kind::text FROM remediation_events ORDER BY id"),
		[]string{"created", "approved", "executing", "completed", "output_cleared", "deleted"})

	run(t, pool, "GRANT DELETE, SELECT ON remediation_events TO "+role)
	run(t, conn, "DELETE FROM remediation_events WHERE kind = 'created'")
	same(t, "stored positions of deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events_gone"), int64(1))
}

// By default a session's temporary tables come before all other tables. A caller's temporary table must neither receive
// the events nor replace a table that a rule reads.
func TestTemporaryTablesDoNotReplaceTheLedgersTables(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	alert := must[int64](t)(ledger.AddAlert(t.Context(), "web-1", "down"))
	a := newAction("web-1")
	a.AlertID = &alert
	must[remediation.Action](t)(ledger.Create(t.Context(), a))
	conn := connect(t, url)
	run(t, conn, "CREATE SCHEMA elsewhere; SET search_path = elsewhere")
	wantNewEvents := func(events int64, statement string) {
		t.Helper()
		before := one[int64](t, pool, "SELECT count(*) FROM remediation_events")
		run(t, conn, statement)
		same(t, "new events after "+statement, one[int64](t, pool, "SELECT count(*) FROM remediation_events")-before, events)
	}
	const insert = `INSERT INTO public.remediation_actions (server_id, action_type, status, command, created_at, created_by)
		VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann')`
	wantNewEvents(1, insert)
	run(t, conn, "CREATE TEMPORARY TABLE remediation_events (LIKE public.remediation_events INCLUDING ALL)")
	wantNewEvents(1, insert)
	wantNewEvents(2, `UPDATE public.remediation_actions SET status = 'approved', approved_at = now(), approved_by = 'bob'
		WHERE action_type = 'reboot'`)
	wantNewEvents(2, "DELETE FROM public.remediation_actions WHERE action_type = 'reboot'")
	const ended = `INSERT INTO public.remediation_actions (server_id, action_type, status, command, created_at, created_by,
		approved_at, approved_by, executed_at, completed_at, exit_code, stdout)
		VALUES ('web-1', 'ended', 'completed', 'reboot', now(), 'ann', now(), 'bob', now(), now(), 0, 'up')`
	wantNewEvents(4, ended)
	wantNewEvents(1, "UPDATE public.remediation_actions SET stdout = NULL WHERE action_type = 'ended'")
	wantNewEvents(1, "DELETE FROM public.remediation_actions WHERE action_type = 'ended'")
	run(t, conn, `CREATE TEMPORARY TABLE remediation_actions (id bigint); CREATE TEMPORARY TABLE alerts (id bigint);
		CREATE TEMPORARY TABLE remediation_events_gone (id bigint, feed_position bigint);
		INSERT INTO remediation_events_gone VALUES (1, 7)`)
	const place = "SELECT public.remediation_events_place(1)"
	same(t, "the position of an event", one[int64](t, conn, place), one[int64](t, pool, place))
	wantNewEvents(-1, "DELETE FROM public.remediation_events WHERE kind = 'output_cleared'")
	same(t, "stored positions of deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events_gone"), int64(1))
	for _, query := range []string{
		"DELETE FROM public.remediation_events",
		"UPDATE public.remediation_actions SET alert_id = NULL WHERE alert_id IS NOT NULL",
	} {
		if _, err := conn.Exec(t.Context(), query); sqlState(err) != "23514" {
			t.Errorf("%s: %v, want it refused", query, err)
		}
	}
}

// The triggers write events once per statement, from all rows that it changed.
func TestEveryFormOfStatementIsRecorded(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := errors.Join(ledger.AddServer(t.Context(), "web-1"), ledger.Pause(t.Context(), "web-1")); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		must[remediation.Action](t)(ledger.Create(t.Context(), newAction("web-1")))
	}
	const approval = "status = 'approved', approved_at = now(), approved_by = 'bob'"
	const pending = `(id, server_id, action_type, status, command, created_at, created_by) `
	run(t, pool, "WITH a AS (UPDATE remediation_actions SET "+approval+" WHERE id = 1 RETURNING id), b AS (UPDATE remediation_actions SET "+
		approval+" WHERE id = 2 RETURNING id), c AS (INSERT INTO remediation_actions "+pending+
		"VALUES (11, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann') RETURNING id) SELECT id FROM a UNION SELECT id FROM b UNION SELECT id FROM c")
	run(t, pool, "INSERT INTO remediation_actions AS r "+pending+`VALUES (12, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann'),
		(3, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann') ON CONFLICT (id) DO UPDATE SET `+approval)
	run(t, pool, `MERGE INTO remediation_actions AS r USING (VALUES (4), (13)) AS given (id) ON r.id = given.id
		WHEN MATCHED THEN UPDATE SET `+approval+`
		WHEN NOT MATCHED THEN INSERT `+pending+`VALUES (given.id, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann')`)
	run(t, pool, "UPDATE remediation_actions SET "+approval+" WHERE id IN (5, 6)")
	run(t, pool, "UPDATE remediation_actions SET status = CASE id WHEN 5 THEN 'executing' ELSE status END, executed_at = now() WHERE id = 5")
	same(t, "kinds by action", column[string](t, pool,
		"SELECT action_id || ' ' || string_agg(kind, ' ' ORDER BY id) FROM remediation_events GROUP BY action_id ORDER BY action_id"), []string{
		"1 created approved", "2 created approved", "3 created approved", "4 created approved",
		"5 created approved executing", "6 created approved", "11 created", "12 created", "13 created",
	})
}
