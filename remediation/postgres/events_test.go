package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// feedReader polls events as a consumer does, and remembers where it is.
type feedReader struct {
	ledger *remediation.Ledger
	after  int64
	seen   []int64
}

// poll reads what is new and returns how many events that were.
func (r *feedReader) poll(t *testing.T) int {
	t.Helper()
	for n := 0; ; {
		page := must[[]remediation.Event](t)(r.ledger.Events(t.Context(), r.after, 3))
		if len(page) == 0 {
			return n
		}
		n += len(page)
		for _, e := range page {
			if e.ID <= r.after {
				t.Fatalf("event %d came after event %d", e.ID, r.after)
			}
			r.after = e.ID
			r.seen = append(r.seen, e.ID)
		}
	}
}

// sawAll expects that the reader has every event that is stored.
func (r *feedReader) sawAll(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	same(t, "what the feed gave", r.seen, column[int64](t, pool, "SELECT id FROM remediation_events ORDER BY id"))
}

func newFeed(t *testing.T) (*pgxpool.Pool, *remediation.Ledger, *feedReader) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return pool, ledger, &feedReader{ledger: ledger}
}

func openTx(t *testing.T, pool *pgxpool.Pool) (pgx.Tx, *remediation.Ledger) {
	t.Helper()
	tx := must[pgx.Tx](t)(pool.Begin(t.Context()))
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx, newLedger(postgres.New(tx))
}

func create(t *testing.T, l *remediation.Ledger) remediation.Action {
	t.Helper()
	return must[remediation.Action](t)(l.Create(t.Context(), newAction("web-1")))
}

func end(t *testing.T, how func(context.Context) error) {
	t.Helper()
	if err := how(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTransactionHoldsBackLaterEvents(t *testing.T) {
	t.Parallel()
	for _, change := range []struct {
		call   string
		events int
		run    func(t *testing.T, tx pgx.Tx, inside *remediation.Ledger)
	}{
		{"Create", 2, func(t *testing.T, _ pgx.Tx, inside *remediation.Ledger) { create(t, inside) }},
		{"Claim", 1, func(t *testing.T, _ pgx.Tx, inside *remediation.Ledger) {
			must[remediation.Action](t)(inside.Claim(t.Context(), "web-1"))
		}},
		{"DELETE", 1, func(t *testing.T, tx pgx.Tx, _ *remediation.Ledger) { run(t, tx, "DELETE FROM remediation_actions") }},
	} {
		for _, commits := range []bool{true, false} {
			pool, ledger, reader := newFeed(t)
			create(t, ledger)
			same(t, "before", reader.poll(t), 2)
			tx, inside := openTx(t, pool)
			change.run(t, tx, inside)
			for range 3 {
				create(t, ledger) // committed, but later than what is open
				same(t, "while "+change.call+" is open", reader.poll(t), 0)
			}
			if commits {
				end(t, tx.Commit)
				same(t, "after its commit", reader.poll(t), 6+change.events)
			} else {
				end(t, tx.Rollback)
				same(t, "after its rollback", reader.poll(t), 6)
			}
			reader.sawAll(t, pool)
		}
	}
}

// The first event of all has no id before it that its transaction could lock.
func TestFirstTransactionOfAllHoldsBackTheFeed(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	same(t, "an empty feed", reader.poll(t), 0)
	tx, inside := openTx(t, pool)
	create(t, inside)
	create(t, ledger)
	same(t, "while it is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "after its commit", reader.poll(t), 4)
	reader.sawAll(t, pool)
}

func TestTransactionWithoutEventsHoldsNothingBack(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	tx, inside := openTx(t, pool)
	if err := inside.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	create(t, ledger)
	same(t, "beside a writer of other tables", reader.poll(t), 2)
	end(t, tx.Commit)
	reader.sawAll(t, pool)
}

func TestReaderSeesUpToTheOldestOfSeveralOpenTransactions(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	first, insideFirst := openTx(t, pool)
	second, insideSecond := openTx(t, pool)
	create(t, ledger)
	create(t, insideFirst)
	create(t, ledger)
	create(t, insideSecond)
	create(t, insideFirst)
	create(t, ledger)
	same(t, "before the first", reader.poll(t), 2)
	end(t, second.Commit)
	same(t, "the second has ended", reader.poll(t), 0)
	end(t, first.Rollback)
	same(t, "both have ended", reader.poll(t), 6)
	reader.sawAll(t, pool)
}

func TestSavepointRollbackKeepsTheFeedWhole(t *testing.T) {
	t.Parallel()
	for _, firstInside := range []bool{true, false} {
		pool, ledger, reader := newFeed(t)
		tx, inside := openTx(t, pool)
		if !firstInside {
			create(t, inside)
		}
		// The savepoint takes the lock and the memory of it along when it is rolled back.
		nested := must[pgx.Tx](t)(tx.Begin(t.Context()))
		create(t, newLedger(postgres.New(nested)))
		end(t, nested.Rollback)
		create(t, inside)
		create(t, ledger)
		same(t, "while it is open", reader.poll(t), 0)
		nested = must[pgx.Tx](t)(tx.Begin(t.Context()))
		create(t, newLedger(postgres.New(nested)))
		end(t, nested.Commit) // releases the savepoint
		create(t, ledger)
		same(t, "while it is open still", reader.poll(t), 0)
		end(t, tx.Commit)
		reader.poll(t)
		reader.sawAll(t, pool)
	}
}

// A bound by pg_snapshot_xmin alone would be wrong: here the lower transaction id takes the higher event id and commits
// first, and the feed must not pass over the lower event id of the other.
func TestLowerTransactionWithTheHigherEventLosesNothing(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		pool, _, reader := newFeed(t)
		a, insideA := openTx(t, pool)
		xidA := one[int64](t, a, "SELECT pg_current_xact_id()::text::bigint")
		if err := insideA.AddServer(t.Context(), "web-2"); err != nil {
			t.Fatal(err)
		}
		b, insideB := openTx(t, pool)
		if xidB := one[int64](t, b, "SELECT pg_current_xact_id()::text::bigint"); xidB <= xidA {
			t.Fatalf("B has transaction id %d, A has %d", xidB, xidA)
		}
		create(t, insideB)
		create(t, insideA)
		end(t, a.Commit)
		same(t, "while B is open", reader.poll(t), 0)
		if commits {
			end(t, b.Commit)
		} else {
			end(t, b.Rollback)
		}
		reader.poll(t)
		reader.sawAll(t, pool)
	}
}

func TestTransactionOfManyCreationsHoldsOneLock(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	tx, inside := openTx(t, pool)
	create(t, inside)
	run(t, tx, `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
		SELECT 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann' FROM generate_series(1, 4999)`)
	create(t, inside)
	const locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
	same(t, "locks", one[int64](t, tx, locks), int64(1))
	create(t, ledger)
	same(t, "while it is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "locks afterwards", one[int64](t, pool, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"), int64(0))
	same(t, "how many events", len(must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 100000))), 4999+2*3)
}

// One connection runs many transactions: what one has noted must not pass for the next.
func TestEachTransactionOfAConnectionHoldsItsOwnLock(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	conn := must[*pgxpool.Conn](t)(pool.Acquire(t.Context()))
	defer conn.Release()
	for i := range 4 {
		tx := must[pgx.Tx](t)(conn.Begin(t.Context()))
		create(t, newLedger(postgres.New(tx)))
		create(t, ledger)
		same(t, "while it is open", reader.poll(t), 0)
		if i%2 == 0 {
			end(t, tx.Commit)
		} else {
			end(t, tx.Rollback)
		}
		reader.poll(t)
		reader.sawAll(t, pool)
	}
}

func TestFeedIsHeldBackByItsOwnDatabaseAlone(t *testing.T) {
	t.Parallel()
	otherPool, _, _ := newFeed(t)
	_, insideOther := openTx(t, otherPool)
	create(t, insideOther)
	pool, ledger, reader := newFeed(t)
	tx, _ := openTx(t, pool)
	run(t, tx, "SELECT pg_advisory_xact_lock(1), pg_advisory_xact_lock(21061 << 16, 0)") // the host program's own locks
	create(t, ledger)
	same(t, "beside other locks", reader.poll(t), 2)
}

func TestTruncateIsRecordedAndThatOfEventsRefused(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"TRUNCATE remediation_actions", "TRUNCATE servers CASCADE", "TRUNCATE remediation_actions RESTART IDENTITY"} {
		pool, ledger, reader := newFeed(t)
		actions := []remediation.Action{create(t, ledger), create(t, ledger)}
		actions[0] = must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")) // its row lies behind the other's now
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
		reader.sawAll(t, pool)
		same(t, "all events", len(reader.seen), before+2)
		for i, e := range must[[]remediation.Event](t)(ledger.Events(t.Context(), last, 10)) {
			if age := time.Since(e.OccurredAt); age < -time.Minute || age > time.Minute {
				t.Errorf("deleted at %s, want about now", e.OccurredAt)
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

func TestRoleWithoutRightsOnEventsStillLeavesThem(t *testing.T) {
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
		[]string{"created", "approved", "executing", "completed", "deleted"})
}

// A temporary table comes before all others unless a search path says otherwise: one of the caller's own must neither take
// the events nor stand in for the tables that a rule looks at.
func TestCallersTemporaryTablesDoNotMisleadTheRules(t *testing.T) {
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
	leaves := func(events int64, statement string) {
		t.Helper()
		before := one[int64](t, pool, "SELECT count(*) FROM remediation_events")
		run(t, conn, statement)
		same(t, "new events after "+statement, one[int64](t, pool, "SELECT count(*) FROM remediation_events")-before, events)
	}
	const insert = `INSERT INTO public.remediation_actions (server_id, action_type, status, command, created_at, created_by)
		VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann')`
	leaves(1, insert)
	run(t, conn, "CREATE TEMPORARY TABLE remediation_events (LIKE public.remediation_events INCLUDING ALL)")
	leaves(1, insert)
	leaves(2, `UPDATE public.remediation_actions SET status = 'approved', approved_at = now(), approved_by = 'bob'
		WHERE action_type = 'reboot'`)
	leaves(2, "DELETE FROM public.remediation_actions WHERE action_type = 'reboot'")
	run(t, conn, "CREATE TEMPORARY TABLE remediation_actions (id bigint); CREATE TEMPORARY TABLE alerts (id bigint)")
	for _, query := range []string{
		"DELETE FROM public.remediation_events",
		"UPDATE public.remediation_actions SET alert_id = NULL WHERE alert_id IS NOT NULL",
	} {
		if _, err := conn.Exec(t.Context(), query); sqlState(err) != "23514" {
			t.Errorf("%s: %v, want it refused", query, err)
		}
	}
	const horizon = "SELECT public.remediation_events_horizon()"
	same(t, "the last event to read", one[int64](t, conn, horizon), one[int64](t, pool, horizon))
}
