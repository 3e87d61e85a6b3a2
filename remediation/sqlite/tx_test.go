package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests check the stores of New and Tx, and statements that other programs execute in the same database.

func TestNewRefusesAPoolAndNamesTheParameter(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ params, pragma, want string }{
		"foreign keys by default":        {"_time_format=sqlite", "", "foreign_keys"},
		"foreign keys off":               {"_time_format=sqlite&_pragma=foreign_keys(0)", "", "foreign_keys"},
		"foreign keys on one connection": {"_time_format=sqlite", "PRAGMA foreign_keys = ON", "foreign_keys"},
		"foreign keys off on one":        {goodPool, "PRAGMA foreign_keys = OFF", "foreign_keys"},
		"Go's times":                     {"_pragma=foreign_keys(1)", "", "_time_format=sqlite"},
		"times without fractions":        {"_pragma=foreign_keys(1)&_time_format=datetime", "", "_time_format=sqlite"},
		"times with a zone's name":       {"_pragma=foreign_keys(1)&_time_format=string_no_monotonic", "", "_time_format=sqlite"},
		"times of New York":              {goodPool + "&_timezone=America/New_York", "", "_timezone"},
		"times of London, UTC in winter": {goodPool + "&_timezone=Europe/London", "", "_timezone"},
		"times as numbers":               {goodPool + "&_time_integer_format=unix_micro", "", "_time_integer_format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := rawPool(t, ledgerFile(t), test.params)
			rawExec(t, db, test.pragma)
			_, err := sqlite.New(t.Context(), db)
			refused := (*remediation.InputError)(nil)
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: %v, want an *InputError that names %s", err, test.want)
			}
			if err := db.Ping(); err != nil {
				t.Errorf("Ping of the refused pool: %v", err)
			}
		})
	}
}

func TestNewWorksOnAGoodPoolAndLeavesItOpen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		params string
		conns  int
	}{
		"many connections": {goodPool, 0},
		"one connection":   {goodPool, 1},
		"UTC by name":      {goodPool + "&_timezone=UTC", 0},
		"times from text":  {goodPool + "&_texttotime=1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := rawPool(t, ledgerFile(t), test.params)
			db.SetMaxOpenConns(test.conns)
			store, err := sqlite.New(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			ledger := remediation.New(store)
			if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			walkLifecycle(t, ledger, "web-1", nil)
			for range 2 {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff([]string{"7"}, rawColumn(t, db, "SELECT count(*) FROM remediation_actions")); diff != "" {
				t.Errorf("actions read through the pool after Close (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewNeedsNoMoreConnectionsThanThePoolHasFree(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db := rawPool(t, ledgerFile(t), goodPool)
	db.SetMaxOpenConns(2)
	held, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	store, err := sqlite.New(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
}

func TestTimesAreStoredAsTextThatSorts(t *testing.T) {
	t.Parallel()
	newYork := time.FixedZone("EST", -5*60*60)
	clock := []time.Time{
		time.Date(2026, 1, 19, 15, 36, 1, 0, time.UTC),
		time.Date(2026, 1, 19, 15, 36, 1, 1_999, time.UTC),
		time.Date(2026, 1, 19, 10, 36, 1, 100_000_000, newYork),
		time.Date(2026, 1, 19, 15, 36, 1, 617_957_999, time.UTC),
		time.Date(2026, 1, 19, 10, 36, 2, 0, newYork),
		time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC),
	}
	want := []string{ // in the order of the clock, which is the order of the texts too
		"2026-01-19 15:36:01+00:00", "2026-01-19 15:36:01.000001+00:00", "2026-01-19 15:36:01.1+00:00",
		"2026-01-19 15:36:01.617957+00:00", "2026-01-19 15:36:02+00:00", "2026-01-20 00:00:00+00:00",
	}
	for name, use := range map[string]func(t *testing.T, path string, work func(remediation.Store)){
		"Open": func(t *testing.T, path string, work func(remediation.Store)) { work(openLedger(t, path)) },
		"New": func(t *testing.T, path string, work func(remediation.Store)) {
			work(storeOn(t, rawPool(t, path, goodPool)))
		},
		"Tx": func(t *testing.T, path string, work func(remediation.Store)) {
			tx := beginRaw(t, rawPool(t, path, "_pragma=foreign_keys(1)")) // no _time_format
			work(sqlite.Tx(tx))
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			serverStore(t, path)
			use(t, path, func(store remediation.Store) {
				var now time.Time
				ledger := remediation.New(store, remediation.WithClock(func() time.Time { return now }))
				for _, now = range clock {
					fillEveryTime(t, ledger)
				}
			})
			db := rawPool(t, path, "")
			for _, column := range []string{"created_at", "approved_at", "rejected_at", "executed_at", "completed_at"} {
				got := rawColumn(t, db, fmt.Sprintf(`SELECT CAST(%[1]s AS TEXT) FROM remediation_actions
					WHERE julianday(%[1]s) BETWEEN 2461060 AND 2461061 AND typeof(%[1]s) = 'text'
					GROUP BY %[1]s ORDER BY %[1]s`, column))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, sorted as text (-want +got):\n%s", column, diff)
				}
			}
			if diff := cmp.Diff(want[5:], rawColumn(t, db, "SELECT CAST(paused_at AS TEXT) FROM servers")); diff != "" {
				t.Errorf("paused_at (-want +got):\n%s", diff)
			}
		})
	}
}

// fillEveryTime makes calls that store the ledger's time in every time column.
func fillEveryTime(t *testing.T, ledger *remediation.Ledger) {
	t.Helper()
	ctx := t.Context()
	create := func() (remediation.Action, error) {
		return ledger.Create(ctx, remediation.NewAction{
			ServerID: "web-1", ActionType: "restart_service", Command: "true", CreatedBy: "dashboard",
		})
	}
	err := ledger.Unpause(ctx, "web-1")
	_, createErr := create()
	run, claimErr := ledger.Claim(ctx, "web-1")
	_, finishErr := ledger.Finish(ctx, "web-1", run.ID, remediation.Result{})
	pauseErr := ledger.Pause(ctx, "web-1")
	pending, pendingErr := create()
	_, rejectErr := ledger.Reject(ctx, pending.ID, "alice", "no")
	if err := errors.Join(err, createErr, claimErr, finishErr, pauseErr, pendingErr, rejectErr); err != nil {
		t.Fatal(err)
	}
}

func beginRaw(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	return tx
}

func TestTxIsCommittedOrRolledBackByTheCaller(t *testing.T) {
	t.Parallel()
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %t", commit), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			outside := remediation.New(serverStore(t, path))
			db := rawPool(t, path, goodPool+"&_txlock=immediate")
			rawExec(t, db, "CREATE TABLE mine (name TEXT)")
			before := rawContents(t, db)
			tx := beginRaw(t, db)
			ledger := remediation.New(sqlite.Tx(tx))
			ids := walkLifecycle(t, ledger, "web-1", nil)
			if _, err := tx.Exec("INSERT INTO mine VALUES ('with it')"); err != nil {
				t.Fatal(err)
			}
			_, err := ledger.Approve(t.Context(), ids[remediation.Failed][0], "alice")
			if !errors.Is(err, remediation.ErrInvalidTransition) {
				t.Errorf("Approve: %v, want ErrInvalidTransition", err)
			}
			if seen, err := outside.List(t.Context(), remediation.Filter{}); err != nil || len(seen) != 0 {
				t.Errorf("before the end of the transaction another store sees %d actions, %v", len(seen), err)
			}
			want := append([]string{}, before["mine"]["name"]...)
			if commit {
				err, want = tx.Commit(), []string{"text 'with it'"}
			} else {
				err = tx.Rollback()
			}
			if err != nil {
				t.Fatal(err)
			}
			seen, err := outside.List(t.Context(), remediation.Filter{})
			if err != nil || (len(seen) == 7) != commit || (len(seen) == 0) == commit {
				t.Errorf("after the end of the transaction another store sees %d actions, %v", len(seen), err)
			}
			if diff := cmp.Diff(want, append([]string{}, rawContents(t, db)["mine"]["name"]...)); diff != "" {
				t.Errorf("the caller's own row (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoStatementReplacesOrRewritesAnAction(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	walkLifecycle(t, ledger, "web-1", nil)
	db := rawPool(t, path, goodPool)
	before := rawContents(t, db)
	const values = `(%s, server_id, action_type, status, command, created_at, created_by)
		VALUES (3, 'web-1', 'restart_service', 'pending', 'rm -rf /', '2026-01-19 15:36:01', 'mallory')`
	for _, statement := range []string{
		fmt.Sprintf("INSERT OR REPLACE INTO remediation_actions "+values, "id"),
		fmt.Sprintf("INSERT OR REPLACE INTO remediation_actions "+values, "rowid"),
		fmt.Sprintf("REPLACE INTO remediation_actions "+values, "oid"),
		fmt.Sprintf("INSERT INTO remediation_actions "+values+" ON CONFLICT DO UPDATE SET command = excluded.command", "id"),
		"INSERT OR REPLACE INTO remediation_actions SELECT * FROM remediation_actions WHERE id = 3",
		"UPDATE OR REPLACE remediation_actions SET id = 4 WHERE id = 3",
		"UPDATE OR REPLACE remediation_actions SET rowid = 4 WHERE id = 3",
		"UPDATE OR REPLACE remediation_actions SET command = 'rm -rf /' WHERE id = 3",
		"UPDATE OR IGNORE remediation_actions SET command = 'rm -rf /' WHERE id = 3",
		"UPDATE OR IGNORE remediation_actions SET status = 'pending' WHERE id = 3",
		"UPDATE OR FAIL remediation_actions SET created_by = 'mallory'",
		"UPDATE remediation_actions SET rowid = 99 WHERE id = 3",
		"UPDATE remediation_actions SET _rowid_ = -3 WHERE id = 3",
		"UPDATE remediation_actions SET oid = 99, status = 'executing', executed_at = '2026-01-19 15:36:01' WHERE id = 3",
		"UPDATE remediation_actions SET command = s.id FROM servers AS s",
	} {
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "remediation_actions_") {
			t.Errorf("%s: %v, want an error that names the rule", statement, err)
		}
		if diff := cmp.Diff(before, rawContents(t, db)); diff != "" {
			t.Fatalf("%s changed rows (-before +after):\n%s", statement, diff)
		}
	}
}

// A BEFORE INSERT trigger sees the id -1 in a row whose id SQLite has not chosen yet. A row that predates the rule
// may have that id or 0. After a row with the highest id, AUTOINCREMENT finds no other id.
func TestRowWithAnInvalidIDDoesNotBlockCreate(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	rule := rawColumn(t, db, "SELECT sql FROM sqlite_master WHERE name = 'remediation_events_append_only_insert'")[0]
	for _, id := range []int64{-1, 0, math.MinInt64, math.MaxInt64, 1<<53 + 1} {
		for _, before := range []string{"", "DROP TRIGGER remediation_events_append_only_insert"} {
			if before != "" && id > 0 {
				continue
			}
			tx := beginRaw(t, db)
			if _, err := tx.Exec(before); err != nil {
				t.Fatal(err)
			}
			_, err := tx.Exec(`INSERT INTO remediation_actions (id, server_id, action_type, command, created_at, created_by)
				VALUES (?, 'web-1', 'restart_service', 'true', '2026-01-19 15:36:01', 'dashboard')`, id)
			if accepted := err == nil; accepted != (before != "") {
				t.Errorf("after %q the id %d: %v", before, id, err)
			}
			if before != "" {
				if _, err := tx.Exec(rule); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := remediation.New(sqlite.Tx(tx)).Create(t.Context(), remediation.NewAction{
				ServerID: "web-1", ActionType: "restart_service", Command: "true", CreatedBy: "dashboard",
			}); err != nil {
				t.Errorf("Create after another program wrote the id %d: %v", id, err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A trigger of the host program may skip a row without an error.
func TestCreateThatATriggerSkipsFails(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	rawExec(t, rawPool(t, path, goodPool), `CREATE TRIGGER mine BEFORE INSERT ON remediation_actions WHEN NEW.command = 'skipped'
		BEGIN SELECT RAISE(IGNORE); END`)
	for command, fails := range map[string]bool{"skipped": true, "kept": false} {
		a, err := ledger.Create(t.Context(), remediation.NewAction{
			ServerID: "web-1", ActionType: "restart_service", Command: command, CreatedBy: "dashboard",
		})
		if (err != nil) != fails || (a.ID == 0) != fails {
			t.Errorf("Create of the action that is %s: %+v, %v", command, a, err)
		}
	}
}

// insertAt returns an INSERT of an action whose only parameter is the time in column.
func insertAt(or, column string) string {
	return fmt.Sprintf(`INSERT OR %s INTO remediation_actions (%s, created_at, server_id, action_type, command, created_by)
		VALUES (?, '2026-01-19 15:36:01', 'web-1', 'restart_service', 'true', 'dashboard')`, or, column)
}

// The same time can be stored as different texts. The rules compare the times, not the texts.
func TestLimitsCompareTimesNotTexts(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	insert := func(notBefore, expires, approved, executed string) error {
		_, err := db.Exec(`INSERT INTO remediation_actions (server_id, action_type, command, created_by, created_at, status,
				approved_by, not_before, expires_at, approved_at, executed_at)
			VALUES ('web-1', 'reboot', 'reboot', 'ann', '2026-01-19 15:00:00', iif(? = '', 'approved', 'executing'), 'bob',
				nullif(?, ''), nullif(?, ''), ?, nullif(?, ''))`, executed, notBefore, expires, approved, executed)
		return err
	}
	texts := [][]string{ // four times in order, each as several texts
		{"2026-01-19 15:36:09.999999", "2026-01-19 15:36:09.999999+00:00", "2026-01-19 15:36:09.99999900"},
		{"2026-01-19 15:36:10", "2026-01-19 15:36:10+00:00", "2026-01-19 15:36:10.0", "2026-01-19 15:36:10.000000+00:00"},
		{"2026-01-19 15:36:10.5", "2026-01-19 15:36:10.5+00:00", "2026-01-19 15:36:10.500000", "2026-01-19 15:36:10.50+00:00"},
		{"2026-01-19 15:40:00", "2026-01-19 15:40:00+00:00", "2026-01-19 15:40:00.000"},
	}
	for i, limits := range texts {
		for j, times := range texts {
			for _, limit := range limits {
				for _, at := range times {
					for name, refused := range map[string]struct {
						got  error
						want bool
					}{
						"approved": {insert("", limit, at, ""), j >= i},
						"executed": {insert("", limit, "2026-01-19 15:30:00", at), j >= i},
						"started":  {insert(limit, "", "2026-01-19 15:30:00", at), j < i},
						"spans":    {insert(at, limit, "2026-01-19 15:30:00", ""), j >= i},
					} {
						if (refused.got != nil) != refused.want {
							t.Errorf("%s: limit %s, time %s: %v", name, limit, at, refused.got)
						}
					}
				}
			}
		}
	}
}

// A list that contains a time that the ledger can't read would fail.
func TestUnreadableTimesAreRefused(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ids := walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
	db := rawPool(t, path, "_pragma=foreign_keys(1)") // without _time_format, times are bound in Go's default format
	for _, at := range []any{
		time.Now(), time.Now().UTC().String(), "", "yesterday", "now", "15:36", 2461060.5, 2461060, 1768836961,
		[]byte("2026-01-19 15:36:01"), "2026-01-19 15:36:01.+00:00", "2026-01-19 15:36:01\x00", "2026-01-19 15:36:01.5\x00+00:00",
		"2026-01-19 15:36:01.5+00:00\x00x", "2026-02-30 15:36:01", "2026-13-19 15:36:01", "2026-01-19 24:00:00", "2026-01-19 15:60:01",
		"2026-01-19T15:36:01", "2026-01-19 15:36:01Z", "2026-01-19 15:36:01+01:00", "2026-01-19 15:36:01-00:00", "2026-01-19 15:36",
		"2026-01-19", "2026-01-19 15:36:01 ", " 2026-01-19 15:36:01", "2026-01-19 15:36:01 +00:00", "2026-01-19 15:36:01,5",
		"0000-01-19 15:36:01", "-2026-01-19 15:36:01", "10000-01-19 15:36:01", "2026-01-19 15:36:01.1234567891", "2026-01-19 15:36:01.5+00:00+00:00",
		"2026-01-19 15:36:01.٣+00:00",
	} {
		for _, write := range []string{
			`INSERT INTO remediation_actions (created_at, server_id, action_type, command, created_by)
				VALUES (?, 'web-1', 'restart_service', 'true', 'dashboard')`,
			`INSERT OR IGNORE INTO remediation_actions (created_at, server_id, action_type, command, created_by)
				VALUES (?, 'web-1', 'restart_service', 'true', 'dashboard')`,
			`INSERT OR REPLACE INTO remediation_actions (created_at, server_id, action_type, command, created_by)
				VALUES (?, 'web-1', 'restart_service', 'true', 'dashboard')`,
			fmt.Sprintf("UPDATE OR IGNORE remediation_actions SET status = 'approved', approved_by = 'alice', approved_at = ? WHERE id = %d",
				ids[remediation.Pending][0]),
			fmt.Sprintf("UPDATE remediation_actions SET status = 'approved', approved_by = 'alice', approved_at = ? WHERE id = %d",
				ids[remediation.Pending][0]),
			insertAt("IGNORE", "not_before"), insertAt("IGNORE", "expires_at"), insertAt("REPLACE", "expires_at"),
			fmt.Sprintf("UPDATE OR IGNORE remediation_actions SET heartbeat_at = ? WHERE id = %d", ids[remediation.Executing][0]),
			fmt.Sprintf("UPDATE OR IGNORE remediation_actions SET cancel_requested_at = ?, cancel_requested_by = 'ann', cancel_reason = 'no' WHERE id = %d",
				ids[remediation.Executing][0]),
		} {
			tx := beginRaw(t, db)
			_, err := tx.Exec(write, at)
			if err == nil || !strings.Contains(err.Error(), "remediation_actions_times") {
				_, listErr := remediation.New(sqlite.Tx(tx)).List(t.Context(), remediation.Filter{})
				t.Errorf("%.6s with the time %#v: %v, want an error that names the rule; List then returned %v", write, at, err, listErr)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOutputOverTheEnginesLimitLeavesTheActionExecuting(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	db := rawPool(t, path, goodPool)
	db.SetMaxOpenConns(1) // the limit belongs to a connection
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	ledger := remediation.New(storeOn(t, db))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	id := walkLifecycle(t, ledger, "web-1", nil)[remediation.Executing][0]
	before := rawContents(t, db)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const limit = 100_000
	_, err = modernc.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, limit)
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []remediation.Result{
		{Stdout: strings.Repeat("x", limit+1)},
		{ExitCode: 1, Stderr: strings.Repeat("x", limit+1)},
		{Stdout: strings.Repeat("x", limit*2/3), Stderr: strings.Repeat("y", limit*2/3)}, // the row is too long, although no value is
	} {
		_, err := ledger.Finish(t.Context(), "web-1", id, r)
		tooBig := (*modernc.Error)(nil)
		if !errors.As(err, &tooBig) || tooBig.Code() != sqlite3.SQLITE_TOOBIG {
			t.Errorf("Finish with %d and %d bytes: %v, want SQLITE_TOOBIG", len(r.Stdout), len(r.Stderr), err)
		}
		if diff := cmp.Diff(before, rawContents(t, db)); diff != "" {
			t.Fatalf("Finish that failed changed rows (-before +after):\n%s", diff)
		}
	}
	kept := strings.Repeat("x", limit*2/3)
	got, err := ledger.Finish(t.Context(), "web-1", id, remediation.Result{Stdout: kept})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != remediation.Completed || *got.Stdout != kept {
		t.Errorf("a shorter result left the action %s with %d bytes", got.Status, len(*got.Stdout))
	}
}

// Goroutines of the host program and a second store may write in the same transaction at the same time.
func TestRefusedCallsUndoNothingElseInTheTransaction(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	rawExec(t, db, "CREATE TABLE hub_log (line TEXT)")
	tx := beginRaw(t, db)
	const lines = 2000
	var writers, callers sync.WaitGroup
	done := make(chan struct{})
	writers.Go(func() {
		for i := range lines {
			if _, err := tx.Exec("INSERT INTO hub_log (line) VALUES (?)", i); err != nil {
				t.Error(err)
			}
		}
	})
	var created atomic.Int64
	for range 2 {
		ledger := remediation.New(sqlite.Tx(tx))
		callers.Go(func() {
			for running := true; running; {
				select {
				case <-done:
					running = false
				default:
				}
				if _, err := ledger.Create(t.Context(), restart("true")); err != nil {
					t.Error(err)
				}
				created.Add(1)
				if _, err := ledger.Approve(t.Context(), 1, "alice"); !errors.Is(err, remediation.ErrInvalidTransition) {
					t.Errorf("Approve: %v", err)
				}
				// A rule of the database refuses this statement.
				if _, err := tx.Exec("UPDATE remediation_actions SET command = 'rm -rf /' WHERE id = 1"); err == nil {
					t.Error("the command was changed")
				}
			}
		})
	}
	writers.Wait()
	close(done)
	callers.Wait()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	want := []string{strconv.Itoa(lines), strconv.FormatInt(created.Load(), 10)}
	got := append(rawColumn(t, db, "SELECT count(*) FROM hub_log"), rawColumn(t, db, "SELECT count(*) FROM remediation_actions")...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines and actions after the commit (-want +got):\n%s", diff)
	}
}

// The rules refuse invalid values in servers. A value that predates the rules means that the server is paused since an
// unknown time.
func TestInvalidServersAreRefusedAndOldOnesArePaused(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	db := rawPool(t, path, goodPool)
	for _, set := range []string{"is_paused = 'yes'", "is_paused = 2", "is_paused = x''", "paused_at = 'yesterday'", "paused_at = 2461060.5",
		"paused_at = x''", "paused_at = '2026-01-19 15:36:01.+00:00'", "paused_at = '2026-01-19 15:36:01' || char(0)", "id = x'61'",
		"id = 'a' || char(0)", "paused_at = 'now'"} {
		if _, err := db.Exec("UPDATE servers SET " + set); err == nil || !strings.Contains(err.Error(), "servers_types") {
			t.Errorf("SET %s: %v, want an error that names the rule", set, err)
		}
	}
	for _, values := range []string{"(x'61', 0, NULL)", "('a', 'yes', NULL)", "('a', 1, 'yesterday')"} {
		if _, err := db.Exec("INSERT INTO servers (id, is_paused, paused_at) VALUES " + values); err == nil {
			t.Errorf("VALUES %s was accepted", values)
		}
	}
	for _, set := range []string{"is_paused = 'yes', paused_at = 'yesterday'", "is_paused = 2, paused_at = 2461060.5"} {
		a, err := ledger.Create(t.Context(), restart("true"))
		wantDone(t, err)
		withoutTriggers(t, db, "name = 'servers_types_update'", func() { rawExec(t, db, "UPDATE servers SET "+set) })
		wantDone(t, ledger.Pause(t.Context(), "web-1"))
		e, err := ledger.Explain(t.Context(), a.ID)
		if err != nil || e.Reason != remediation.ReasonMaintenance || !e.Since.IsZero() {
			t.Errorf("after SET %s: %s, %v", set, e, err)
		}
		if _, err := ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
			t.Errorf("after SET %s: %v", set, err)
		}
		wantDone(t, ledger.Unpause(t.Context(), "web-1"))
		wantDone(t, ledger.Unpause(t.Context(), "web-1"))
	}
}
