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

// interruption does something at one of a connection's statements: right before it is sent.
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

// traced is a pool of one connection, of which i sees every statement.
func traced(t *testing.T, url string, i pgx.QueryTracer) *pgxpool.Pool {
	t.Helper()
	config := must[*pgxpool.Config](t)(pgxpool.ParseConfig(url))
	config.MaxConns = 1
	config.ConnConfig.Tracer = i
	pool := must[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), config))
	t.Cleanup(func() { go pool.Close() }) // which a leaked connection would block
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
		if i.seen < at { // so it was not cancelled
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
		useAll(t, pool)
	}
}

func TestKilledMigrateLeavesNothingHalfDone(t *testing.T) {
	notShort(t)
	t.Parallel()
	const before = 2 // where each attempt starts from
	url := pgtest.EmptyURL(t)
	killer, observer := connect(t, url), connect(t, with(t, url, "application_name", "observer"))
	upTo(t, observer, 4)
	run(t, observer, legacyRows)
	goBack(t, observer, 4, before)
	rows := contentsOf(t, observer)
	kill := func() {
		for alive := 1; alive > 0; { // to be told to go is not to be gone
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
			t.Errorf("killed at statement %d: version %d, dirty %t; Migrate said: %v", at, got.Version, got.Dirty, killed)
		}
		if err := migrateAt(t.Context(), url); err != nil {
			t.Errorf("after a kill at statement %d: %v", at, err)
		}
		same(t, "version after the next Migrate", stateOf(t, observer), &state{newest(t), false})
		same(t, "rows after the next Migrate", contentsOf(t, observer).within(rows), rows)
		goBack(t, observer, newest(t), before)
	}

	const looks = 3 // the first statements only look whether there is anything to do, on a connection of their own
	whole := &interruption{}
	finish(0, postgres.Migrate(t.Context(), traced(t, url, whole)))
	during, failed := 0, 0
	for at := 1; at <= whole.seen; at++ {
		// In turn it is gone before the statement is sent (as at the last, the commit), or it goes while that is on its way.
		if at%2 == whole.seen%2 {
			err := postgres.Migrate(t.Context(), traced(t, url, &interruption{at: at, do: kill}))
			if err == nil && at > looks {
				t.Errorf("killed before statement %d, Migrate said that all went well", at)
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
	t.Logf("killed at %d statements, %d of them on their way: of these, %d failed", whole.seen, during, failed)
	if err := migrateAt(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	walk(t, newLedger(postgres.New(observer)), "web-1")
}

// goBack takes a database down, version by version.
func goBack(t testing.TB, conn *pgx.Conn, from, to int) {
	t.Helper()
	for v := from; v > to; v-- {
		step(t, conn, v, "down")
	}
}

func migrateWaitsForTheCLI(t *testing.T, cli stockCLI) {
	url, pool, letGo := stuck(t)
	ended := make(chan error, 2)
	wait := cli.start(bounded(t), t, url, "up")
	go func() { _, err := wait(); ended <- err }()
	untilWaiting(t, pool, 1, ended)
	go func() { ended <- migrateAt(bounded(t), url) }()
	untilWaiting(t, pool, 2, ended)
	letGo()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	same(t, "version", stateOf(t, pool), &state{newest(t), false})
}

func cliWaitsForMigrate(t *testing.T, cli stockCLI) {
	url, pool, letGo := stuck(t)
	ended := make(chan error, 2)
	go func() { ended <- migrateAt(bounded(t), url) }()
	untilWaiting(t, pool, 1, ended)
	wait := cli.start(bounded(t), t, url, "up")
	go func() { _, err := wait(); ended <- err }()
	untilWaiting(t, pool, 2, ended)
	letGo()
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
			// The program takes its time to start.
		}
		if err := migrateAt(t.Context(), url); err != nil {
			t.Errorf("Migrate beside the CLI: %v", err)
		}
		if _, err := wait(); err != nil {
			t.Errorf("the CLI beside Migrate: %v", err)
		}
		same(t, "version", stateOf(t, conn), &state{newest(t), false})
		same(t, "schema", schemaOf(t, conn), want)
	}
}
