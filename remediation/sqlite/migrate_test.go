package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	modernc "modernc.org/sqlite"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests check that Migrate is one transaction: when a step or the commit fails, when it is cancelled, and when it
// waits for another program.

func TestFailedStepLeavesTheDatabaseAsItWas(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		start            int
		obstacle, remove string
		want             string
	}{
		"first step": {
			0, "CREATE TABLE alerts (name TEXT)", "DROP TABLE alerts", "table alerts already exists",
		},
		"step after one that succeeded": {
			0, "CREATE TABLE remediation_events (name TEXT)", "DROP TABLE remediation_events",
			"table remediation_events already exists",
		},
		"last statement of a step, with rows": {
			2, "CREATE TABLE mine (name TEXT); CREATE INDEX remediation_actions_by_alert ON mine (name)", "DROP TABLE mine",
			"index remediation_actions_by_alert already exists",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			db := rawPool(t, path, goodPool)
			fillLegacy(t, path, test.start)
			rawExec(t, db, test.obstacle)
			schema, rows := rawSchema(t, db), rawContents(t, db)

			err := sqlite.Migrate(t.Context(), db)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Migrate: %v, want an error that says %q", err, test.want)
			}
			if diff := cmp.Diff(schema, rawSchema(t, db)); diff != "" {
				t.Errorf("the schema changed (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(rows, rawContents(t, db)); diff != "" {
				t.Errorf("the rows or the version changed (-before +after):\n%s", diff)
			}
			rawExec(t, rawPool(t, path, ""), test.remove) // on another connection, which fails if a lock is left
			if err := sqlite.Migrate(t.Context(), db); err != nil {
				t.Errorf("Migrate without the obstacle: %v", err)
			}
		})
	}
}

func TestEveryCallFailsAtAnotherSchemaVersion(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change     string
		migratable bool // Migrate may succeed, and is not called here
	}{
		"newer":             {"UPDATE schema_migrations SET version = 999", false},
		"dirty":             {"UPDATE schema_migrations SET dirty = TRUE", false},
		"older, but dirty":  {"UPDATE schema_migrations SET version = 3, dirty = TRUE", false},
		"newer and dirty":   {"UPDATE schema_migrations SET version = 999, dirty = TRUE", false},
		"without a version": {"DELETE FROM schema_migrations", true},
		"without its table": {"DROP TABLE schema_migrations", true},
		"older by one":      {"UPDATE schema_migrations SET version = version - 1", true},
		"the first version": {"UPDATE schema_migrations SET version = 1", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
			db := rawPool(t, path, goodPool)
			rawExec(t, db, test.change)
			rows := rawContents(t, db)

			store := openLedger(t, path)
			for call, err := range everyCall(t.Context(), remediation.New(store)) {
				if !errors.Is(err, remediation.ErrSchemaVersion) {
					t.Errorf("%s: %v, want ErrSchemaVersion", call, err)
				}
			}
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for call, err := range everyCall(t.Context(), remediation.New(sqlite.Tx(tx))) {
				if !errors.Is(err, remediation.ErrSchemaVersion) {
					t.Errorf("%s in a transaction: %v, want ErrSchemaVersion", call, err)
				}
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
			if !test.migratable {
				if err := store.Migrate(t.Context()); !errors.Is(err, remediation.ErrSchemaVersion) {
					t.Errorf("Migrate: %v, want ErrSchemaVersion", err)
				}
			}
			if diff := cmp.Diff(rows, rawContents(t, db)); diff != "" {
				t.Errorf("a refused call wrote (-before +after):\n%s", diff)
			}
		})
	}
}

// everyCall makes each call of a Ledger once, with valid input, and returns the errors by name.
func everyCall(ctx context.Context, ledger *remediation.Ledger) map[string]error {
	action := func(_ remediation.Action, err error) error { return err }
	_, addAlert := ledger.AddAlert(ctx, "web-1", "nginx is down")
	_, list := ledger.List(ctx, remediation.Filter{})
	_, approveMany := ledger.ApproveMany(ctx, []int64{4}, "alice")
	_, rejectMany := ledger.RejectMany(ctx, []int64{4}, "alice", "no")
	_, failOverdue := ledger.FailOverdue(ctx, time.Hour, 1)
	_, events := ledger.Events(ctx, 0, 1)
	_, history := ledger.History(ctx, 1)
	_, explain := ledger.Explain(ctx, 1)
	_, counts := ledger.Counts(ctx)
	_, prune := ledger.Prune(ctx, time.Time{}, 1)
	_, clearOutput := ledger.ClearOutput(ctx, time.Time{}, 1)
	var all error
	for _, all = range ledger.All(ctx, remediation.Filter{}) {
		break
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	if events == nil {
		stop() // otherwise Follow waits for an event
	}
	var follow error
	for _, follow = range ledger.Follow(following, 0) {
		break
	}
	return map[string]error{
		"AddServer": ledger.AddServer(ctx, "web-2"),
		"Pause":     ledger.Pause(ctx, "web-1"),
		"Unpause":   ledger.Unpause(ctx, "web-1"),
		"AddAlert":  addAlert,
		"Create": action(ledger.Create(ctx, remediation.NewAction{
			ServerID: "web-1", ActionType: "restart_service", Command: "true", CreatedBy: "dashboard",
		})),
		"Approve":  action(ledger.Approve(ctx, 4, "alice")),
		"Reject":   action(ledger.Reject(ctx, 4, "alice", "no")),
		"Withdraw": action(ledger.Withdraw(ctx, 3, "alice", "no")),
		"Claim":    action(ledger.Claim(ctx, "web-1")),
		"Start":    action(ledger.Start(ctx, 3)),
		"Finish":   action(ledger.Finish(ctx, "web-1", 7, remediation.Result{})),
		"Get":      action(ledger.Get(ctx, 1)),
		"List":     list,
		"All":      all,

		"ApproveMany": approveMany,
		"RejectMany":  rejectMany,
		"FailOverdue": failOverdue,
		"Events":      events,
		"History":     history,
		"Follow":      follow,
		"Explain":     explain,
		"Counts":      counts,
		"Prune":       prune,
		"ClearOutput": clearOutput,
	}
}

// countingContext ends at the n-th call of its Done method, so that a test can cancel at every point at which the
// tested call checks its context.
type countingContext struct {
	context.Context
	end  context.CancelFunc
	left atomic.Int64
}

func endAfter(parent context.Context, n int) *countingContext {
	ctx, cancel := context.WithCancel(parent)
	counting := &countingContext{Context: ctx, end: cancel}
	counting.left.Store(int64(n))
	if n == 0 {
		cancel() // before the first call of Done
	}
	return counting
}

func (c *countingContext) Done() <-chan struct{} {
	if c.left.Add(-1) == 0 {
		c.end()
	}
	return c.Context.Done()
}

func TestMigrateCancelledAtAnyPointLeavesNothingHalfDone(t *testing.T) {
	notShort(t)
	t.Parallel()
	begin, step := time.Now(), 1
	for n := 0; ; n += step {
		if !inTime(begin) {
			step = 10
		}
		path := filepath.Join(t.TempDir(), "ledger.db")
		db := rawPool(t, path, goodPool)
		ctx := endAfter(t.Context(), n)
		err := sqlite.Migrate(ctx, db)
		reached := ctx.Err() != nil
		ctx.end()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at point %d: %v, want context.Canceled", n, err)
		}
		version, dirty := rawVersion(t, db)
		complete := version == newestVersion(t) || err != nil && version == -1 // a cancelled COMMIT may have succeeded
		if !complete || dirty {
			t.Errorf("cancelled at point %d: Migrate returned %v and left version %d, dirty %t", n, err, version, dirty)
		}
		if err := sqlite.Migrate(t.Context(), db); err != nil {
			t.Errorf("Migrate after a Migrate that was cancelled at point %d: %v", n, err)
		}
		db.Close()
		checkLedgerFile(t, path)
		if !reached {
			t.Logf("%d points, in steps of %d at the end", n, step)
			return
		}
	}
}

// Each point is tried several times, because the driver may report a cancellation although the statement succeeded.
func TestMigrateCancelledAtAnyPointRestoresThePoolsConnection(t *testing.T) {
	notShort(t)
	t.Parallel()
	path := ledgerFile(t)
	db, other := rawPool(t, path, goodPool), rawPool(t, path, "_pragma=busy_timeout(0)&_txlock=immediate")
	db.SetMaxOpenConns(1) // so that the test reads the settings of Migrate's connection
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for round := 0; round < 100 && (round < 3 || inTime(begin)); round++ {
		for n, reached := 1, true; reached; n++ {
			rawExec(t, other, "DROP TRIGGER IF EXISTS servers_types_insert") // so that Migrate has to restore it
			ctx := endAfter(t.Context(), n)
			err := sqlite.Migrate(ctx, db)
			reached = ctx.Err() != nil
			ctx.end()
			tx, lockErr := other.Begin()
			if lockErr != nil {
				t.Fatalf("Migrate, cancelled at point %d (%v), still has the write lock: %v", n, err, lockErr)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"5000"}, rawColumn(t, db, "PRAGMA busy_timeout")); diff != "" {
				t.Fatalf("busy_timeout after a Migrate cancelled at point %d, %v (-want +got):\n%s", n, err, diff)
			}
		}
	}
}

func TestMigrateWaitsForAnotherWriter(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	writer := holdWriteLock(t, path)
	db := rawPool(t, path, "_pragma=busy_timeout(1)")
	writer.releaseDuring(t, func() error { return sqlite.Migrate(t.Context(), db) })
}

func TestMigrateStopsWaitingWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	writer := holdWriteLock(t, path)
	db := rawPool(t, path, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sqlite.Migrate(ctx, db); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate: %v, want context.DeadlineExceeded", err)
	}
	writer.release(t)
	if version, _ := rawVersion(t, db); version != -1 {
		t.Errorf("version %d after a Migrate that never got the lock", version)
	}
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Error(err)
	}
}

func TestMigrateWhoseCommitFailsRollsBack(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	db := rawPool(t, path, goodPool)
	db.SetMaxOpenConns(1) // so that Migrate gets the connection that can't commit
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var allow atomic.Bool
	err = conn.Raw(func(c any) error {
		return c.(modernc.AuthorizerRegisterer).RegisterAuthorizer(
			func(action modernc.AuthorizerActionCode, arg1, _, _, _ string) modernc.AuthorizerReturnCode {
				if action == modernc.AuthTransaction && arg1 == "COMMIT" && !allow.Load() {
					return modernc.AuthorizerDeny
				}
				return modernc.AuthorizerOK
			})
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Migrate(t.Context(), db); err == nil {
		t.Error("Migrate returned no error although its COMMIT failed")
	}
	allow.Store(true)
	other := rawPool(t, path, "_pragma=busy_timeout(0)")
	if _, err := other.Exec("CREATE TABLE mine (name TEXT)"); err != nil {
		t.Errorf("another program after the COMMIT failed: %v", err)
	}
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Errorf("Migrate after the COMMIT failed: %v", err)
	}
}

// With a rollback journal, a COMMIT waits for readers.
func TestMigrateStopsWaitingForReadersWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	db := rawPool(t, path, goodPool)
	rawExec(t, db, "CREATE TABLE mine (name TEXT); INSERT INTO mine VALUES ('a'), ('b')")
	reader, err := rawPool(t, path, "").Query("SELECT name FROM mine")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	reader.Next()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- sqlite.Migrate(ctx, db) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Migrate: %v, want context.DeadlineExceeded", err)
		}
		reader.Close()
	case <-time.After(3 * time.Second):
		t.Error("Migrate still waits for a reader 3 seconds after its context ended")
		reader.Close()
		<-done
	}
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Error(err)
	}
}

func TestMigrateRestoresThePoolsConnection(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"success": "SELECT 1",
		"failure": "CREATE TABLE servers (name TEXT)",
		"refusal": "CREATE TABLE schema_migrations (version uint64, dirty bool); INSERT INTO schema_migrations VALUES (999, 0)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := rawPool(t, ledgerFile(t), "_pragma=busy_timeout(1234)&_pragma=foreign_keys(0)")
			db.SetMaxOpenConns(1) // so that the test reads the settings of Migrate's connection
			rawExec(t, db, setup)
			if err := sqlite.Migrate(t.Context(), db); (err == nil) != (name == "success") {
				t.Fatal(err)
			}
			settings := append(rawColumn(t, db, "PRAGMA busy_timeout"), rawColumn(t, db, "PRAGMA foreign_keys")...)
			if diff := cmp.Diff([]string{"1234", "0"}, settings); diff != "" {
				t.Errorf("busy_timeout and foreign_keys of the pool's connection (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuditColumnsRewriteNoRow(t *testing.T) {
	t.Parallel()
	changed := map[int]int{}
	for _, rows := range []int{100, 20_000} {
		path := ledgerFile(t)
		fillLegacy(t, path, 2)
		addLegacyRows(t, path, rows)
		before := filePages(t, path)
		stepAPI(t, path, 1)
		for i, page := range filePages(t, path) {
			if i >= len(before) || !bytes.Equal(before[i], page) {
				changed[rows]++
			}
		}
		if len(before) < rows/100 {
			t.Fatalf("%d rows on %d pages: too few pages for this test", rows, len(before))
		}
	}
	if changed[100] != changed[20_000] || changed[100] > 8 {
		t.Errorf("000003 wrote %d pages over 100 rows and %d over 20000; want the same few", changed[100], changed[20_000])
	}
}

// filePages reads the pages of a database file that no connection has open.
func filePages(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := int(binary.BigEndian.Uint16(file[16:])) // https://www.sqlite.org/fileformat.html#the_database_header
	var pages [][]byte
	for ; len(file) > 0; file = file[size:] {
		pages = append(pages, file[:size])
	}
	return pages
}

// writeLock is the write lock of another program.
type writeLock struct{ tx *sql.Tx }

func holdWriteLock(t *testing.T, path string) writeLock {
	t.Helper()
	tx, err := rawPool(t, path, "_txlock=immediate").Begin()
	if err != nil {
		t.Fatal(err)
	}
	return writeLock{tx}
}

// releaseDuring releases the lock while call waits for it. call must wait, and then succeed.
func (w writeLock) releaseDuring(t *testing.T, call func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		t.Fatalf("the call did not wait for the other writer: %v", err)
	case <-time.After(200 * time.Millisecond): // long enough to detect a call that does not wait
	}
	w.release(t)
	if err := <-done; err != nil {
		t.Errorf("after the other writer released the lock: %v", err)
	}
}

func (w writeLock) release(t *testing.T) {
	t.Helper()
	if err := w.tx.Rollback(); err != nil {
		t.Fatal(fmt.Errorf("release the write lock: %w", err))
	}
}
