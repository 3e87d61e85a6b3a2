package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// stockCLI is golang-migrate's own program. Of this module it knows only the folder of migrations.
type stockCLI struct{ path func() (string, error) }

// TestStockCLI is one test with subtests, so that the program is built once and removed after the last one.
func TestStockCLI(t *testing.T) {
	notShort(t)
	t.Parallel()
	dir := t.TempDir()
	cli := stockCLI{sync.OnceValues(func() (string, error) { return buildCLI(dir) })}
	for name, test := range map[string]func(t *testing.T, cli stockCLI){
		"StepsDownAndUpKeepEveryRow":             stepsKeepEveryRow,
		"MigrateHasNothingToDoAfterTheCLI":       nothingToDoAfterTheCLI,
		"CLIHasNothingToDoAfterMigrate":          nothingToDoAfterMigrate,
		"MigrateContinuesWhereTheCLIStopped":     continuesWhereTheCLIStopped,
		"MigrateRedoesWhatTheCLIUndid":           redoesWhatTheCLIUndid,
		"MigrateStartsAfterTheCLIWentDownToZero": startsAfterZero,
		"MigrateWaitsForTheCLI":                  migrateWaitsForTheCLI,
		"CLIWaitsForMigrate":                     cliWaitsForMigrate,
		"CLIAndMigrateAtTheSameTime":             bothAtTheSameTime,
		"DownStopsAtTheAdoptedVersion":           downStopsAtTheAdoptedVersion,
		"WrongForceIsRefused":                    wrongForceIsRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, cli)
		})
	}
}

// buildCLI builds the program outside this module, because the two have different requirements.
func buildCLI(dir string) (string, error) {
	install := exec.Command("go", "install", "-tags", "pgx5", "github.com/golang-migrate/migrate/v4/cmd/migrate@v4.20.1")
	install.Dir = dir
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "GOWORK=off")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the migrate CLI: %w\n%s", err, out)
	}
	return filepath.Join(dir, "migrate"), nil
}

// start starts the program on a database. The function that it returns waits for the end and returns the program's
// output. Its error includes the output too.
func (cli stockCLI) start(ctx context.Context, t *testing.T, databaseURL string, args ...string) func() (string, error) {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(databaseURL))
	u.Scheme = "pgx5"
	args = append([]string{"-path", "../../schema/postgres", "-database", u.String()}, args...)
	program := exec.CommandContext(ctx, must[string](t)(cli.path()), args...)
	var output strings.Builder
	program.Stdout, program.Stderr = &output, &output
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (string, error) {
		err := program.Wait()
		if err != nil {
			err = fmt.Errorf("migrate %s: %w\n%s", strings.Join(args, " "), err, output.String())
		}
		return strings.TrimSpace(output.String()), err
	}
}

func (cli stockCLI) run(t *testing.T, databaseURL string, args ...string) string {
	t.Helper()
	return must[string](t)(cli.start(bounded(t), t, databaseURL, args...)())
}

// stepsKeepEveryRow goes down to every version and up again, one version at a time. At each version it expects the
// values of all columns that the version has.
func stepsKeepEveryRow(t *testing.T, cli stockCLI) {
	url := pgtest.EmptyURL(t)
	conn := connect(t, url)
	newest := newest(t)
	schemas := make([][]string, newest+1)
	for v := 1; v <= newest; v++ {
		cli.run(t, url, "up", "1")
		schemas[v] = schemaOf(t, conn)
		if v == 4 {
			run(t, conn, legacyRows)
		}
	}
	ledger := newLedger(postgres.New(conn))
	for _, id := range []string{"web-1", "web-2"} {
		walk(t, ledger, id)
	}

	for floor := newest - 1; floor >= 1; floor-- {
		top := contentsOf(t, conn)
		for v := newest - 1; v >= floor; v-- {
			cli.run(t, url, "down", "1")
			same(t, "version", stateOf(t, conn), &state{v, false})
			same(t, fmt.Sprintf("schema on the way down to %d, at %d", floor, v), schemaOf(t, conn), schemas[v])
			stop := contentsOf(t, conn)
			same(t, fmt.Sprintf("rows on the way down to %d, at %d", floor, v), stop, top.within(stop))
		}
		bottom := contentsOf(t, conn)
		if floor >= 2 {
			same(t, "number of actions that are left", len(bottom["remediation_actions"]), len(top["remediation_actions"]))
		}
		for v := floor + 1; v <= newest; v++ {
			cli.run(t, url, "up", "1")
			same(t, fmt.Sprintf("rows on the way up from %d, at %d", floor, v), contentsOf(t, conn).within(bottom), bottom)
		}
		same(t, fmt.Sprintf("schema after %d and up again", floor), schemaOf(t, conn), schemas[newest])
	}
}

func nothingToDoAfterTheCLI(t *testing.T, cli stockCLI) {
	byCLI, byLibrary := pgtest.EmptyURL(t), pgtest.Pool(t, pgtest.EmptyURL(t))
	cli.run(t, byCLI, "up")
	pool := pgtest.Pool(t, byCLI)
	all := walk(t, newLedger(postgres.New(pool)), "web-1")
	schema, rows := schemaOf(t, pool), contentsOf(t, pool)
	migrate(t, pool)
	same(t, "schema after Migrate", schemaOf(t, pool), schema)
	same(t, "rows after Migrate", contentsOf(t, pool), rows)
	same(t, "version after Migrate", stateOf(t, pool), &state{newest(t), false})
	readBack(t, newLedger(postgres.New(pool)), all)

	migrate(t, byLibrary)
	same(t, "Migrate's schema compared with the CLI's", schemaOf(t, byLibrary), schema)
}

func nothingToDoAfterMigrate(t *testing.T, cli stockCLI) {
	url := pgtest.URL(t)
	conn := connect(t, url)
	schema := schemaOf(t, conn)
	same(t, "migrate version", cli.run(t, url, "version"), fmt.Sprint(newest(t)))
	same(t, "migrate up", cli.run(t, url, "up"), "no change")
	same(t, "schema after migrate up", schemaOf(t, conn), schema)
}

func continuesWhereTheCLIStopped(t *testing.T, cli stockCLI) {
	url := pgtest.EmptyURL(t)
	cli.run(t, url, "goto", "3")
	pool := pgtest.Pool(t, url)
	migrate(t, pool)
	walk(t, newLedger(postgres.New(pool)), "web-1")
	same(t, "migrate version", cli.run(t, url, "version"), fmt.Sprint(newest(t)))
	same(t, "schema", schemaOf(t, pool), schemaOf(t, connect(t, pgtest.URL(t))))
}

func redoesWhatTheCLIUndid(t *testing.T, cli stockCLI) {
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	all := walk(t, newLedger(postgres.New(pool)), "web-1")
	schema, rows := schemaOf(t, pool), contentsOf(t, pool)
	cli.run(t, url, "down", "1")

	store := postgres.New(pool)
	for name, call := range calls(newLedger(store)) {
		if err := call(t.Context()); !errors.Is(err, remediation.ErrSchemaVersion) || !strings.Contains(err.Error(), "call Migrate") {
			t.Errorf("%s: %v, want ErrSchemaVersion that says to call Migrate", name, err)
		}
	}
	migrate(t, pool)
	same(t, "schema after Migrate", schemaOf(t, pool), schema)
	same(t, "rows after Migrate", contentsOf(t, pool), rows)
	readBack(t, newLedger(store), all)
}

func startsAfterZero(t *testing.T, cli stockCLI) {
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	schema := schemaOf(t, pool)
	cli.run(t, url, "down", "-all")
	same(t, "tables that are left", column[string](t, pool, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"),
		[]string{"schema_migrations"})
	migrate(t, pool)
	same(t, "schema", schemaOf(t, pool), schema)
	walk(t, newLedger(postgres.New(pool)), "web-1")
}

// blockedDatabase returns a database at version 3. A lock blocks its next migration until release is called.
func blockedDatabase(t *testing.T) (url string, pool *pgxpool.Pool, release func()) {
	t.Helper()
	url = pgtest.EmptyURL(t)
	pool = pgtest.Pool(t, url)
	upTo(t, pool, 3)
	tx := begin(t, pool)
	run(t, tx, "LOCK TABLE servers IN ACCESS SHARE MODE")
	return url, pool, func() {
		t.Helper()
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
