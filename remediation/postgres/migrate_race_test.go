package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// interruption counts the statements of a connection. It calls do right before a statement is sent; at says which one,
// counted from 1.
type interruption struct {
	at, seen int
	do       func()
}

func (i *interruption) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if i.seen++; i.seen == i.at {
		i.do()
	}
	return ctx
}

func (*interruption) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// traced returns a pool of one connection whose statements are traced by i.
func traced(t *testing.T, url string, i pgx.QueryTracer) *pgxpool.Pool {
	t.Helper()
	config := must[*pgxpool.Config](t)(pgxpool.ParseConfig(url))
	config.MaxConns = 1
	config.ConnConfig.Tracer = i
	pool := must[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), config))
	t.Cleanup(func() { go pool.Close() }) // in the background, because a leaked connection would block it
	return pool
}

func TestCancelledMigrateChangesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	observer := connect(t, url)
	upTo(t, observer, 3)
	version, schema := stateOf(t, observer), schemaOf(t, observer)
	for at := 1; ; at++ {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		i := &interruption{at: at, do: cancel}
		pool := traced(t, url, i)
		err := postgres.Migrate(ctx, pool)
		if i.seen < at { // Migrate had fewer statements, so it was not cancelled
			t.Logf("cancelled before each of %d statements", i.seen)
			if err != nil {
				t.Error(err)
			}
			same(t, "version", stateOf(t, observer), &state{newest(t), false})
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Migrate, cancelled at statement %d: %v, want context.Canceled", at, err)
		}
		same(t, fmt.Sprintf("version after a cancel at statement %d", at), stateOf(t, observer), version)
		same(t, fmt.Sprintf("schema after a cancel at statement %d", at), schemaOf(t, observer), schema)
		wantIdlePool(t, pool)
	}
}

func TestKilledMigrateLeavesNothingHalfDone(t *testing.T) {
	notShort(t)
	t.Parallel()
	const before = 2 // the version before each attempt
	url := pgtest.EmptyURL(t)
	killer, observer := connect(t, url), connect(t, with(t, url, "application_name", "observer"))
	upTo(t, observer, 4)
	run(t, observer, legacyRows)
	goBack(t, observer, 4, before)
	rows := contentsOf(t, observer)
	kill := func() {
		for alive := 1; alive > 0; { // pg_terminate_backend does not wait for the end
			err := killer.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND backend_type = 'client backend'
					AND pid <> pg_backend_pid() AND application_name <> 'observer'`).Scan(&alive)
			if err != nil {
				t.Error(err)
				return
			}
		}
	}
	finish := func(at int, killed error) {
		t.Helper()
		got := stateOf(t, observer)
		if got.Dirty || got.Version != before && got.Version != newest(t) || killed == nil && got.Version != newest(t) {
			t.Errorf("killed at statement %d: version %d, dirty %t; Migrate returned %v", at, got.Version, got.Dirty, killed)
		}
		if err := migrateAt(t.Context(), url); err != nil {
			t.Errorf("after a kill at statement %d: %v", at, err)
		}
		same(t, "version after the next Migrate", stateOf(t, observer), &state{newest(t), false})
		same(t, "rows after the next Migrate", contentsOf(t, observer).within(rows), rows)
		goBack(t, observer, newest(t), before)
	}

	const checks = 3 // the first statements only check whether there is anything to do, on a connection of their own
	uninterrupted := &interruption{}
	finish(0, postgres.Migrate(t.Context(), traced(t, url, uninterrupted)))
	during, failed := 0, 0
	for at := 1; at <= uninterrupted.seen; at++ {
		// The connection is killed before every other statement is sent, among them the last, which is the commit. At
		// the others it is killed while the statement is being sent or executed.
		if at%2 == uninterrupted.seen%2 {
			err := postgres.Migrate(t.Context(), traced(t, url, &interruption{at: at, do: kill}))
			if err == nil && at > checks {
				t.Errorf("killed before statement %d: Migrate returned no error", at)
			}
			finish(at, err)
			continue
		}
		var killing sync.WaitGroup
		err := postgres.Migrate(t.Context(), traced(t, url, &interruption{at: at, do: func() { killing.Go(kill) }}))
		killing.Wait()
		during++
		if err != nil {
			failed++
		}
		finish(at, err)
	}
	t.Logf("killed at %d statements, at %d of them while they were sent or executed: of these, %d failed", uninterrupted.seen, during, failed)
	if err := migrateAt(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	walk(t, newLedger(postgres.New(observer)), "web-1")
}

// goBack migrates a database down, one version at a time.
func goBack(t testing.TB, conn *pgx.Conn, from, to int) {
	t.Helper()
	for v := from; v > to; v-- {
		step(t, conn, v, "down")
	}
}

// These functions are subtests of TestStockCLI.

func migrateWaitsForTheCLI(t *testing.T, cli stockCLI) {
	url, pool, release := blockedDatabase(t)
	ended := make(chan error, 2)
	wait := cli.start(bounded(t), t, url, "up")
	go func() { _, err := wait(); ended <- err }()
	untilWaiting(t, pool, 1, ended)
	go func() { ended <- migrateAt(bounded(t), url) }()
	untilWaiting(t, pool, 2, ended)
	release()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	same(t, "version", stateOf(t, pool), &state{newest(t), false})
}

func cliWaitsForMigrate(t *testing.T, cli stockCLI) {
	url, pool, release := blockedDatabase(t)
	ended := make(chan error, 2)
	go func() { ended <- migrateAt(bounded(t), url) }()
	untilWaiting(t, pool, 1, ended)
	wait := cli.start(bounded(t), t, url, "up")
	go func() { _, err := wait(); ended <- err }()
	untilWaiting(t, pool, 2, ended)
	release()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	same(t, "version", stateOf(t, pool), &state{newest(t), false})
}

func bothAtTheSameTime(t *testing.T, cli stockCLI) {
	want := schemaOf(t, connect(t, pgtest.URL(t)))
	for range 3 {
		url := pgtest.EmptyURL(t)
		conn := connect(t, url)
		wait := cli.start(bounded(t), t, url, "up")
		for one[int](t, conn, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend'`) == 1 {
			// Wait until the program has connected.
		}
		if err := migrateAt(t.Context(), url); err != nil {
			t.Errorf("Migrate while the CLI runs: %v", err)
		}
		if _, err := wait(); err != nil {
			t.Errorf("the CLI while Migrate runs: %v", err)
		}
		same(t, "version", stateOf(t, conn), &state{newest(t), false})
		same(t, "schema", schemaOf(t, conn), want)
	}
}
