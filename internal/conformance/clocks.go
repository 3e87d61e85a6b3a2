package conformance

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of clocks and times at the limits of the years 1 to 9999. The ledger stores no other years.

func (l *ledger) TestClockInTheYears1To9999AllowsTheWholeLifecycle(t *testing.T) {
	for name, now := range map[string]time.Time{
		"first moment of year 1":             time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		"last moment of year 1":              time.Date(1, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"first moment of year 9999":          time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		"last moment before the last day":    time.Date(9999, 12, 30, 23, 59, 59, 999_999_999, time.UTC),
		"first moment of the last day":       time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		"last moment of year 9999":           time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"year 10000, in UTC still year 9999": time.Date(10000, 1, 1, 0, 30, 0, 0, time.FixedZone("+0100", 3600)),
		"year 0, in UTC already year 1":      time.Date(0, 12, 31, 23, 30, 0, 0, time.FixedZone("-0100", -3600)),
	} {
		t.Run(name, func(t *testing.T) {
			l.exec(t, "DELETE FROM remediation_actions")
			l.clock.now = now
			want := now.UTC().Truncate(time.Microsecond)
			for _, serverID := range []string{normal, paused} {
				a := l.mustCreate(t, newAction(serverID))
				same(t, "created_at", a.CreatedAt, want)
				if serverID == paused {
					rejected := l.mustCreate(t, newAction(serverID))
					if _, err := reject.call(t.Context(), l.Ledger, paused, rejected.ID); err != nil {
						t.Fatal(err)
					}
					outcomes, err := l.ApproveMany(t.Context(), []int64{a.ID}, "bob")
					if err != nil || outcomes[0].Err != nil {
						t.Fatalf("ApproveMany: %+v, %v", outcomes, err)
					}
				}
				if e, err := l.Explain(t.Context(), a.ID); err != nil || e.Reason != remediation.ReasonUnclaimed {
					t.Errorf("Explain: %s, %v", e, err)
				}
				same(t, "Claim", l.mustClaim(t, serverID).ID, a.ID)
				same(t, "number closed by FailOverdue with the longest duration", len(l.mustFailOverdue(t, math.MaxInt64, 10)), 0)
				done, err := complete.call(t.Context(), l.Ledger, serverID, a.ID)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "completed_at", done.CompletedAt, &want)
				same(t, "Get", l.mustGet(t, a.ID), done)
				same(t, "number pruned at the time of its end", l.mustPrune(t, want, 10), int64(0))
			}
			l.mustPause(t, normal)
			l.mustUnpause(t, normal)
		})
	}
}

func (l *ledger) TestClockOutsideTheYears1To9999IsRefused(t *testing.T) {
	pending, approved := l.actionIn(t, remediation.Pending).ID, l.actionIn(t, remediation.Approved).ID
	executing := l.actionIn(t, remediation.Executing).ID
	before, events := l.contents(t), l.count(t, "remediation_events")
	calls := everyCall(pending, approved, executing)
	for name, now := range map[string]time.Time{
		"year -1":                              time.Date(-1, 6, 1, 0, 0, 0, 0, time.UTC),
		"first moment of year 0":               time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		"last moment of year 0":                time.Date(0, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"year 1, in UTC still year 0":          time.Date(1, 1, 1, 0, 30, 0, 0, time.FixedZone("+0100", 3600)),
		"year 9999, in UTC already year 10000": time.Date(9999, 12, 31, 23, 30, 0, 0, time.FixedZone("-0100", -3600)),
		"first moment of year 10000":           time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		"a billion years ago":                  time.Unix(-1<<55, 0),
		"in a billion years":                   time.Unix(1<<55, 0),
	} {
		t.Run(name, func(t *testing.T) {
			l.clock.now = now
			for _, name := range []string{"Pause", "Create", "Approve", "Reject", "Withdraw", "Claim", "Start", "Finish",
				"ApproveMany", "RejectMany", "FailOverdue", "Expire", "Heartbeat", "RequestCancel"} {
				badInput(t, calls[name](t.Context(), l.Ledger), "clock")
			}
			same(t, "after the refused calls", l.contents(t), before)
			same(t, "number of events after the refused calls", l.count(t, "remediation_events"), events)
			for _, name := range []string{"Get", "List", "Counts", "Explain", "Events", "AddServer", "Unpause",
				"Server", "Servers", "ForbidSelfApproval"} {
				if err := calls[name](context.WithoutCancel(t.Context()), l.Ledger); err != nil {
					t.Errorf("%s, which reads no clock: %v", name, err)
				}
			}
			l.exec(t, "DELETE FROM servers WHERE id = 'new'")
			l.exec(t, "UPDATE servers SET is_paused = TRUE, paused_at = "+literal(at(0))+" WHERE id = "+quote(paused))
		})
	}
}

func (l *ledger) TestOutOfRangeTimeIsClampedForComparisons(t *testing.T) {
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_998_000, time.UTC)
	long := endedAt(remediation.Completed, first)
	long.CreatedAt, long.ApprovedAt, long.ExecutedAt = first, &first, &first // retention uses the latest of its times
	ended := l.store(t, long)
	for _, before := range []time.Time{
		first, first.Add(-1), time.Date(0, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(-1<<55, 0),
	} {
		same(t, "number cleared before "+before.String(), l.mustClearOutput(t, before, 10), int64(0))
		same(t, "number pruned before "+before.String(), l.mustPrune(t, before, 10), int64(0))
	}
	same(t, "the row", l.mustGet(t, ended.ID), ended)
	same(t, "number pruned", l.mustPrune(t, first.Add(time.Microsecond), 10), int64(1))

	for _, before := range []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1<<55, 0)} {
		l.store(t, endedAt(remediation.Completed, last))
		same(t, "number cleared before "+before.String(), l.mustClearOutput(t, before, 10), int64(1))
		same(t, "number pruned before "+before.String(), l.mustPrune(t, before, 10), int64(1))
	}

	// A sweep soon after the start of year 1 computes a cutoff before year 1.
	executing := l.actionIn(t, remediation.Executing)
	for _, now := range []time.Time{first, first.Add(time.Hour), first.AddDate(200, 0, 0)} {
		l.clock.now = now
		same(t, "number closed", len(l.mustFailOverdue(t, math.MaxInt64, 10)), 0)
	}
	same(t, "the executing row", l.mustGet(t, executing.ID), executing)
}
