package sqlite_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests check the events that Migrate writes for actions that are older than the events table.

// eventLines selects all events in order, each as one line of text without its id.
const eventLines = `SELECT concat_ws(' | ', action_id, server_id, kind, coalesce(actor, 'NULL'), occurred_at, coalesce(detail, 'NULL')) AS line
	FROM remediation_events ORDER BY id`

func TestMigrateWritesTheEventsOfExistingRows(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	fillLegacy(t, path, 4)
	db := rawPool(t, path, goodPool)
	rawExec(t, db, `INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by,
			approved_at, approved_by, executed_at, completed_at, exit_code, stdout) VALUES
		(21, 'nas', 'clear_logs', 'pending', 'true', '2026-01-22 00:00:00', 'dashboard', NULL, 'alice', NULL, NULL, NULL, NULL),
		(22, 'nas', 'clear_logs', 'approved', 'true', '2026-01-22 00:00:01', 'dashboard', NULL, 'alice', NULL, NULL, NULL, NULL),
		(23, 'nas', 'clear_logs', 'executing', 'true', '2026-01-22 00:00:02', 'dashboard', '2026-01-22 00:00:02', 'auto',
			'2026-01-22 00:00:03', '2026-01-22 00:00:04', 0, 'done'),
		(24, 'nas', 'clear_logs', 'cancelled', 'true', '2026-01-22 00:00:02', 'dashboard', '2026-01-22 00:00:02', 'bob',
			'2026-01-22 00:00:07', '2026-01-22 00:00:08', 1, NULL)`)
	openMigrated(t, path)
	want := []string{
		"1 | web-1 | created | dashboard | 2026-01-19 15:36:01.617957 | systemctl restart nginx",
		"2 | web-1 | created | dashboard | 2026-01-19 15:36:02 | true",
		"3 | nas | created | dashboard | 2026-01-19 15:36:03.000001 | true",
		"4 | nas | created | dashboard | 2026-01-19 15:36:04.5 | echo 'é☃'",
		"5 | nas | created | NULL | 2026-01-19 15:36:05 | NULL",
		"11 | web-1 | created | dashboard | 2026-01-20 00:00:00.000001 | true",
		"11 | web-1 | approved | auto | 2026-01-20 00:00:00.000001 | NULL",
		"12 | web-1 | created | dashboard | 2026-01-20 00:00:01 | true",
		"12 | web-1 | rejected | alice | 2026-01-20 00:00:02 | NULL",
		"13 | web-1 | created | dashboard | 2026-01-20 00:00:03 | true",
		"13 | web-1 | executing | web-1 | 2026-01-20 00:00:04.617957 | NULL",
		"14 | web-1 | created | dashboard | 2026-01-20 00:00:05 | true",
		"14 | web-1 | approved | alice | 2026-01-20 00:00:06 | NULL",
		"14 | web-1 | executing | web-1 | 2026-01-20 00:00:07 | NULL",
		"14 | web-1 | completed | web-1 | 2026-01-20 00:00:08 | 3",
		"15 | web-1 | created | dashboard | 2026-01-20 00:00:09 | true",
		"15 | web-1 | failed | web-1 | 2026-01-20 00:00:10.25 | 1",
		"21 | nas | created | dashboard | 2026-01-22 00:00:00 | true",
		"22 | nas | created | dashboard | 2026-01-22 00:00:01 | true",
		"23 | nas | created | dashboard | 2026-01-22 00:00:02 | true",
		"23 | nas | approved | auto | 2026-01-22 00:00:02 | NULL",
		"24 | nas | created | dashboard | 2026-01-22 00:00:02 | true",
		"24 | nas | approved | bob | 2026-01-22 00:00:02 | NULL",
		"23 | nas | executing | nas | 2026-01-22 00:00:03 | NULL",
		"24 | nas | executing | nas | 2026-01-22 00:00:07 | NULL",
	}
	if diff := cmp.Diff(want, rawColumn(t, db, eventLines)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"25"}, rawColumn(t, db, "SELECT max(id) FROM remediation_events")); diff != "" {
		t.Errorf("the last id (-want +got):\n%s", diff)
	}
}

// A migration down deletes the events. Migrate writes the same events again from the rows.
func TestMigrateWritesTheSameEventsAsTheTriggers(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	for range 3 {
		walkLifecycle(t, ledger, "web-1", nil)
		_, err := ledger.Claim(t.Context(), "web-1") // walkLifecycle needs a server without approved actions
		wantDone(t, err)
	}
	_, err := ledger.FailOverdue(t.Context(), 1, 2)
	wantDone(t, err)

	db := rawPool(t, path, goodPool)
	const all = `SELECT id || ' | ' || line FROM (SELECT id, concat_ws(' | ', action_id, server_id, kind, coalesce(actor, 'NULL'),
		occurred_at, coalesce(detail, 'NULL')) AS line FROM remediation_events ORDER BY id)`
	before := rawColumn(t, db, all)
	stepAPI(t, path, 6-newestVersion(t))
	wantDone(t, sqlite.Migrate(t.Context(), db))
	if diff := cmp.Diff(before, rawColumn(t, db, all)); diff != "" {
		t.Errorf("events after down and up (-before +after):\n%s", diff)
	}
}

// An older program may have stored any value. Migrate writes no event with a value that an event can't have, and does
// not fail.
func TestMigrateLeavesOutEventsWithInvalidValues(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	fillLegacy(t, path, 1)
	stepAPI(t, path, 3)
	db := rawPool(t, path, goodPool)
	invalid := []string{"1700000000", "2461060.5", "''", "'yesterday'", "'now'", "'2026-01-19'", "'2026-01-19 15:36'",
		"'2026-01-19T15:36:01'", "'2026-01-19 15:36:01Z'", "'2026-01-19 15:36:01+02:00'", "'2026-01-19 15:36:01.'",
		"'2026-01-19 15:36:01.+00:00'", "'2026-01-19 15:36:01.1234567890'", "'2026-02-30 12:00:00'", "'2026-01-19 24:00:00'",
		"'0000-12-31 23:59:59'", "'-001-01-19 15:36:01'", "'2026-01-19 15:36:01' || char(0)", "x'323032362d30312d31392031353a33363a3031'"}
	for _, at := range invalid {
		rawExec(t, db, `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by,
				approved_at, approved_by, rejected_at, rejected_by, executed_at, completed_at, exit_code)
			VALUES ('nas', 'clear_logs', 'completed', 'true', `+at+`, 'ann', `+at+`, 'bob', `+at+`, 'bob', `+at+`, `+at+`, 0)`)
	}
	for _, row := range []string{
		"(-1, 'nas', 'true', 'ann', 'bob')", "(0, 'nas', 'true', 'ann', 'bob')", "(9007199254740993, 'nas', 'true', 'ann', 'bob')",
		"(101, 'nas', x'00', 'ann', x'00')", "(102, 'nas', 'true', x'00', 'bob')",
	} {
		rawExec(t, db, `INSERT INTO remediation_actions
			(id, server_id, command, created_by, approved_by, action_type, status, created_at, approved_at)
			SELECT *, 'clear_logs', 'approved', '2026-01-19 15:36:01', '2026-01-19 15:36:01' FROM (VALUES `+row+`)`)
	}
	const count = "SELECT count(*) FROM remediation_actions"
	rows := rawColumn(t, db, count)
	ledger := remediation.New(openMigrated(t, path))
	want := []string{ // an action with an id out of range has no created event, but those of its later steps
		"-1 | nas | approved | bob | 2026-01-19 15:36:01 | NULL",
		"0 | nas | approved | bob | 2026-01-19 15:36:01 | NULL",
		"102 | nas | approved | bob | 2026-01-19 15:36:01 | NULL",
		"9007199254740993 | nas | approved | bob | 2026-01-19 15:36:01 | NULL",
	}
	if diff := cmp.Diff(want, rawColumn(t, db, eventLines)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rows, rawColumn(t, db, count)); diff != "" {
		t.Errorf("rows (-before +after):\n%s", diff)
	}
	if events, err := ledger.Events(t.Context(), 0, 10); err != nil || len(events) != len(want) {
		t.Errorf("Events: %v, %v, want %d", events, err, len(want))
	}
}

func TestNewLedgerHasNoEvents(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	openMigrated(t, path)
	if got := rawColumn(t, rawPool(t, path, ""), eventLines); got != nil {
		t.Errorf("events: %v", got)
	}
}
