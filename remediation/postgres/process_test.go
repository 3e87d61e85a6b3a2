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
