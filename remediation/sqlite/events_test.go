package sqlite_test

import (
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// eventRow is the end of a statement that inserts an event with the id of an existing one.
const eventRow = ` INTO remediation_events (id, action_id, server_id, kind, occurred_at)
	VALUES (1, 1, 'web-1', 'rejected', '2026-11-23 12:00:00+00:00')`

// REPLACE deletes rows without firing a delete trigger, so no rule could refuse that and no event would record it.
func TestReplaceDeletesNeitherEventsNorActions(t *testing.T) {
	path := ledgerFile(t)
	ledger := remediation.New(openMigrated(t, path))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	kept := mustRead(ledger.Create(t.Context(), remediation.NewAction{
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
		if got, err := ledger.Get(t.Context(), kept.ID); err != nil || got.Command != kept.Command {
			t.Fatalf("after %s: %+v, %v", query, got, err)
		}
		if got := rawColumn(t, raw, "SELECT id || kind || coalesce(detail, '') FROM remediation_events ORDER BY id"); len(got) != len(before) {
			t.Errorf("after %s the events are %v, want %v", query, got, before)
		}
	}
}
