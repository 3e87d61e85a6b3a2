package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// helperEnv makes the test binary a process that migrates instead of running tests.
const helperEnv = "ACTIONLEDGER_TEST_MIGRATOR"

// migrateAsTold migrates the database of each URL that comes in a line, and answers each with a line.
func migrateAsTold() {
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := migrateAt(context.Background(), in.Text()); err != nil {
			fmt.Printf("%q\n", err)
			continue
		}
		fmt.Println("migrated")
	}
}

func migrateAt(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool)
}

// migrator is another process that does migrateAsTold.
type migrator struct {
	tell func(url string)
	hear func() string
}

func startMigrator(t *testing.T) migrator {
	t.Helper()
	// t's own context ends before its cleanup, where the process may end by itself.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	program := exec.CommandContext(ctx, must[string](t)(os.Executable()))
	program.Env = append(os.Environ(), helperEnv+"=1")
	program.Stderr = os.Stderr
	in, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		in.Close()
		if err := program.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	})
	lines := bufio.NewScanner(out)
	return migrator{
		tell: func(url string) {
			t.Helper()
			if _, err := fmt.Fprintln(in, url); err != nil {
				t.Fatal(err)
			}
		},
		hear: func() string {
			t.Helper()
			if !lines.Scan() {
				t.Fatalf("the other process says nothing more: %v", lines.Err())
			}
			return lines.Text()
		},
	}
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	databases := make([]string, 5)
	for i := range databases {
		databases[i] = pgtest.EmptyURL(t)
	}
	want := schemaOf(t, connect(t, pgtest.URL(t)))
	migrators := make([]migrator, 8)
	for i := range migrators {
		migrators[i] = startMigrator(t)
	}
	for _, m := range migrators {
		same(t, "a process that starts", m.hear(), "ready")
	}
	for _, url := range databases {
		for _, m := range migrators {
			m.tell(url)
		}
		for _, m := range migrators {
			same(t, "Migrate", m.hear(), "migrated")
		}
		conn := connect(t, url)
		same(t, "version", stateOf(t, conn), &state{newest(t), false})
		same(t, "schema", schemaOf(t, conn), want)
		walk(t, newLedger(postgres.New(conn)), "web-1")
	}
}

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

	whole := &interruption{}
	finish(0, postgres.Migrate(t.Context(), traced(t, url, whole)))
	failed := 0
	for at := 1; at <= whole.seen; at++ {
		// Once it is gone before the statement is sent, and once it goes while the statement is on its way.
		err := postgres.Migrate(t.Context(), traced(t, url, &interruption{at: at, do: kill}))
		if err == nil {
			t.Errorf("killed before statement %d, Migrate said that all went well", at)
		}
		finish(at, err)
		var killing sync.WaitGroup
		err = postgres.Migrate(t.Context(), traced(t, url, &interruption{at: at, do: func() { killing.Go(kill) }}))
		killing.Wait()
		if err != nil {
			failed++
		}
		finish(at, err)
	}
	t.Logf("killed before each of %d statements, and during each: of these, %d failed", whole.seen, failed)
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
