package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/sqlite" // sqlite:// URLs, as the CLI reads them
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/schema"
)

// These tests run the stock migrate CLI and golang-migrate's own SQLite driver on the same databases as the library.

// stockCLI builds the migrate CLI as its users do, in a module of its own, because the release binaries lack SQLite.
// The CLI contains SQLite 3.39.
var stockCLI = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "migrate-cli-")
	if err != nil {
		return "", err
	}
	cliDir = dir
	var flags []string
	for _, flag := range strings.Fields(os.Getenv("GOFLAGS")) {
		if !strings.HasPrefix(flag, "-mod") {
			flags = append(flags, flag)
		}
	}
	install := exec.Command("go", "install", "-tags", "sqlite", "github.com/golang-migrate/migrate/v4/cmd/migrate@v4.20.1")
	install.Dir = dir
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOWORK=off", "GOFLAGS="+strings.Join(flags, " "))
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the migrate CLI: %w\n%s", err, out)
	}
	return dir + "/migrate", nil
})

var cliDir string

func removeCLI() {
	if cliDir != "" {
		os.RemoveAll(cliDir)
	}
}

// runCLI runs the stock migrate CLI on this module's migrations and returns its output.
func runCLI(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := tryCLI(t, path, args...)
	if err != nil {
		t.Fatalf("migrate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tryCLI is runCLI for commands that may fail.
func tryCLI(t testing.TB, path string, args ...string) (string, error) {
	t.Helper()
	notShort(t)
	if testing.Short() {
		t.Skip("builds the migrate CLI")
	}
	cli, err := stockCLI()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-path", "../../schema/sqlite", "-database", "sqlite://" + path}, args...)
	out, err := exec.CommandContext(t.Context(), cli, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func stepCLI(t testing.TB, path string, n int) {
	t.Helper()
	if n < 0 {
		runCLI(t, path, "down", fmt.Sprint(-n))
	} else {
		runCLI(t, path, "up", fmt.Sprint(n))
	}
}

// stepAPI migrates n steps with golang-migrate's own driver for SQLite, down if n is negative.
func stepAPI(t testing.TB, path string, n int) {
	t.Helper()
	src, err := iofs.New(schema.SQLite, ".")
	if err != nil {
		t.Fatal(err)
	}
	m, err := migrate.NewWithSourceInstance("iofs", src, "sqlite://"+path)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Steps(n); err != nil {
		t.Fatalf("%d steps: %v", n, err)
	}
	if err := errors.Join(m.Close()); err != nil {
		t.Fatal(err)
	}
}

// For every version: migrate down to it and up again, one step at a time. After each step, every value whose column
// exists at that version is unchanged.
func TestStepsDownAndUpKeepEveryRow(t *testing.T) {
	notShort(t)
	t.Parallel()
	for name, step := range map[string]func(t testing.TB, path string, n int){"CLI": stepCLI, "API": stepAPI} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			newest := newestVersion(t)
			db := rawPool(t, path, goodPool)
			schemas := make([][]string, newest+1)
			for v := 1; v <= newest; v++ {
				before := rawContents(t, db)
				step(t, path, 1)
				checkKept(t, "up to", v, before, rawContents(t, db))
				rawExec(t, db, legacyRows[v])
				schemas[v] = rawSchema(t, db)
			}
			schemas[0] = []string{}
			ledger := remediation.New(storeOn(t, db))
			if err := ledger.AddServer(t.Context(), "web-2"); err != nil {
				t.Fatal(err)
			}
			walkLifecycle(t, ledger, "web-2", nil)

			for floor := newest - 1; floor >= 0; floor-- {
				top := rawContents(t, db)
				for v := newest - 1; v >= floor; v-- {
					step(t, path, -1)
					checkKept(t, "down to", v, top.within(rawContents(t, db)), rawContents(t, db))
					if got, _ := rawVersion(t, db); got != v && (v != 0 || got != -1) {
						t.Fatalf("down to %d, but the version is %d", v, got)
					}
					if diff := cmp.Diff(ledgerObjects(schemas[v]), ledgerObjects(rawSchema(t, db))); diff != "" {
						t.Errorf("schema at %d after going up and after going down (-up +down):\n%s", v, diff)
					}
				}
				bottom := rawContents(t, db)
				for v := floor + 1; v <= newest; v++ {
					step(t, path, 1)
					checkKept(t, "up again to", v, bottom, rawContents(t, db))
				}
				if floor >= 2 {
					ids := rawColumn(t, db, "SELECT seq FROM sqlite_sequence WHERE name = 'remediation_actions'")
					if diff := cmp.Diff([]string{"1007"}, ids); diff != "" {
						t.Errorf("the highest id ever used, after %d and up again (-want +got):\n%s", floor, diff)
					}
				}
			}
			if diff := cmp.Diff(schemas[newest], rawSchema(t, db)); diff != "" {
				t.Errorf("schema after going up for the first and for the last time (-first +last):\n%s", diff)
			}
		})
	}
}

func checkKept(t *testing.T, direction string, version int, before, after contents) {
	t.Helper()
	if diff := cmp.Diff(before.within(before), after.within(before)); diff != "" {
		t.Errorf("%s %d: rows changed (-before +after):\n%s", direction, version, diff)
	}
}

// ledgerObjects returns schema without the objects of golang-migrate and of SQLite itself.
func ledgerObjects(schema []string) []string {
	kept := []string{}
	for _, object := range schema {
		if !strings.Contains(object, "schema_migrations") && !strings.Contains(object, "sqlite_sequence") {
			kept = append(kept, object)
		}
	}
	return kept
}

func TestCLIAndLibraryCreateTheSameSchema(t *testing.T) {
	t.Parallel()
	byCLI, byLibrary := ledgerFile(t), ledgerFile(t)
	runCLI(t, byCLI, "up")
	openMigrated(t, byLibrary)
	if diff := cmp.Diff(rawSchema(t, rawPool(t, byCLI, "")), rawSchema(t, rawPool(t, byLibrary, ""))); diff != "" {
		t.Errorf("schema (-CLI +library):\n%s", diff)
	}
}

func TestMigrateAfterTheCLIIsANoOp(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	runCLI(t, path, "up")
	db := rawPool(t, path, goodPool)
	schema, rows := rawSchema(t, db), rawContents(t, db)
	ledger := remediation.New(serverStore(t, path))
	if diff := cmp.Diff(schema, rawSchema(t, db)); diff != "" {
		t.Errorf("Migrate changed the schema (-CLI +library):\n%s", diff)
	}
	if diff := cmp.Diff(rows["schema_migrations"], rawContents(t, db)["schema_migrations"]); diff != "" {
		t.Errorf("Migrate changed the version (-CLI +library):\n%s", diff)
	}
	walkLifecycle(t, ledger, "web-1", nil)
}

func TestCLIAfterMigrateIsANoOp(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	openMigrated(t, path)
	if got := runCLI(t, path, "version"); got != fmt.Sprint(newestVersion(t)) {
		t.Errorf("migrate version says %q, want %d", got, newestVersion(t))
	}
	if got := runCLI(t, path, "up"); got != "no change" {
		t.Errorf("migrate up says %q, want no change", got)
	}
}

func TestMigrateContinuesWhereTheCLIStopped(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	runCLI(t, path, "goto", "3")
	walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
	if got := runCLI(t, path, "version"); got != fmt.Sprint(newestVersion(t)) {
		t.Errorf("migrate version says %q, want %d", got, newestVersion(t))
	}
	runCLI(t, path, "goto", "3")
	runCLI(t, path, "goto", fmt.Sprint(newestVersion(t)))
	if _, err := remediation.New(openLedger(t, path)).Claim(t.Context(), "web-1"); err != nil {
		t.Errorf("Claim after the CLI went down and up again: %v", err)
	}
}

func TestMigrateRedoesWhatTheCLIUndid(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
	db := rawPool(t, path, goodPool)
	schema, rows := rawSchema(t, db), rawContents(t, db)
	runCLI(t, path, "down", "1")

	store := openLedger(t, path)
	if _, err := remediation.New(store).List(t.Context(), remediation.Filter{}); !errors.Is(err, remediation.ErrSchemaVersion) {
		t.Errorf("List: %v, want ErrSchemaVersion", err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := remediation.New(store).Claim(t.Context(), "web-1"); err != nil {
		t.Errorf("Claim after Migrate, on the store that returned ErrSchemaVersion before: %v", err)
	}
	if diff := cmp.Diff(schema, rawSchema(t, db)); diff != "" {
		t.Errorf("schema (-before +after):\n%s", diff)
	}
	after := rawContents(t, db)
	for _, table := range []string{"remediation_actions", "remediation_events"} {
		after[table] = rows[table] // Claim has changed one action and added its event
	}
	if diff := cmp.Diff(rows, after); diff != "" {
		t.Errorf("rows (-before +after):\n%s", diff)
	}
}
