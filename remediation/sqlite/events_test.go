package sqlite_test

import (
	"errors"
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
			ledger := withOldRow(t, rest+"; "+oldRow+"'executing', "+at+", 'bob', NULL, NULL, "+at+", NULL, NULL)")
			closed, err := ledger.FailOverdue(t.Context(), time.Hour, 10)
			if err != nil || len(closed) != 1 || closed[0].ID != 2 {
				t.Errorf("closed %v, %v; want the second action", closed, err)
			}
		})
	}
}

// Claim passes over what could not become executing under the rules, so nothing waits behind it.
func TestExplainAndClaimPassOverOldRowsThatCantRun(t *testing.T) {
	const at = "'2026-01-01 12:00:00+00:00'"
	for name, rest := range map[string]string{
		"nobody approved":       "NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
		"no name approved":      at + ", '', NULL, NULL, NULL, NULL, NULL)",
		"also rejected":         at + ", 'bob', " + at + ", 'eve', NULL, NULL, NULL)",
		"executed already":      at + ", 'bob', NULL, NULL, " + at + ", NULL, NULL)",
		"completed already":     at + ", 'bob', NULL, NULL, NULL, " + at + ", NULL)",
		"with an exit code":     at + ", 'bob', NULL, NULL, NULL, NULL, 0)",
		"with an output":        at + ", 'bob', NULL, NULL, NULL, NULL, NULL); UPDATE remediation_actions SET stdout = 'x'",
		"with no reason at all": at + ", 'bob', NULL, NULL, NULL, NULL, NULL); UPDATE remediation_actions SET rejection_reason = ''",
	} {
		t.Run(name, func(t *testing.T) {
			ledger := withOldRow(t, "'approved', "+rest)
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

// What can't be decided under the rules must not keep the others from being decided.
func TestBulkDecisionsPassOverOldRowsThatTheyCantDecide(t *testing.T) {
	const at = "'2026-01-01 12:00:00+00:00'"
	for name, rest := range map[string]string{
		"approved by somebody": "NULL, 'bob', NULL, NULL, NULL, NULL, NULL)",
		"approved at a time":   at + ", NULL, NULL, NULL, NULL, NULL, NULL)",
		"rejected":             "NULL, NULL, " + at + ", 'eve', NULL, NULL, NULL)",
		"executed already":     "NULL, NULL, NULL, NULL, " + at + ", NULL, NULL)",
		"completed already":    "NULL, NULL, NULL, NULL, NULL, " + at + ", NULL)",
		"with an exit code":    "NULL, NULL, NULL, NULL, NULL, NULL, 0)",
		"with an output":       "NULL, NULL, NULL, NULL, NULL, NULL, NULL); UPDATE remediation_actions SET stdout = 'x'",
	} {
		for to, decide := range map[remediation.Status]func(*remediation.Ledger, []int64) ([]remediation.Outcome, error){
			remediation.Approved: func(l *remediation.Ledger, ids []int64) ([]remediation.Outcome, error) {
				return l.ApproveMany(t.Context(), ids, "alice")
			},
			remediation.Rejected: func(l *remediation.Ledger, ids []int64) ([]remediation.Outcome, error) {
				return l.RejectMany(t.Context(), ids, "alice", "no")
			},
		} {
			t.Run(name+", "+string(to), func(t *testing.T) {
				ledger := withOldRow(t, "'pending', "+rest)
				if err := ledger.Pause(t.Context(), "web-1"); err != nil {
					t.Fatal(err)
				}
				good := mustRead(ledger.Create(t.Context(), remediation.NewAction{
					ServerID: "web-1", ActionType: "reboot", Command: "reboot", CreatedBy: "ann",
				}))
				outcomes := mustRead(decide(ledger, []int64{1, good.ID}))
				refused := (*remediation.TransitionError)(nil)
				if !errors.As(outcomes[0].Err, &refused) || *refused != (remediation.TransitionError{ID: 1, From: remediation.Pending, To: to}) {
					t.Errorf("the old one: %v", outcomes[0].Err)
				}
				if o := outcomes[1]; o.Err != nil || o.Action.Status != to {
					t.Errorf("the good one: %+v", o)
				}
			})
		}
	}
}

// withOldRow is a ledger with a row from before the rules, which no statement could write now.
func withOldRow(t *testing.T, rest string) *remediation.Ledger {
	t.Helper()
	path := ledgerFile(t)
	ledger := remediation.New(serverStore(t, path))
	raw := rawPool(t, path, shellDSN)
	rules := rawColumn(t, raw, "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'remediation_actions%'")
	for _, name := range rawColumn(t, raw, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'remediation_actions%'") {
		rawExec(t, raw, "DROP TRIGGER "+name)
	}
	rawExec(t, raw, oldRow+rest)
	for _, rule := range rules {
		rawExec(t, raw, rule)
	}
	return ledger
}
