package sqlite_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// These tests check rows that an older program wrote before the rules existed, and that the rules would refuse today.

// beforeRules runs statements without triggers and foreign keys, like an older program.
func beforeRules(t *testing.T, raw *sql.DB, statements ...string) {
	t.Helper()
	withoutTriggers(t, raw, "TRUE", func() {
		for _, statement := range statements {
			rawExec(t, raw, "PRAGMA foreign_keys = OFF; "+statement+"; PRAGMA foreign_keys = ON")
		}
	})
}

// oldRow is the start of a statement that inserts an action.
const oldRow = `INSERT INTO remediation_actions (server_id, action_type, command, created_by, created_at, status, approved_at, approved_by,
	executed_at, rejected_at, completed_at) VALUES `

// An older program may have set the time of an end in any format, without the status. Such an action can still be
// ended. Its time stays, and the time of its event is the time of the call.
func TestOldRowThatHasAnEndTimeCanBeEnded(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		for _, at := range []string{"'2026-01-01T00:00:00'", "'2026-01-01'", "'2026-01-01 00:00:00+02:00'", "'2026-01-01 00:00:00'"} {
			beforeRules(t, raw,
				oldRow+"('web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00', 'pending', NULL, NULL, NULL, "+at+", NULL)",
				oldRow+"('web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00', 'pending', NULL, NULL, NULL, "+at+", NULL)",
				oldRow+"('web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00', 'executing', '2026-01-01 00:00:00', 'bob', '2026-01-01 00:00:00', NULL, "+at+")",
				oldRow+"('web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00', 'executing', '2026-01-01 00:00:00', 'bob', '2026-01-01 00:00:00', NULL, "+at+")")
			list, err := ledger.List(t.Context(), remediation.Filter{Limit: 4})
			wantDone(t, err)
			_, err = ledger.Reject(t.Context(), list[3].ID, "carol", "no")
			wantDone(t, err)
			outcomes, err := ledger.RejectMany(t.Context(), []int64{list[2].ID}, "carol", "no")
			if err != nil || outcomes[0].Err != nil {
				t.Errorf("RejectMany with rejected_at %s: %v, %+v", at, err, outcomes)
			}
			_, err = ledger.Finish(t.Context(), "web-1", list[1].ID, remediation.Result{})
			wantDone(t, err)
			closed, err := ledger.FailOverdue(t.Context(), time.Hour, 10)
			if err != nil || len(closed) != 1 {
				t.Errorf("FailOverdue with completed_at %s: %d, %v", at, len(closed), err)
			}
		}
		if _, err := ledger.Events(t.Context(), 0, 1000); err != nil {
			t.Error(err)
		}
	})
}

// Older programs wrote these rows with foreign keys off. They do not stop the ledger from changing or listing others.
func TestOldRowThatIsNotTextDoesNotBlockOthers(t *testing.T) {
	eachOpener(t, func(t *testing.T, ledger *remediation.Ledger, raw *sql.DB) {
		good, err := ledger.Create(t.Context(), restart("true"))
		wantDone(t, err)
		_, err = ledger.Start(t.Context(), good.ID)
		wantDone(t, err)
		beforeRules(t, raw,
			oldRow+"(x'7765622d31', 'x', 'x', 'ann', '2020-01-01 00:00:00', 'executing', '2020-01-01 00:00:00', 'bob', '2020-01-01 00:00:00', NULL, NULL)",
			oldRow+"(x'7765622d31', 'x', 'x', 'ann', '2020-01-01 00:00:00', 'completed', NULL, NULL, NULL, NULL, '2020-01-01 00:00:00')",
			oldRow+"('web-1', 'x', 'x', 'ann', '2020-01-01 00:00:00', x'00', NULL, NULL, NULL, NULL, NULL)",
			oldRow+"('web-1', 'x', 'x', 'ann', '2020-01-01 00:00:00', 'pending', NULL, NULL, NULL, 'soon', NULL)")
		late := remediation.New(storeOn(t, raw), remediation.WithClock(func() time.Time { return time.Now().AddDate(0, 0, 1) }))
		closed, err := late.FailOverdue(t.Context(), time.Hour, 10)
		if err != nil || len(closed) != 2 {
			t.Errorf("FailOverdue: %d, %v, want 2", len(closed), err)
		}
		pending, err := ledger.List(t.Context(), remediation.Filter{Status: remediation.Pending})
		wantDone(t, err)
		if len(pending) != 0 {
			t.Errorf("List returned the row that can't be read: %+v", pending)
		}
		pruned, err := ledger.Prune(t.Context(), time.Now().AddDate(-1, 0, 0), 10)
		if err != nil || pruned != 1 {
			t.Errorf("pruned %d, %v, want 1", pruned, err)
		}
		rawExec(t, raw, "DELETE FROM remediation_actions WHERE typeof(status) = 'blob'")
		rawExec(t, raw, "DELETE FROM servers WHERE id = 'web-1'")
		rawExec(t, raw, "DELETE FROM remediation_actions") // the rows whose server is a BLOB that no foreign key finds
	})
}

// An older program may have written ids and values that an event can't have.
func TestOldRowThatFitsNoEventCanBeEndedAndDeleted(t *testing.T) {
	eachOpener(t, func(t *testing.T, _ *remediation.Ledger, raw *sql.DB) {
		beforeRules(t, raw,
			"INSERT INTO remediation_actions (id, server_id, action_type, command, created_by, created_at) VALUES (-5, 'web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00')",
			oldRow+"('web-1', 'x', 'x', 'ann', '2026-01-01 00:00:00', 'completed', '2026-01-01 00:00:00', x'626f62', '2026-01-01 00:00:00', NULL, '2026-01-01 00:00:00')")
		rawExec(t, raw, "UPDATE remediation_actions SET status = 'rejected', rejected_at = '2026-01-01 00:00:00', rejected_by = 'bob', rejection_reason = 'old' WHERE id = -5")
		rawExec(t, raw, "DELETE FROM remediation_actions WHERE id = -5")
		_, err := raw.Exec(`INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at)
			SELECT id, server_id, 'approved', approved_by, approved_at FROM remediation_actions WHERE typeof(approved_by) = 'blob'`)
		if err == nil || !strings.Contains(err.Error(), "remediation_events_types") {
			t.Errorf("INSERT of an event with a BLOB: %v, want an error that names the rule", err)
		}
	})
}

// If the event of a change can't be stored, the change is refused. No conflict clause and no event id avoids that.
func TestChangeWithoutAnEventIsRefused(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	a, err := ledger.Create(t.Context(), restart("true"))
	wantDone(t, err)
	raw := rawPool(t, path, goodPool)
	again := `INSERT INTO remediation_events (id, action_id, server_id, kind, actor, occurred_at, detail)
		SELECT %d, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events WHERE id = 1`
	for _, id := range []string{"0", "-1", "-7", "4711", "9007199254740992", "9223372036854775807"} {
		for _, before := range []string{"", "PRAGMA ignore_check_constraints = ON; "} {
			if _, err := raw.Exec(before + strings.ReplaceAll(again, "%d", id)); err == nil {
				t.Errorf("an event with the id %s was accepted", id)
			}
		}
	}
	rawExec(t, raw, "UPDATE sqlite_sequence SET seq = 9007199254740992 WHERE name = 'remediation_events'")
	before := rawContents(t, raw)
	for _, conflict := range []string{"", "OR IGNORE", "OR FAIL", "OR REPLACE", "OR ROLLBACK"} {
		for _, statement := range []string{
			"UPDATE " + conflict + " remediation_actions SET status = 'executing', executed_at = '2026-01-01 00:00:00' WHERE id = 1",
			"INSERT " + conflict + ` INTO remediation_actions (server_id, action_type, command, created_at, created_by)
				VALUES ('web-1', 'x', 'x', '2026-01-01 00:00:00', 'eve')`,
		} {
			if _, err := raw.Exec(statement); err == nil || !strings.Contains(err.Error(), "remediation_") {
				t.Errorf("%s: %v, want an error that names the rule", statement, err)
			}
		}
	}
	if diff := cmp.Diff(before, rawContents(t, raw)); diff != "" {
		t.Errorf("a refused statement changed rows (-before +after):\n%s", diff)
	}
	rawExec(t, raw, "UPDATE sqlite_sequence SET seq = 4711 WHERE name = 'remediation_events'")
	_, err = ledger.Start(t.Context(), a.ID)
	wantDone(t, err)
}

// An alert with the highest id or an invalid one would block later alerts.
func TestAlertsRefuseIdsAndTypesThatBlockLaterAlerts(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	_, err := ledger.AddAlert(t.Context(), "web-1", "down")
	wantDone(t, err)
	raw := rawPool(t, path, goodPool)
	for _, statement := range []string{
		"UPDATE alerts SET rowid = -5", "UPDATE alerts SET _rowid_ = 0", "UPDATE alerts SET oid = 9223372036854775807",
		"INSERT INTO alerts (id, server_id, title) VALUES (1, 'web-1', 'x') ON CONFLICT (id) DO UPDATE SET rowid = -9",
		"INSERT INTO alerts (id, server_id, title) VALUES (9223372036854775807, 'web-1', 'x')",
		"UPDATE alerts SET title = x'41'", "UPDATE alerts SET server_id = x'41'",
	} {
		if _, err := raw.Exec(statement); err == nil || !strings.Contains(err.Error(), "alerts_types") {
			t.Errorf("%s: %v, want an error that names the rule", statement, err)
		}
	}
	_, err = ledger.AddAlert(t.Context(), "web-1", "down")
	wantDone(t, err)
	beforeRules(t, raw, "UPDATE alerts SET title = x'41', id = 0 WHERE id = 1")
	rawExec(t, raw, "UPDATE alerts SET server_id = 'web-1' WHERE id = 0") // the other invalid values may stay
}
