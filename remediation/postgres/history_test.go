package postgres_test

import (
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
)

// eventLines selects the events as text, in the order of their ids and without them.
const eventLines = `SELECT concat_ws(' | ', action_id, server_id, kind, coalesce(actor, 'NULL'),
		to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), coalesce(detail, 'NULL'))
	FROM remediation_events ORDER BY id`

// Migrate writes the events of rows that predate the table remediation_events.
func TestMigrateWritesTheEventsOfExistingRows(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	upTo(t, pool, 4)
	run(t, pool, `INSERT INTO servers (id) VALUES ('web-1'), ('')`)
	run(t, pool, `INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by,
			approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code) VALUES
		(1, 'web-1', 'reboot', 'pending', 'true', '2026-01-22 00:00:00+00', 'ann', NULL, 'bob', NULL, NULL, NULL, NULL, NULL, NULL),
		(2, 'web-1', 'reboot', 'failed', 'true', '2026-01-22 00:00:01+00', 'ann', '2026-01-22 00:00:03+00', 'bob', NULL, NULL, NULL,
			'2026-01-22 00:00:05+00', '2026-01-22 00:00:06+00', 3),
		(3, 'web-1', 'reboot', 'rejected', 'true', '2026-01-22 00:00:02+00', 'ann', '2026-01-22 00:00:02+00', 'auto',
			'2026-01-22 00:00:04+00', 'carol', 'no', NULL, NULL, NULL),
		(4, 'web-1', 'reboot', 'failed', '', '2026-01-22 00:00:07+00', '', NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-22 00:00:07+00', NULL),
		(5, 'web-1', 'reboot', 'executing', 'true', '2026-01-22 00:00:08+00', 'ann', NULL, NULL, NULL, NULL, NULL,
			'2026-01-22 00:00:08+00', '2026-01-22 00:00:09+00', 0),
		(6, 'web-1', 'reboot', 'cancelled', 'true', 'infinity', 'ann', '-infinity', 'bob', '0001-12-31 23:59:59+00 BC', 'bob', '',
			'10000-01-01 00:00:00+00', '2026-01-22 00:00:09+00', 0),
		(0, 'web-1', 'reboot', 'completed', 'true', '0001-01-01 00:00:00+00', 'ann', NULL, NULL, NULL, NULL, NULL, NULL,
			'9999-12-31 23:59:59.999999+00', 0),
		(7, '', 'reboot', 'executing', 'true', '2026-01-22 00:00:10+00', 'ann', NULL, NULL, NULL, NULL, NULL,
			'2026-01-22 00:00:10+00', NULL, NULL)`)
	before := contentsOf(t, pool)
	migrate(t, pool)
	same(t, "events", column[string](t, pool, eventLines), []string{
		"1 | web-1 | created | ann | 2026-01-22 00:00:00.000000 | true",
		"2 | web-1 | created | ann | 2026-01-22 00:00:01.000000 | true",
		"3 | web-1 | created | ann | 2026-01-22 00:00:02.000000 | true",
		"3 | web-1 | approved | auto | 2026-01-22 00:00:02.000000 | NULL",
		"2 | web-1 | approved | bob | 2026-01-22 00:00:03.000000 | NULL",
		"3 | web-1 | rejected | carol | 2026-01-22 00:00:04.000000 | no",
		"2 | web-1 | executing | web-1 | 2026-01-22 00:00:05.000000 | NULL",
		"2 | web-1 | failed | web-1 | 2026-01-22 00:00:06.000000 | 3",
		"4 | web-1 | created | NULL | 2026-01-22 00:00:07.000000 | NULL",
		"4 | web-1 | failed | NULL | 2026-01-22 00:00:07.000000 | NULL",
		"5 | web-1 | created | ann | 2026-01-22 00:00:08.000000 | true",
		"5 | web-1 | executing | web-1 | 2026-01-22 00:00:08.000000 | NULL",
		"7 |  | executing | NULL | 2026-01-22 00:00:10.000000 | NULL",
		"0 | web-1 | completed | web-1 | 9999-12-31 23:59:59.999999 | 0",
	})
	same(t, "the highest event id", one[int64](t, pool, "SELECT max(id) FROM remediation_events"), int64(14))
	same(t, "rows", contentsOf(t, pool).within(before), before)
}

// Down deletes the events. Up writes the same events again that the triggers had written.
func TestMigrateWritesTheSameEventsAsTheTriggers(t *testing.T) {
	t.Parallel()
	pool, ledger := newLegacy(t)
	run(t, pool, "DELETE FROM remediation_actions; DELETE FROM remediation_events")
	for _, server := range []string{"web-1", "web-2"} {
		walk(t, ledger, server)
	}
	const all = `SELECT concat_ws(' | ', action_id, server_id, kind, coalesce(actor, 'NULL'), occurred_at, coalesce(detail, 'NULL'))
		FROM remediation_events ORDER BY id`
	before := column[string](t, pool, all)
	for version := newest(t); version > 6; version-- {
		step(t, pool, version, "down")
	}
	migrate(t, pool)
	same(t, "events after down and up", column[string](t, pool, all), before)
}
