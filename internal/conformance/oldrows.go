package conformance

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Rows that a program older than the rules left behind, and that no statement could write now. One that can't be decided,
// run or closed under the rules is passed over, so that the others are.
var oldRows = []behaviour{
	{"OldRowsFollowTheRules", oldRowsFollowTheRules},
	{"BulkDecisionsPassOverOldRows", decisionsPassOverOldRows},
	{"ClaimAndExplainPassOverOldRows", claimPassesOverOldRows},
	{"StatusOfOldRowsDecidesWhatTheyAre", statusOfOldRows},
	{"SweepPassesOverOldRows", sweepPassesOverOldRows},
	{"ClearOutputPassesOverOldRows", clearPassesOverOldRows},
}

// insertOld stores a row as an older program left it, whatever the rules say, and returns it as it reads.
func (l *ledger) insertOld(t *testing.T, r row) remediation.Action {
	t.Helper()
	// SQLite has a trigger of its own for inserts, which nothing here needs again.
	_, err := l.db.Raw.ExecContext(t.Context(), "DROP TRIGGER IF EXISTS remediation_actions_consistent_insert")
	isPostgres := err != nil
	if isPostgres {
		l.exec(t, "ALTER TABLE remediation_actions DISABLE TRIGGER remediation_actions_consistent")
	}
	ids, err := l.insert(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if isPostgres {
		l.exec(t, "ALTER TABLE remediation_actions ENABLE TRIGGER remediation_actions_consistent")
	}
	return l.get(t, ids[0])
}

// In a row that fits its status one rule often stands in for another. In one that has a field too many or too few, each
// must hold by itself.
func oldRowsFollowTheRules(t *testing.T, l *ledger) {
	for _, tr := range transitions() {
		for _, c := range audit {
			old := l.insertOld(t, rowOf(tr.from).toggled(c))
			if rowOf(tr.from)[c] != "NULL" {
				l.wontUpdate(t, old, tr.set()) // what is lacking stays so
				continue
			}
			fills := slices.DeleteFunc(slices.Clone(tr.fills), func(f string) bool { return f == c })
			set := rowOf(tr.to).set(append(fills, "status")...)
			l.wontUpdate(t, old, set+", "+c+" = NULL")
			l.wontUpdate(t, old, set+", "+changed.set(c))
			if slices.Contains(tr.fills, c) {
				if fits := c != "exit_code" || tr.to.Status == remediation.Completed; fits {
					l.exec(t, "UPDATE remediation_actions SET "+set+", "+filled.set(c)+" WHERE id = "+number(old.ID)) // what is there already
				}
				continue
			}
			l.wontUpdate(t, old, set)
			for _, other := range audit {
				if other != c && rowOf(tr.to)[other] == "NULL" {
					l.wontUpdate(t, old, set+", "+filled.set(other))
				}
			}
		}
	}
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		for _, c := range []string{"stdout", "stderr"} {
			l.wontUpdate(t, l.insertOld(t, rowOf(example(status)).toggled(c)), "stdout = NULL, stderr = NULL")
		}
	}
}

// misfits is the row of a status with one audit field too many or too few, in each way.
func misfits(status remediation.Status) []row {
	good := rowOf(example(status))
	var list []row
	for _, c := range audit {
		list = append(list, good.toggled(c))
	}
	if good["approved_by"] != "NULL" {
		nameless := maps.Clone(good)
		nameless["approved_by"] = "''"
		list = append(list, nameless)
	}
	unreasoned := maps.Clone(good)
	unreasoned["rejection_reason"] = "''"
	return append(list, unreasoned)
}

// passesOver makes each bulk decision on an old row that it can't decide, and on a good one beside it.
func (l *ledger) passesOver(t *testing.T, old remediation.Action) {
	t.Helper()
	for _, m := range manys {
		good := l.store(t, example(remediation.Pending))
		outcomes, err := m.call(t, l.Ledger, []int64{old.ID, good.ID})
		if err != nil {
			t.Fatalf("%s beside %+v: %v", m.step.name, old, err)
		}
		refused(t, outcomes[0].Err, remediation.TransitionError{ID: old.ID, From: old.Status, To: m.step.to})
		same(t, "the old row", l.get(t, old.ID), old)
		if got := outcomes[1]; got.Err != nil || got.Action.Status != m.step.to {
			t.Errorf("%s beside %+v: %+v", m.step.name, old, got)
		}
	}
}

func decisionsPassOverOldRows(t *testing.T, l *ledger) {
	for _, r := range misfits(remediation.Pending) {
		l.passesOver(t, l.insertOld(t, r))
	}
}

func claimPassesOverOldRows(t *testing.T, l *ledger) {
	for _, r := range misfits(remediation.Approved) {
		old, good := l.insertOld(t, r), l.store(t, example(remediation.Approved))
		same(t, "the old row's reason", l.explain(t, old.ID).Reason, remediation.ReasonNoApproval)
		if e := l.explain(t, good.ID); e.Reason != remediation.ReasonUnclaimed || e.Behind != 0 {
			t.Errorf("beside %+v: %s", old, e)
		}
		same(t, "claimed", l.claim(t, normal).ID, good.ID)
		l.nothingToClaim(t, normal)
		same(t, "the old row", l.get(t, old.ID), old)
		l.take(t, l.get(t, good.ID), complete) // is before nothing in the next round
	}
}

func statusOfOldRows(t *testing.T, l *ledger) {
	with := func(status, fields remediation.Status) remediation.Action {
		r := rowOf(example(fields))
		r["status"] = quote(string(status))
		return l.insertOld(t, r)
	}
	for _, status := range remediation.Statuses() {
		if status != remediation.Approved {
			with(status, remediation.Approved)
			good := l.store(t, example(remediation.Approved))
			if e := l.explain(t, good.ID); status != remediation.Executing && e.Behind != 0 {
				t.Errorf("beside %s: %s", status, e)
			}
			same(t, "claimed beside "+string(status), l.claim(t, normal).ID, good.ID)
			l.nothingToClaim(t, normal)
			l.exec(t, "DELETE FROM remediation_actions") // nothing is behind them in the next round
		}
	}
	l.clock.now = at(0).AddDate(0, 0, 1)
	for _, status := range remediation.Statuses() {
		if status != remediation.Executing {
			with(status, remediation.Executing)
			good := l.store(t, example(remediation.Executing))
			same(t, "closed beside "+string(status), ids(l.sweep(t, time.Hour, 1)), []int64{good.ID})
		}
	}
	for _, status := range remediation.Statuses() {
		if status != remediation.Pending {
			l.passesOver(t, with(status, remediation.Pending))
		}
	}
}

func sweepPassesOverOldRows(t *testing.T, l *ledger) {
	l.clock.now = at(0).AddDate(0, 0, 1)
	for _, r := range misfits(remediation.Executing) {
		old, good := l.insertOld(t, r), l.store(t, example(remediation.Executing))
		same(t, "closed", ids(l.sweep(t, time.Hour, 1)), []int64{good.ID})
		same(t, "closed after it", len(l.sweep(t, time.Hour, 10)), 0)
		same(t, "the old row", l.get(t, old.ID), old)
	}
}

func clearPassesOverOldRows(t *testing.T, l *ledger) {
	for _, status := range []remediation.Status{remediation.Pending, remediation.Approved, remediation.Executing} {
		old := l.insertOld(t, rowOf(example(status)).toggled("stdout"))
		for _, c := range []string{"stdout", "stderr"} {
			l.exec(t, insertion("remediation_actions", rowOf(endedAt(remediation.Failed, at(40))).toggled(c)))
			cleared, err := l.ClearOutput(t.Context(), at(59), 1)
			if err != nil || cleared != 1 {
				t.Errorf("cleared beside %s, of an action without %s: %d, %v, want 1", status, c, cleared, err)
			}
		}
		same(t, "the old row", l.get(t, old.ID), old)
	}
}
