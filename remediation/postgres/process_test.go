package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// helperEnv makes the test binary a process that migrates instead of running tests.
const helperEnv = "ACTIONLEDGER_TEST_MIGRATOR"

// runMigrator migrates the database of each URL that it reads from a line of stdin, and prints a line for each.
func runMigrator() {
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := migrateAt(context.Background(), in.Text()); err != nil {
			fmt.Printf("%q\n", err)
			continue
		}
		fmt.Println("migrated")
	}
}

// migrateAt migrates the database at a URL, on a pool of its own.
func migrateAt(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool)
}

// migrator is another process, which runs runMigrator.
type migrator struct {
	send    func(url string)
	receive func() string
}

func startMigrator(t *testing.T) migrator {
	t.Helper()
	// Not t.Context(), which ends before the cleanup and would kill the process: the cleanup lets it exit by itself.
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
		send: func(url string) {
			t.Helper()
			if _, err := fmt.Fprintln(in, url); err != nil {
				t.Fatal(err)
			}
		},
		receive: func() string {
			t.Helper()
			if !lines.Scan() {
				t.Fatalf("the other process printed no line: %v", lines.Err())
			}
			return lines.Text()
		},
	}
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	notShort(t)
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
		same(t, "the first line of a process", m.receive(), "ready")
	}
	for _, url := range databases {
		for _, m := range migrators {
			m.send(url)
		}
		for _, m := range migrators {
			same(t, "Migrate", m.receive(), "migrated")
		}
		conn := connect(t, url)
		same(t, "version", stateOf(t, conn), &state{newest(t), false})
		same(t, "schema", schemaOf(t, conn), want)
		walk(t, newLedger(postgres.New(conn)), "web-1")
	}
}
