package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/conformance"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// This file runs the conformance tests of all engines on SQLite, and tests the rules against statements that only
// SQLite has.

// shellDSN has the parameters that a person at a shell needs to set.
const shellDSN = "_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)"

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Database {
		path := ledgerFile(t)
		// Under the race detector on few cores, a call may wait for the lock for seconds.
		longTimeout := sqlite.WithBusyTimeout(time.Minute)
		store := openMigrated(t, path, longTimeout)
		immediate := rawPool(t, path, shellDSN+"&_txlock=immediate")
		raw := rawPool(t, path, shellDSN)
		return conformance.Database{
			Untyped: true,
			Store:   store,
			Raw:     raw,
			Begin:   func(t *testing.T) conformance.Tx { return begin(t, immediate) },
			Another: func(t *testing.T) remediation.Store { return openLedger(t, path, longTimeout) },
			BeforeRules: func(t *testing.T, write func()) {
				withoutTriggers(t, raw, "tbl_name IN ('remediation_actions', 'servers')", write)
			},
		}
	})
}

// begin begins a transaction. It is rolled back if the test ends early.
func begin(t *testing.T, db *sql.DB) conformance.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() }) // returns sql.ErrTxDone if the test has ended the transaction
	return conformance.Tx{Store: sqlite.Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}
}

// These statements exist only in SQLite, or only SQLite accepts their values.
func TestSQLiteStatementsCannotBypassTheRules(t *testing.T) {
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
	const other = "INSERT INTO remediation_actions (id, server_id, action_type, command, created_at, created_by) " +
		"VALUES (%s, 'web-1', 'reboot', 'reboot', %s, 'mallory')"
	const result = "UPDATE remediation_actions SET status = 'executing', executed_at = created_at; " +
		"UPDATE remediation_actions SET status = 'failed', completed_at = created_at, exit_code = "
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
		"UPDATE remediation_actions SET status = 'executing', executed_at = 'now'", // would change at each read
		"UPDATE remediation_actions SET status = 'executing', executed_at = 2461368.5",
		"UPDATE remediation_actions SET status = 'executing', executed_at = unixepoch()",
		"UPDATE remediation_actions SET status = 'executing', executed_at = CAST('2026-11-23 12:00:00+00:00' AS BLOB)",
		"UPDATE remediation_actions SET status = CAST('rejected' AS BLOB), rejected_at = created_at, " +
			"rejected_by = 'bob', rejection_reason = 'no'",
		// A BEFORE INSERT trigger sees the id -1 in a row that has no id yet.
		fmt.Sprintf(other, "-1", noon),
		fmt.Sprintf(other, "0", noon),
		"INSERT INTO remediation_events (id, action_id, server_id, kind, occurred_at) VALUES (-1, 1, 'web-1', 'created', 'now')",
		result + "'abc'",
		result + "1.5",
		result + "1e20",
		result + "x'01'",
	} {
		tx, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), query); err == nil {
			t.Errorf("%s was accepted", query)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
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

// INSERT and UPDATE refuse text that is not a time, or that does not sort as a time among the others.
func TestEveryTimeColumnRefusesTextThatDoesNotSort(t *testing.T) {
	path := ledgerFile(t)
	serverStore(t, path)
	raw := rawPool(t, path, shellDSN)
	refused := func(query string) {
		t.Helper()
		tx, err := raw.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), query); err == nil {
			t.Errorf("%s was accepted", query)
		}
	}
	insert := func(status, columns, values string) string {
		return "INSERT INTO remediation_actions (server_id, action_type, command, created_by, status" + columns +
			") VALUES ('web-1', 'reboot', 'reboot', 'ann', '" + status + "'" + values + ")"
	}
	const approved, approval = ", created_at, approved_by, approved_at", ", " + noon + ", 'bob', " + noon
	for _, c := range []struct {
		column, status, others, values string
		before, change                 string // for an UPDATE: inserts the row, and sets the other columns
	}{
		{column: "created_at", status: "pending"},
		{"approved_at", "approved", ", created_at, approved_by", ", " + noon + ", 'bob'",
			insert("pending", ", created_at", ", "+noon), "status = 'approved', approved_by = 'bob'"},
		{"rejected_at", "rejected", ", created_at, rejected_by, rejection_reason", ", " + noon + ", 'eve', 'no'",
			insert("pending", ", created_at", ", "+noon), "status = 'rejected', rejected_by = 'eve', rejection_reason = 'no'"},
		{"executed_at", "executing", approved, approval,
			insert("approved", approved, approval), "status = 'executing'"},
		{"completed_at", "completed", approved + ", executed_at, exit_code", approval + ", " + noon + ", 0",
			insert("executing", approved+", executed_at", approval+", "+noon), "status = 'completed', exit_code = 0"},
	} {
		with := func(value string) string { return insert(c.status, c.others+", "+c.column, c.values+", "+value) }
		rawExec(t, raw, with(noon)+"; "+with("'2026-11-23 12:00:00.5'"))
		rawExec(t, raw, "DELETE FROM remediation_actions; "+c.before)
		update := func(value string) string {
			return "UPDATE remediation_actions SET " + c.change + ", " + c.column + " = " + value
		}
		for _, value := range []string{
			"CAST(" + noon + " AS BLOB)", "'2026-11-23 12:00:00.'", "'2026-11-23 12:00:00+02:00'", "'2026-11-23 12:00:00.5+02:00'",
			"'2026-11-23 12:00:00x'", "'2026-11-23 12:00:00 '", "'2026-02-31 12:00:00'", "'2026-11-23 24:00:00'",
			"'2026-11-23T12:00:00'", "'noon'", "2461368.5",
		} {
			refused(with(value))
			if c.change != "" {
				refused(update(value))
			}
		}
		if c.change != "" {
			rawExec(t, raw, update(noon))
		}
	}
}

const noon = "'2026-11-23 12:00:00+00:00'"
