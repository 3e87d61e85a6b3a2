package sqlite_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	modernc "modernc.org/sqlite"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests check how Open opens and creates the file, and what happens when the file is locked, replaced or gone.

func TestOpenCreatesAFileThatOnlyItsOwnerCanRead(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("ledger.db%s has mode %v, want 0600", suffix, info.Mode())
		}
	}
}

func TestOpenKeepsTheModeOfAFileThatExists(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	rawExec(t, rawPool(t, path, ""), "CREATE TABLE mine (name TEXT)")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	serverStore(t, path)
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o640 {
			t.Errorf("ledger.db%s has mode %v, want 0640", suffix, info.Mode())
		}
	}
}

func TestOpenAcceptsAnyFileName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"with space", "what?mode=memory", "anchor#1", "100%", "%2e%2e%2f", "größe ☃", "a&b=c;d", `back\slash`, `"quoted"`,
		"it's", "new\nline", "\xff not UTF-8", ":memory: not", "+plus", "C:colon",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			t.Cleanup(func() { checkLedgerFile(t, path) })
			walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
			var files []string
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				files = append(files, entry.Name())
			}
			if diff := cmp.Diff([]string{name, name + "-shm", name + "-wal"}, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenAcceptsAnySpellingOfAPath(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spelling := range map[string]string{
		"relative": relative, "dot": "./" + relative, "double slash": "/" + path, "triple slash": "//" + path,
	} {
		t.Run(name, func(t *testing.T) {
			if err := remediation.New(openLedger(t, spelling)).Pause(t.Context(), "web-1"); err != nil {
				t.Errorf("Pause in the ledger at %q: %v", spelling, err)
			}
		})
	}
}

func TestOpenRefusesURIsAndMemory(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", ":memory:", "file:x", "file::memory:?cache=shared", "file:" + filepath.Join(t.TempDir(), "ledger.db")} {
		_, err := sqlite.Open(t.Context(), path)
		refused := (*remediation.InputError)(nil)
		if !errors.As(err, &refused) || refused.Field != "path" {
			t.Errorf("Open(%q): %v, want an *InputError of path", path, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) created a file: %v", path, err)
		}
	}
}

func TestOpenErrorSaysWhyAPathIsNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{"short": "notes", "long": strings.Repeat("These are notes, not a database.\n", 1000)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ path, want string }{
		{dir, "directory"},
		{filepath.Join(dir, "missing", "ledger.db"), "no such file or directory"},
		{filepath.Join(dir, "short", "ledger.db"), "not a directory"},
		{filepath.Join(dir, "short"), "not a database"},
		{filepath.Join(dir, "long"), "not a database"},
		{filepath.Join(dir, "nul\x00"), "invalid argument"},
	} {
		_, err := sqlite.Open(t.Context(), test.path)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%q): %v, want an error that says %q", test.path, err, test.want)
		}
	}
	after := map[string]string{}
	for _, path := range mustRead(filepath.Glob(filepath.Join(dir, "*"))) {
		after[filepath.Base(path)] = string(mustRead(os.ReadFile(path)))
	}
	if diff := cmp.Diff(files, after); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

func mustRead[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// settings are the values of a connection's pragmas.
type settings struct {
	ForeignKeys, Synchronous, QueryOnly, BusyTimeout int64
}

// recorded has the settings of all connections to databases named recorded.db. A hook of the driver is the only
// access to the connections that Open makes.
var recorded struct {
	sync.Mutex
	settings map[settings]bool
}

func recordSettings(conn modernc.ExecQuerierContext, dsn string) error {
	if !strings.Contains(dsn, "/recorded.db?") {
		return nil
	}
	rows, err := conn.QueryContext(context.Background(), `SELECT foreign_keys, synchronous, query_only, timeout
		FROM pragma_foreign_keys, pragma_synchronous, pragma_query_only, pragma_busy_timeout`, nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	v := make([]driver.Value, 4)
	if err := rows.Next(v); err != nil {
		return err
	}
	recorded.Lock()
	defer recorded.Unlock()
	if recorded.settings == nil {
		recorded.settings = map[settings]bool{}
	}
	recorded.settings[settings{v[0].(int64), v[1].(int64), v[2].(int64), v[3].(int64)}] = true
	return nil
}

func TestOpenSetsSynchronousAndForeignKeys(t *testing.T) {
	recorded.Lock()
	recorded.settings = nil // with -count, an earlier run has filled it
	recorded.Unlock()
	path := filepath.Join(t.TempDir(), "recorded.db")
	ledger := remediation.New(serverStore(t, path, sqlite.WithBusyTimeout(1234*time.Millisecond)))
	if _, err := ledger.List(t.Context(), remediation.Filter{}); err != nil {
		t.Fatal(err)
	}
	recorded.Lock()
	got := maps.Clone(recorded.settings)
	recorded.Unlock()
	const full = 2
	want := map[settings]bool{
		{ForeignKeys: 1, Synchronous: full}:                                  true, // writes: the store itself waits for locks
		{ForeignKeys: 1, Synchronous: full, BusyTimeout: 1234, QueryOnly: 1}: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"wal"}, rawColumn(t, rawPool(t, path, ""), "PRAGMA journal_mode")); diff != "" {
		t.Errorf("journal mode (-want +got):\n%s", diff)
	}
}

func TestCallsAfterCloseReturnErrClosed(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, path string) *sqlite.Store{
		"Open": func(t *testing.T, path string) *sqlite.Store { return openLedger(t, path) },
		"New":  func(t *testing.T, path string) *sqlite.Store { return storeOn(t, rawPool(t, path, goodPool)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			store := open(t, path)
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			everyCall(t.Context(), remediation.New(store))
			for range 2 {
				if err := store.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			for call, err := range everyCall(t.Context(), remediation.New(store)) {
				if !errors.Is(err, sqlite.ErrClosed) {
					t.Errorf("%s after Close: %v, want ErrClosed", call, err)
				}
			}
			if err := store.Migrate(t.Context()); !errors.Is(err, sqlite.ErrClosed) {
				t.Errorf("Migrate after Close: %v, want ErrClosed", err)
			}
			if left := mustRead(filepath.Glob(path + "-*")); left != nil {
				t.Errorf("Close left %v", left)
			}
		})
	}
}

func TestBusyTimeoutEndsTheWaitForAnotherWriter(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	const timeout = 100 * time.Millisecond
	store := openMigrated(t, path, sqlite.WithBusyTimeout(timeout))
	ledger := remediation.New(store)
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	db := rawPool(t, path, "")
	before := rawContents(t, db)
	writer := holdWriteLock(t, path)
	start := time.Now()
	_, err := ledger.Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "restart_service", Command: "true", CreatedBy: "dashboard",
	})
	if waited := time.Since(start); !errors.Is(err, remediation.ErrBusy) || waited < timeout || waited > 4*time.Second {
		t.Errorf("Create: %v after %v, want ErrBusy after %v", err, waited, timeout)
	}
	if _, err := ledger.List(t.Context(), remediation.Filter{}); err != nil {
		t.Errorf("List while another program writes: %v", err)
	}
	if diff := cmp.Diff(before, rawContents(t, db)); diff != "" {
		t.Errorf("the call that failed wrote (-before +after):\n%s", diff)
	}
	writer.release(t)
	walkLifecycle(t, ledger, "web-1", nil)
}

func TestOpenWithAShortBusyTimeout(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, time.Nanosecond, time.Millisecond} {
		t.Run(fmt.Sprint(timeout), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			walkLifecycle(t, remediation.New(serverStore(t, path, sqlite.WithBusyTimeout(timeout))), "web-1", nil)
		})
	}
}

func TestProgramThatWritesWithoutPauseDoesNotBlockAnother(t *testing.T) {
	notShort(t)
	t.Parallel()
	path := ledgerFile(t)
	busy := remediation.New(serverStore(t, path))
	other := remediation.New(openLedger(t, path, sqlite.WithBusyTimeout(2*time.Second)))
	create := func(l *remediation.Ledger) error {
		_, err := l.Create(t.Context(), remediation.NewAction{
			ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "dashboard",
		})
		return err
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 64 {
		wg.Go(func() {
			for !stop.Load() {
				if err := create(busy); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		if err := create(other); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

func TestCallsReturnErrFileGoneAfterTheFileWasReplaced(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	create := func() error {
		_, err := ledger.Create(t.Context(), remediation.NewAction{
			ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "dashboard",
		})
		return err
	}
	mustDo := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mustDo(create())
	for name, replace := range map[string]func() error{
		"moved away": func() error { return nil },
		"replaced":   func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		mustDo(os.Rename(path, path+".away"))
		mustDo(replace())
		if err := create(); !errors.Is(err, sqlite.ErrFileGone) {
			t.Errorf("%s: %v, want ErrFileGone", name, err)
		}
		mustDo(os.Rename(path+".away", path))
		mustDo(create())
	}
	counts, err := ledger.Counts(t.Context(), remediation.Approved)
	mustDo(err)
	if counts[remediation.Approved] != 3 {
		t.Errorf("%d actions, want the 3 that were acknowledged", counts[remediation.Approved])
	}
}

// filesOf reads a database file and SQLite's other files of it, by suffix.
func filesOf(t *testing.T, path string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		text, err := os.ReadFile(path + suffix)
		if err == nil {
			files[suffix] = string(text)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return files
}

// walOnly returns the files of a ledger with one action, which is only in the WAL.
func walOnly(t *testing.T, path string) map[string]string {
	t.Helper()
	ledger := remediation.New(serverStore(t, path))
	_, err := ledger.Create(t.Context(), restart("true"))
	wantDone(t, err)
	files := filesOf(t, path)
	delete(files, "-shm") // SQLite recreates it
	return files
}

// hotJournal returns the files of a ledger with one action, during a transaction that has begun to write pages.
func hotJournal(t *testing.T, path string) map[string]string {
	t.Helper()
	db := rawPool(t, path, goodPool)
	wantDone(t, sqlite.Migrate(t.Context(), db))
	ledger := remediation.New(storeOn(t, db))
	wantDone(t, ledger.AddServer(t.Context(), "web-1"))
	_, err := ledger.Create(t.Context(), restart("true"))
	wantDone(t, err)
	tx := beginRaw(t, db)
	defer tx.Rollback()
	for _, statement := range []string{"PRAGMA cache_size = 1", "CREATE TABLE mine (value BLOB)",
		"INSERT INTO mine WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT randomblob(1000) FROM n"} {
		_, err := tx.Exec(statement)
		wantDone(t, err)
	}
	return filesOf(t, path)
}

func TestOpenRefusesTheJournalOfAMissingDatabase(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		suffix string
		ledger func(t *testing.T, path string) map[string]string
	}{
		"write-ahead log":  {"-wal", walOnly},
		"rollback journal": {"-journal", hotJournal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := test.ledger(t, ledgerFile(t))
			for database, found := range map[string]map[string]string{
				"missing": {test.suffix: files[test.suffix]},
				"empty":   {"": "", test.suffix: files[test.suffix]},
			} {
				path := ledgerFile(t)
				link := filepath.Join(t.TempDir(), "link.db")
				wantDone(t, os.Symlink(path, link))
				for suffix, text := range found {
					wantDone(t, os.WriteFile(path+suffix, []byte(text), 0o600))
				}
				for _, spelling := range []string{path, link} {
					store, err := sqlite.Open(t.Context(), spelling)
					if err == nil {
						store.Close()
						t.Errorf("%s: Open of %s succeeded", database, filepath.Base(spelling))
					} else if (spelling == path || database == "empty") && !strings.Contains(err.Error(), path+test.suffix+" has changes") {
						t.Errorf("%s: Open: %v, want an error that names the file", database, err)
					}
					if diff := cmp.Diff(found, filesOf(t, path)); diff != "" {
						t.Fatalf("%s: files (-before +after):\n%s", database, diff)
					}
				}
				wantDone(t, os.WriteFile(path, []byte(files[""]), 0o600)) // put back beside its journal
				actions, err := remediation.New(openLedger(t, path)).List(t.Context(), remediation.Filter{})
				if err != nil || len(actions) != 1 {
					t.Errorf("%s: after the file was put back: %d actions, %v, want the one that was acknowledged", database, len(actions), err)
				}
			}
			path := ledgerFile(t)
			wantDone(t, os.WriteFile(path+test.suffix+".away", []byte(files[test.suffix]), 0o600))
			serverStore(t, path)
		})
	}
}

// An Open that was killed while it created the database leaves an empty file or none, and a journal without pages.
func TestOpenAcceptsTheFilesOfAKilledOpen(t *testing.T) {
	t.Parallel()
	new := ledgerFile(t)
	db := rawPool(t, new, "")
	db.SetMaxOpenConns(1)
	rawExec(t, db, `PRAGMA cache_size = 1; BEGIN; CREATE TABLE mine (value BLOB);
		INSERT INTO mine WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT randomblob(1000) FROM n`)
	journal := filesOf(t, new)["-journal"]
	rawExec(t, db, "ROLLBACK")
	if len(journal) == 0 {
		t.Fatal("there is no journal")
	}
	for _, files := range []map[string]string{
		{"": "", "-journal": journal}, {"-journal": journal}, {"": "", "-journal": journal[:10]}, {"": "", "-wal": ""}, {"-wal": ""},
	} {
		path := ledgerFile(t)
		for suffix, text := range files {
			wantDone(t, os.WriteFile(path+suffix, []byte(text), 0o600))
		}
		serverStore(t, path)
	}
}

func TestConcurrentOpensShareANewFile(t *testing.T) {
	t.Parallel()
	for range 40 {
		path := ledgerFile(t)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				store, err := sqlite.Open(t.Context(), path)
				if err == nil {
					err = errors.Join(store.Migrate(t.Context()), store.Close())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestOpenWaitsForAnotherWriter(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	rawExec(t, rawPool(t, path, ""), "CREATE TABLE mine (name TEXT)")
	writer := holdWriteLock(t, path)
	writer.releaseDuring(t, func() error {
		store, err := sqlite.Open(t.Context(), path)
		if err != nil {
			return err
		}
		return store.Close()
	})
}

func TestOpenReturnsErrBusyWhileAnotherProgramHasTheLock(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	db := rawPool(t, path, "")
	rawExec(t, db, "CREATE TABLE mine (name TEXT)")
	writer := holdWriteLock(t, path)
	_, err := sqlite.Open(t.Context(), path, sqlite.WithBusyTimeout(50*time.Millisecond))
	if !errors.Is(err, remediation.ErrBusy) {
		t.Errorf("Open: %v, want ErrBusy", err)
	}
	writer.release(t)
	openMigrated(t, path)
}
