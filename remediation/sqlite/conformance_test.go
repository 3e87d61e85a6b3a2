package sqlite_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/conformance"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// shellDSN is what a person at a shell needs, and no more.
const shellDSN = "_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Database {
		path := ledgerFile(t)
		store := openMigrated(t, path)
		immediate := rawPool(t, path, shellDSN+"&_txlock=immediate")
		return conformance.Database{
			Store:   store,
			Raw:     rawPool(t, path, shellDSN),
			Begin:   func(t *testing.T) conformance.Tx { return begin(t, immediate) },
			Another: func(t *testing.T) remediation.Store { return openLedger(t, path) },
		}
	})
}

// begin begins a transaction, which is rolled back should the test end early.
func begin(t *testing.T, db *sql.DB) conformance.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() }) // sql.ErrTxDone after a test that went well
	return conformance.Tx{Store: sqlite.Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}
}

// What only SQLite's dialect can try against the rules.
func TestDialectFindsNoWayAroundTheRules(t *testing.T) {
	path := ledgerFile(t)
	ledger := remediation.New(openMigrated(t, path))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	want, err := ledger.Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "reboot", Command: "reboot", CreatedBy: "ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	raw := rawPool(t, path, shellDSN)
	const row = ` INTO remediation_actions (id, server_id, action_type, command, created_at, created_by)
		VALUES (1, 'web-1', 'reboot', 'rm -rf /', '2026-11-23 12:00:00+00:00', 'mallory')`
	for _, query := range []string{
		"REPLACE" + row,
		"INSERT OR REPLACE" + row,
		"INSERT OR IGNORE" + row,
		"UPDATE OR REPLACE remediation_actions SET command = 'rm -rf /'",
		"UPDATE OR IGNORE remediation_actions SET command = 'rm -rf /'",
		"UPDATE remediation_actions SET rowid = 7",
		"UPDATE remediation_actions SET _rowid_ = 7",
		"UPDATE remediation_actions SET oid = 7",
		"UPDATE remediation_actions SET command = CAST(command AS BLOB)",
		"UPDATE remediation_actions SET created_at = 1",
		"UPDATE remediation_actions SET status = 'executing', executed_at = 'now'", // would be another time at each look
		"UPDATE remediation_actions SET status = 'executing', executed_at = 2461368.5",
		"UPDATE remediation_actions SET status = 'executing', executed_at = unixepoch()",
		"UPDATE remediation_actions SET status = 'executing', executed_at = CAST('2026-11-23 12:00:00+00:00' AS BLOB)",
		"UPDATE remediation_actions SET status = CAST('rejected' AS BLOB), rejected_at = created_at, " +
			"rejected_by = 'bob', rejection_reason = 'no'",
	} {
		if _, err := raw.ExecContext(t.Context(), query); err == nil {
			t.Errorf("%s was accepted", query)
		}
		got, err := ledger.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", query, diff)
		}
	}
}

// oldAudit is what an older program may have left in any status.
var oldAudit = map[string]string{
	"approved_at": "'2020-01-01 00:00:00+00:00'", "approved_by": "'old'",
	"rejected_at": "'2020-01-01 00:00:00+00:00'", "rejected_by": "'old'", "rejection_reason": "'old'",
	"executed_at": "'2020-01-01 00:00:00+00:00'", "completed_at": "'2020-01-01 00:00:00+00:00'",
	"exit_code": "77", "stdout": "'old'", "stderr": "'old'",
}

// newAudit is what a change to the status must leave; what is missing, NULL.
var newAudit = map[remediation.Status]map[string]string{
	remediation.Pending:   {},
	remediation.Approved:  {"approved_at": noon, "approved_by": "'bob'"},
	remediation.Rejected:  {"rejected_at": noon, "rejected_by": "'carol'", "rejection_reason": "'no'"},
	remediation.Executing: {"approved_at": noon, "approved_by": "'bob'", "executed_at": noon},
	remediation.Completed: {"approved_at": noon, "approved_by": "'bob'", "executed_at": noon,
		"completed_at": noon, "exit_code": "0"},
	remediation.Failed: {"approved_at": noon, "approved_by": "'bob'", "executed_at": noon,
		"completed_at": noon, "exit_code": "1"},
}

const noon = "'2026-11-23 12:00:00+00:00'"

// For a row from before the rules, one that lacks its audit fields or has some of a later status, no rule stands in for
// another: each must hold by itself.
func TestAC1_AC4_OldRowsFollowTheSameRules(t *testing.T) {
	path := ledgerFile(t)
	if err := remediation.New(openMigrated(t, path)).AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	raw := rawPool(t, path, shellDSN)
	rawExec(t, raw, "DROP TRIGGER remediation_actions_consistent_insert") // as if the rows were there before it
	change := func(from, to remediation.Status, old string) error {
		columns, values := "", ""
		if old != "" {
			columns, values = ", "+old, ", "+oldAudit[old]
		}
		rawExec(t, raw, "DELETE FROM remediation_actions")
		rawExec(t, raw, "INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by"+columns+
			") VALUES ('web-1', 'reboot', '"+string(from)+"', 'reboot', "+noon+", 'ann'"+values+")")
		set := "status = '" + string(to) + "'"
		for c := range oldAudit {
			if value, ok := newAudit[to][c]; ok {
				set += ", " + c + " = " + value
			} else {
				set += ", " + c + " = NULL"
			}
		}
		_, err := raw.ExecContext(t.Context(), "UPDATE remediation_actions SET "+set)
		return err
	}
	for _, from := range remediation.Statuses() {
		for _, to := range remediation.Statuses() {
			if err := change(from, to, ""); (err == nil) != from.CanTransition(to) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			for c := range oldAudit {
				if err := change(from, to, c); err == nil {
					t.Errorf("%s to %s overwrites %s", from, to, c)
				}
			}
		}
	}
}
