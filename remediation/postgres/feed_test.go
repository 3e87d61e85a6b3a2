package postgres_test

import (
	"context"
	"runtime"
	"slices"
	"testing"

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

// openOldTx opens a transaction that has its snapshot and its id. It does not see transactions that begin later, and
// its events get lower feed positions than theirs.
func openOldTx(t *testing.T, pool *pgxpool.Pool) (pgx.Tx, *remediation.Ledger) {
	t.Helper()
	tx, inTx := openTx(t, pool)
	run(t, tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	run(t, tx, "SELECT pg_current_xact_id()")
	return tx, inTx
}

// create creates an action of the server "web-1", which is two events unless the server is paused: created and
// approved.
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

// A reader continues after the position of its last event, even if that event was deleted. Here the position of the
// event with the next lower id would be wrong: it comes after events that were not read yet.
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
		t.Errorf("the horizon is %d, above %d, the id of the transaction that was open", horizon, id)
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
