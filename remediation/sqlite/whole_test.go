package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests check that a call is committed completely or not at all, in spite of rows that predate the rules,
// triggers of the host program, a replaced file, and contexts that end.

// openers has the constructors whose stores commit each call by itself.
var openers = map[string]func(t *testing.T, path string) remediation.Store{
	"Open": func(t *testing.T, path string) remediation.Store { return openLedger(t, path) },
	"New":  func(t *testing.T, path string) remediation.Store { return storeOn(t, rawPool(t, path, goodPool)) },
}

// eachOpener runs a test with every opener, on a ledger with the server "web-1". raw is another pool on the same
// database.
func eachOpener(t *testing.T, test func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB)) {
	t.Parallel()
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			serverStore(t, path)
			test(t, remediation.New(open(t, path)), rawPool(t, path, goodPool))
		})
	}
}

func restart(command string) remediation.NewAction {
	return remediation.NewAction{ServerID: "web-1", ActionType: "restart_service", Command: command, CreatedBy: "ann"}
}

// statuses selects the id and status of every action.
const statuses = "SELECT id || ' ' || status FROM remediation_actions ORDER BY id"

// Rows that predate the rules may have values in time columns that can't be read as a time. Calls never change such
// rows, and calls for other rows succeed.
func TestRowWithAnUnreadableTimeStaysUnchangedAndBlocksNoOthers(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		const fine = "'2026-11-23 12:00:00+00:00'"
		rule := rawColumn(t, raw, "SELECT sql FROM sqlite_master WHERE name = 'remediation_events_append_only_insert'")[0]
		wantDone(t, ledger.AddServer(t.Context(), "web-2"))
		rawExec(t, raw, "DROP TRIGGER remediation_events_append_only_insert")
		insert := func(status, created, approved, executed, by string) {
			server := "web-1"
			if status == "executing" {
				server = "web-2" // so that Explain finds no executing action on web-1
			}
			rawExec(t, raw, `INSERT INTO remediation_actions (server_id, action_type, command, created_by, status, created_at,
				approved_at, executed_at, approved_by) VALUES (?, 'reboot', 'reboot', 'ann', ?, `+
				created+","+approved+","+executed+","+by+")", server, status)
		}
		for _, unreadable := range []string{"1700000000", "'yesterday'", "2461060.5", "''", "'2026-01-19 15:36:01.+00:00'",
			"'2026-02-30 12:00:00'", "'2026-01-19 24:00:00'", "x'323032362d30312d31392031353a33363a3031'", "'now'"} {
			insert("pending", unreadable, "NULL", "NULL", "NULL")
			insert("approved", unreadable, fine, "NULL", "'bob'")
			insert("approved", fine, unreadable, "NULL", "'bob'")
			insert("executing", unreadable, fine, fine, "'bob'")
			insert("executing", fine, unreadable, fine, "'bob'")
			insert("executing", fine, fine, unreadable, "'bob'")
		}
		rawExec(t, raw, rule)
		before := rawColumn(t, raw, statuses)

		for id := range int64(len(before)) {
			id++
			_, approveErr := ledger.Approve(t.Context(), id, "bob")
			_, startErr := ledger.Start(t.Context(), id)
			_, finishErr := ledger.Finish(t.Context(), "web-2", id, remediation.Result{})
			if !errors.Is(approveErr, remediation.ErrInvalidTransition) || !errors.Is(startErr, remediation.ErrInvalidTransition) ||
				finishErr == nil {
				t.Errorf("action %s: Approve %v, Start %v, Finish %v, want refusals", before[id-1], approveErr, startErr, finishErr)
			}
		}
		if diff := cmp.Diff(before, rawColumn(t, raw, statuses)); diff != "" {
			t.Fatalf("a failed call changed a status (-before +after):\n%s", diff)
		}

		insert("pending", fine, "NULL", "NULL", "NULL")
		insert("pending", fine, "NULL", "NULL", "NULL")
		insert("approved", fine, fine, "NULL", "'bob'")
		insert("executing", fine, fine, fine, "'bob'")
		good := int64(len(before))
		for id, decide := range map[int64]func(ids []int64) ([]remediation.Outcome, error){
			good + 1: func(ids []int64) ([]remediation.Outcome, error) { return ledger.ApproveMany(t.Context(), ids, "bob") },
			good + 2: func(ids []int64) ([]remediation.Outcome, error) {
				return ledger.RejectMany(t.Context(), ids, "bob", "no")
			},
		} {
			outcomes, err := decide([]int64{1, id})
			if err != nil || outcomes[0].Err == nil || outcomes[1].Err != nil {
				t.Errorf("a decision about an unreadable row and a readable one: %+v, %v", outcomes, err)
			}
		}
		for _, id := range []int64{good + 1, good + 3} {
			if e, err := ledger.Explain(t.Context(), id); err != nil || e.Reason != remediation.ReasonUnclaimed {
				t.Errorf("Explain: %s, %v", e, err)
			}
			a, err := ledger.Claim(t.Context(), "web-1")
			if err != nil || a.ID != id {
				t.Errorf("Claim: %d, %v, want %d", a.ID, err, id)
			}
			_, err = ledger.Finish(t.Context(), "web-1", id, remediation.Result{})
			wantDone(t, err)
		}
		if _, err := ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
			t.Errorf("Claim of unreadable rows: %v", err)
		}
		for _, f := range []remediation.Filter{{}, {ServerID: "web-1"}, {Status: remediation.Executing}, {ActionType: "reboot"},
			{ServerID: "web-2", Status: remediation.Executing}} {
			list, err := ledger.List(t.Context(), f)
			if err != nil || len(list) == 0 {
				t.Errorf("List of %+v: %d actions, %v", f, len(list), err)
			}
			for _, a := range list {
				if a.ID <= int64(len(before)) {
					t.Errorf("List of %+v has the unreadable action %d", f, a.ID)
				}
			}
		}
		for id, reason := range map[int64]remediation.Reason{1: remediation.ReasonNoApproval, 2: remediation.ReasonNoApproval,
			3: remediation.ReasonNoApproval, 4: remediation.ReasonExecuting} {
			if e, err := ledger.Explain(t.Context(), id); err != nil || e.Reason != reason || !e.Since.IsZero() {
				t.Errorf("Explain of the unreadable action %d: %s, %v", id, e, err)
			}
		}
		late := remediation.New(storeOn(t, raw), remediation.WithClock(func() time.Time { return time.Now().AddDate(1, 0, 0) }))
		closed, err := late.FailOverdue(t.Context(), time.Hour, 100)
		if err != nil || len(closed) != 1 || closed[0].ID != good+4 {
			t.Errorf("FailOverdue: %v, %v, want %d", closed, err, good+4)
		}
		if diff := cmp.Diff(before, rawColumn(t, raw, statuses)[:len(before)]); diff != "" {
			t.Errorf("statuses of the unreadable rows (-before +after):\n%s", diff)
		}
	})
}

// SQLite sorts numbers before text, so a number in a time column would count as the oldest time.
func TestPruneKeepsRowsWithoutAValidTime(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		rule := rawColumn(t, raw, "SELECT sql FROM sqlite_master WHERE name = 'remediation_events_append_only_insert'")[0]
		rawExec(t, raw, "DROP TRIGGER remediation_events_append_only_insert")
		rawExec(t, raw, `INSERT INTO remediation_actions (server_id, action_type, command, created_by, status, created_at,
			approved_at, executed_at, approved_by, completed_at, exit_code, stdout)
			SELECT 'web-1', 'reboot', 'reboot', 'ann', 'completed', at, at, at, 'bob', at, 0, 'done'
			FROM (SELECT 1700000000 AS at UNION ALL SELECT '2020-11-23 12:00:00+00:00')`)
		rawExec(t, raw, rule)
		before := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
		if n, err := ledger.ClearOutput(t.Context(), before, 10); err != nil || n != 1 {
			t.Errorf("cleared %d, %v, want 1", n, err)
		}
		if n, err := ledger.Prune(t.Context(), before, 10); err != nil || n != 1 {
			t.Errorf("deleted %d, %v, want 1", n, err)
		}
	})
}

// In a trigger of the host program, FAIL keeps what the failed statement has changed so far, and ROLLBACK undoes the
// whole transaction.
func TestTriggerThatFailsOrRollsBackFailsOnlyItsCall(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		for how, when := range map[string]string{"FAIL": "AFTER", "ROLLBACK": "AFTER", "ABORT": "BEFORE"} {
			rawExec(t, raw, fmt.Sprintf(`CREATE TRIGGER mine_%[1]s %[2]s UPDATE OF status ON remediation_actions
				WHEN NEW.command = '%[1]s' BEGIN SELECT RAISE(%[1]s, 'mine'); END`, how, when))
			var wg sync.WaitGroup
			for i := range 16 { // some of them share a commit
				wg.Go(func() {
					command := "true"
					if i%4 == 0 {
						command = how
					}
					a, err := ledger.Create(t.Context(), restart(command))
					if err != nil {
						t.Error(err)
						return
					}
					_, err = ledger.Start(t.Context(), a.ID)
					if (err == nil) != (command == "true") {
						t.Errorf("Start of %q with %s: %v", command, how, err)
					}
				})
			}
			wg.Wait()
			want := []string{"approved " + how + " 4", "executing true 12"}
			got := rawColumn(t, raw, "SELECT status || ' ' || command || ' ' || count(*) FROM remediation_actions GROUP BY status, command")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with %s (-want +got):\n%s", how, diff)
			}
			rawExec(t, raw, "DELETE FROM remediation_actions")
		}
	})
}

// A deferred foreign key of the host program fails the commit, which other calls share.
func TestForeignKeyThatFailsTheCommitFailsOnlyItsCall(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		a, err := ledger.Create(t.Context(), restart("kept"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Withdraw(t.Context(), a.ID, "bob", "no"); err != nil {
			t.Fatal(err)
		}
		rawExec(t, raw, `CREATE TABLE mine (action_id INTEGER REFERENCES remediation_actions (id) DEFERRABLE INITIALLY DEFERRED);
			INSERT INTO mine VALUES (1)`)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, err := ledger.Create(t.Context(), restart("true")); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := ledger.Prune(t.Context(), time.Now().AddDate(1, 0, 0), 1); err == nil {
					t.Error("Prune deleted an action that another table references")
				}
			})
		}
		wg.Wait()
		if got := rawColumn(t, raw, "SELECT count(*) FROM remediation_actions"); got[0] != "17" {
			t.Errorf("%s actions, want 17", got[0])
		}
	})
}

// SQLite runs its automatic checkpoint after a COMMIT statement. It does not when a statement with RETURNING commits
// because its rows are closed.
func TestSequentialCallsDoNotLetTheWALGrow(t *testing.T) {
	notShort(t)
	t.Parallel()
	for name, open := range openers {
		path := ledgerFile(t)
		serverStore(t, path)
		ledger := remediation.New(open(t, path))
		for range 800 {
			if _, err := ledger.Create(t.Context(), restart("true")); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > 10<<20 {
			t.Errorf("%s: the WAL has %d bytes, %v", name, info.Size(), err)
		}
	}
}

// A restore from a backup replaces the file while calls wait for the lock.
func TestCallsReturnErrFileGoneIfTheFileIsReplacedWhileTheyWait(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path, sqlite.WithBusyTimeout(time.Minute)))
	writer := holdWriteLock(t, path)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			_, err := ledger.Create(t.Context(), restart("true"))
			errs <- err
		}()
	}
	if err := errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	writer.release(t)
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, sqlite.ErrFileGone) {
			t.Errorf("a call that waited while the file was replaced: %v, want ErrFileGone", err)
		}
	}
	if _, err := ledger.List(t.Context(), remediation.Filter{}); !errors.Is(err, sqlite.ErrFileGone) {
		t.Errorf("List: %v, want ErrFileGone", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if actions, err := ledger.List(t.Context(), remediation.Filter{}); err != nil || len(actions) != 0 {
		t.Errorf("after the file was put back: %v, %v", actions, err)
	}
}

// After SQLite has rolled back the caller's transaction by itself, it would commit each later statement as it runs.
func TestTxThatSQLiteRolledBackRefusesChanges(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	raw := rawPool(t, path, goodPool)
	rawExec(t, raw, `CREATE TRIGGER mine BEFORE INSERT ON remediation_actions WHEN NEW.command = 'no'
		BEGIN SELECT RAISE(ROLLBACK, 'mine'); END`)
	tx := beginRaw(t, raw)
	ledger := remediation.New(sqlite.Tx(tx))
	if _, err := ledger.Create(t.Context(), restart("before")); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Create(t.Context(), restart("no")); err == nil {
		t.Fatal("the trigger did not refuse the action")
	}
	for range 2 {
		if _, err := ledger.Create(t.Context(), restart("after")); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("after it was rolled back: %v, want ErrTxDone", err)
		}
	}
	if err := tx.Commit(); err == nil {
		t.Error("Commit of the rolled back transaction returned no error")
	}
	if got := rawColumn(t, raw, statuses); len(got) > 0 {
		t.Errorf("actions %v, want none", got)
	}
}

// If a context interrupted a write, SQLite would roll back the caller's whole transaction.
func TestContextThatEndsDoesNotRollBackTheCallersTransaction(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	raw := rawPool(t, path, goodPool)
	var ids []int64
	committed := remediation.New(storeOn(t, raw))
	for range 1000 {
		a, err := committed.Create(t.Context(), restart("true"))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
		if len(ids) == 1 {
			rawExec(t, raw, "UPDATE servers SET is_paused = TRUE")
		}
	}
	for i := range 40 {
		tx := beginRaw(t, raw)
		ledger := remediation.New(sqlite.Tx(tx))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond/2)
		_, _ = ledger.ApproveMany(ctx, ids, "bob")
		cancel()
		if _, err := ledger.Create(t.Context(), restart("true")); err != nil {
			t.Errorf("Create after a context ended: %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Errorf("the transaction had ended: %v", err)
		}
	}
	if got := rawColumn(t, raw, "SELECT count(*) FROM remediation_actions WHERE status = 'pending'"); got[0] != "999" {
		t.Errorf("%s actions are pending, want 999", got[0])
	}
}
