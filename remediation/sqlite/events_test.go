package sqlite_test

import (
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

const eventRow = ` INTO remediation_events (id, action_id, server_id, kind, occurred_at)
	VALUES (1, 1, 'web-1', 'rejected', '2026-11-23 12:00:00+00:00')`

// REPLACE deletes without firing a trigger, so that neither a rule nor the record would see what it takes away.
func TestReplaceTakesNeitherEventsNorActions(t *testing.T) {
	path := ledgerFile(t)
	ledger := remediation.New(openMigrated(t, path))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	held := mustRead(ledger.Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "apt", Command: "apt-get upgrade", CreatedBy: "ann", DedupeKey: new("apt"),
	}))
	raw := rawPool(t, path, shellDSN)
	const keyed = ` INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, dedupe_key)
		VALUES ('web-1', 'apt', 'pending', 'rm -rf /', '2026-11-23 12:00:00+00:00', 'mallory', 'apt')`
	before := rawColumn(t, raw, "SELECT id || kind || coalesce(detail, '') FROM remediation_events ORDER BY id")
	for _, query := range []string{
		"REPLACE" + eventRow,
		"INSERT OR REPLACE" + eventRow,
		"INSERT" + eventRow + " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
		"UPDATE OR REPLACE remediation_events SET id = 1",
		"UPDATE OR IGNORE remediation_events SET kind = 'rejected'",
		"UPDATE remediation_events SET rowid = rowid + 100",
		"REPLACE" + keyed,
		"INSERT OR REPLACE" + keyed,
		"INSERT" + keyed,
	} {
		if _, err := raw.ExecContext(t.Context(), query); err == nil {
			t.Errorf("%s was accepted", query)
		}
		if got, err := ledger.Get(t.Context(), held.ID); err != nil || got.Command != held.Command {
			t.Fatalf("after %s: %+v, %v", query, got, err)
		}
		if got := rawColumn(t, raw, "SELECT id || kind || coalesce(detail, '') FROM remediation_events ORDER BY id"); len(got) != len(before) {
			t.Errorf("after %s the events are %v, want %v", query, got, before)
		}
	}
}

const oldRow = `INSERT INTO remediation_actions (server_id, action_type, command, created_at, created_by, status,
	approved_at, approved_by, rejected_at, rejected_by, executed_at, completed_at, exit_code) VALUES ('web-1', 'reboot', 'reboot',
	'2026-01-01 12:00:00+00:00', 'ann', `

// What an older program left executing in a shape that no rule lets it close must not keep the others from being closed.
func TestSweepPassesOverOldRowsThatItCantClose(t *testing.T) {
	const at = "'2026-01-01 12:00:00+00:00'"
	for name, rest := range map[string]string{
		"nobody approved":     "'executing', NULL, NULL, NULL, NULL, " + at + ", NULL, NULL)",
		"no name approved":    "'executing', " + at + ", '', NULL, NULL, " + at + ", NULL, NULL)",
		"also rejected":       "'executing', " + at + ", 'bob', " + at + ", 'eve', " + at + ", NULL, NULL)",
		"with an exit code":   "'executing', " + at + ", 'bob', NULL, NULL, " + at + ", NULL, 0)",
		"completed somewhere": "'executing', " + at + ", 'bob', NULL, NULL, " + at + ", " + at + ", NULL)",
	} {
		t.Run(name, func(t *testing.T) {
			path := ledgerFile(t)
			ledger := remediation.New(openMigrated(t, path))
			if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			raw := rawPool(t, path, shellDSN)
			rawExec(t, raw, "DROP TRIGGER remediation_actions_consistent_insert") // as if the row were there before it
			rawExec(t, raw, oldRow+rest)
			rawExec(t, raw, oldRow+"'executing', "+at+", 'bob', NULL, NULL, "+at+", NULL, NULL)")
			closed, err := ledger.FailOverdue(t.Context(), time.Hour, 10)
			if err != nil || len(closed) != 1 || closed[0].ID != 2 {
				t.Errorf("closed %v, %v; want the second action", closed, err)
			}
		})
	}
}

// Claim passes over what nobody approved, so nothing waits behind it.
func TestExplainPassesOverOldRowsThatNobodyApproved(t *testing.T) {
	for name, approval := range map[string]string{
		"nobody":  "NULL, NULL",
		"no name": "'2026-01-01 12:00:00+00:00', ''",
	} {
		t.Run(name, func(t *testing.T) {
			path := ledgerFile(t)
			ledger := remediation.New(openMigrated(t, path))
			if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			raw := rawPool(t, path, shellDSN)
			rawExec(t, raw, "DROP TRIGGER remediation_actions_consistent_insert")
			rawExec(t, raw, oldRow+"'approved', "+approval+", NULL, NULL, NULL, NULL, NULL)")
			next := mustRead(ledger.Create(t.Context(), remediation.NewAction{
				ServerID: "web-1", ActionType: "reboot", Command: "reboot", CreatedBy: "ann",
			}))
			if e := mustRead(ledger.Explain(t.Context(), 1)); e.Reason != remediation.ReasonNoApproval {
				t.Errorf("the old one: %+v", e)
			}
			if e := mustRead(ledger.Explain(t.Context(), next.ID)); e.Reason != remediation.ReasonUnclaimed || e.Behind != 0 {
				t.Errorf("the next one: %s (%+v)", e, e)
			}
			if a := mustRead(ledger.Claim(t.Context(), "web-1")); a.ID != next.ID {
				t.Errorf("claimed %d", a.ID)
			}
		})
	}
}
