package conformance

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of ApproveMany and RejectMany: outcomes, limits, validation, races and transactions.

// bulkCall is a bulk method and the step that it makes with each action.
type bulkCall struct {
	step step
	call func(t *testing.T, l *remediation.Ledger, ids []int64) ([]remediation.Outcome, error)
}

var approveAll = bulkCall{approve, func(t *testing.T, l *remediation.Ledger, ids []int64) ([]remediation.Outcome, error) {
	return l.ApproveMany(t.Context(), ids, "bob")
}}

var rejectAll = bulkCall{reject, func(t *testing.T, l *remediation.Ledger, ids []int64) ([]remediation.Outcome, error) {
	return l.RejectMany(t.Context(), ids, "carol", "not on a Friday")
}}

var bulkCalls = []bulkCall{approveAll, rejectAll}

// storePending stores n pending actions and returns their ids, oldest first.
func (l *ledger) storePending(t *testing.T, n int) []int64 {
	t.Helper()
	list := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Pending)}, n)...)
	slices.Reverse(list)
	return list
}

// single makes the same decision with a single call and returns its outcome.
func (m bulkCall) single(t *testing.T, l *ledger, id int64) remediation.Outcome {
	a, err := m.step.call(t.Context(), l.Ledger, paused, id)
	return remediation.Outcome{ID: id, Action: a, Err: err}
}

// sameOutcome compares two outcomes: the id, the action, and the text and type of the error.
func sameOutcome(t *testing.T, got, want remediation.Outcome) {
	t.Helper()
	same(t, "id", got.ID, want.ID)
	same(t, "action", got.Action, want.Action)
	if (got.Err == nil) != (want.Err == nil) {
		t.Errorf("%d: error is %v, want %v", got.ID, got.Err, want.Err)
		return
	}
	if want.Err == nil {
		return
	}
	same(t, "text of the error", got.Err.Error(), want.Err.Error())
	same(t, "ErrNotFound", errors.Is(got.Err, remediation.ErrNotFound), errors.Is(want.Err, remediation.ErrNotFound))
	transition := (*remediation.TransitionError)(nil)
	if errors.As(want.Err, &transition) {
		refused(t, got.Err, *transition)
	}
}

func (l *ledger) TestBulkOutcomesMatchTheSingleCalls(t *testing.T) {
	for _, m := range bulkCalls {
		in := map[remediation.Status]remediation.Action{}
		for _, status := range remediation.Statuses() {
			in[status] = l.actionIn(t, status)
		}
		second := l.actionIn(t, remediation.Pending)
		gone := l.actionIn(t, remediation.Pending).ID
		l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(gone))
		asked := []int64{in[remediation.Completed].ID, second.ID, gone, in[remediation.Approved].ID, in[remediation.Pending].ID, -1,
			second.ID, in[remediation.Rejected].ID, 1 << 62, in[remediation.Executing].ID, in[remediation.Failed].ID, 0,
			in[remediation.Pending].ID, gone, in[remediation.Approved].ID}
		// A single call would decide a pending action, so it supplies the expected outcome only for the other ids.
		want := make([]remediation.Outcome, len(asked))
		now := l.clock.tick()
		for i, id := range asked {
			switch id {
			case second.ID:
				want[i] = remediation.Outcome{ID: id, Action: m.step.after(second, now)}
			case in[remediation.Pending].ID:
				want[i] = remediation.Outcome{ID: id, Action: m.step.after(in[remediation.Pending], now)}
			default:
				want[i] = m.single(t, l, id)
				if want[i].Err == nil {
					t.Fatalf("the single decision on %d succeeded", id)
				}
			}
		}
		got, err := m.call(t, l.Ledger, asked)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "number of outcomes", len(got), len(asked))
		for i := range got {
			sameOutcome(t, got[i], want[i])
		}
		for _, a := range []remediation.Action{in[remediation.Pending], second} {
			same(t, "the row", l.mustGet(t, a.ID), m.step.after(a, now))
		}
		for status, a := range in {
			if status != remediation.Pending {
				same(t, "the row of an action that was not pending", l.mustGet(t, a.ID), a)
			}
		}
	}
}

func (l *ledger) TestBulkAcceptsAtMost1000IDs(t *testing.T) {
	for _, m := range bulkCalls {
		all := l.storePending(t, 1001)
		before := l.count(t, "remediation_actions WHERE status = 'pending'")
		outcomes, err := m.call(t, l.Ledger, all)
		badInput(t, err, "ids")
		same(t, "number of outcomes for too many ids", len(outcomes), 0)
		_, err = m.call(t, l.Ledger, slices.Repeat(all[:1], 1001))
		badInput(t, err, "ids")
		same(t, "number of pending actions", l.count(t, "remediation_actions WHERE status = 'pending'"), before)

		slices.Reverse(all)
		outcomes, err = m.call(t, l.Ledger, all[:1000])
		if err != nil {
			t.Fatal(err)
		}
		same(t, "number of outcomes", len(outcomes), 1000)
		for i, o := range outcomes {
			if o.ID != all[i] || o.Action.ID != all[i] || o.Action.Status != m.step.to || o.Err != nil {
				t.Fatalf("outcome %d is %+v, want %d decided", i, o, all[i])
			}
		}
		same(t, "number of pending actions", l.count(t, "remediation_actions WHERE status = 'pending'"), before-1000)
		l.exec(t, "DELETE FROM remediation_actions")
	}
}

func (l *ledger) TestBulkWithoutIDsDecidesNothing(t *testing.T) {
	l.actionIn(t, remediation.Pending)
	before := l.contents(t)
	for _, m := range bulkCalls {
		for _, none := range [][]int64{nil, {}} {
			outcomes, err := m.call(t, l.Ledger, none)
			if err != nil || len(outcomes) != 0 {
				t.Errorf("no ids: %v, %v", outcomes, err)
			}
		}
	}
	same(t, "after the calls without ids", l.contents(t), before)
}

func (l *ledger) TestBulkWithBadInputDecidesNothing(t *testing.T) {
	asked := []int64{l.actionIn(t, remediation.Pending).ID, l.actionIn(t, remediation.Pending).ID}
	before := l.contents(t)
	for name, s := range (argument{method: "ApproveMany", field: "by", most: longestActor}).bad() {
		t.Run("by/"+name, func(t *testing.T) {
			outcomes, err := l.ApproveMany(t.Context(), asked, s)
			badInput(t, err, "by")
			same(t, "number of outcomes", len(outcomes), 0)
			outcomes, err = l.RejectMany(t.Context(), asked, s, "no")
			badInput(t, err, "by")
			same(t, "number of outcomes", len(outcomes), 0)
			_, err = l.ApproveMany(t.Context(), nil, s)
			badInput(t, err, "by")
		})
	}
	for name, s := range (argument{method: "RejectMany", field: "reason", most: longestText}).bad() {
		t.Run("reason/"+name, func(t *testing.T) {
			outcomes, err := l.RejectMany(t.Context(), asked, "carol", s)
			badInput(t, err, "reason")
			same(t, "number of outcomes", len(outcomes), 0)
		})
	}
	same(t, "after the refused calls", l.contents(t), before)
}

// bulkRace lets racers decide the same ids at once, half of them in reverse order. It returns the winner of each id, as
// an index of racers.
func (l *ledger) bulkRace(t *testing.T, ids []int64, racers []*remediation.Ledger, of func(i int) bulkCall) map[int64]int {
	t.Helper()
	outcomes, errs := make([][]remediation.Outcome, len(racers)), make([]error, len(racers))
	race(racers, func(i int, racer *remediation.Ledger) {
		asked := slices.Clone(ids)
		if i/2%2 == 1 {
			slices.Reverse(asked)
		}
		outcomes[i], errs[i] = of(i).call(t, racer, asked)
	})
	winner := map[int64]int{}
	decided := map[int64]remediation.Action{}
	for i, list := range outcomes {
		if errs[i] != nil {
			t.Fatalf("racer %d: %v", i, errs[i])
		}
		for _, o := range list {
			if o.Err != nil {
				continue
			}
			if by, twice := winner[o.ID]; twice {
				t.Fatalf("action %d was decided by racer %d and by racer %d", o.ID, by, i)
			}
			winner[o.ID], decided[o.ID] = i, o.Action
		}
	}
	for i, list := range outcomes {
		for _, o := range list {
			if o.Err != nil {
				refused(t, o.Err, remediation.TransitionError{ID: o.ID, From: decided[o.ID].Status, To: of(i).step.to})
			}
		}
	}
	for _, id := range ids {
		if _, ok := winner[id]; !ok {
			t.Fatalf("no racer decided action %d", id)
		}
		same(t, "the row", l.mustGet(t, id), decided[id])
	}
	return winner
}

func (l *ledger) TestBulkRaceOfApprovalsDecidesEachOnce(t *testing.T) {
	racers := l.racers(t, 4)
	for range rounds(15) {
		l.bulkRace(t, l.storePending(t, 40), racers, func(int) bulkCall { return approveAll })
	}
}

// The planner may look up a short list and a long list in different ways. The rows are stored in a different order than
// their ids.
func (l *ledger) TestBulkRaceOfListsOfDifferentSizesDecidesEachOnce(t *testing.T) {
	const size = 900
	racers := l.racers(t, 4)
	for round := range rounds(6) {
		var all []int64
		var rows []string
		r := rowOf(example(remediation.Pending))
		for i := range size {
			id := int64(1000000 - round*size - i)
			r["id"] = number(id)
			all, rows = append(all, id), append(rows, r.values(append([]string{"id"}, given...)))
		}
		l.exec(t, "INSERT INTO remediation_actions (id, "+strings.Join(given, ", ")+") VALUES "+strings.Join(rows, ", "))
		l.exec(t, "ANALYZE")
		decided := make([]int, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			asked := all
			if i >= len(racers)/2 {
				asked = []int64{all[5], all[size/2], all[size-5]}
			}
			outcomes, err := bulkCalls[i%2].call(t, racer, asked)
			if err != nil {
				t.Errorf("%d ids: %v", len(asked), err)
			}
			for _, o := range outcomes {
				if o.Err == nil {
					decided[i]++
				}
			}
		})
		same(t, "number of decided actions", decided[0]+decided[1]+decided[2]+decided[3], size)
	}
}

func (l *ledger) TestBulkRaceOfApproveAndRejectDecidesEachOnce(t *testing.T) {
	racers := l.racers(t, 4)
	for range rounds(15) {
		l.bulkRace(t, l.storePending(t, 40), racers, func(i int) bulkCall { return bulkCalls[i%2] })
	}
}

func (l *ledger) TestBulkInTheCallersTransaction(t *testing.T) {
	for _, m := range bulkCalls {
		first, second := l.actionIn(t, remediation.Pending), l.actionIn(t, remediation.Pending)
		taken := l.actionIn(t, remediation.Executing)
		asked := []int64{second.ID, taken.ID, first.ID, 1 << 62}
		for _, keep := range []bool{false, true} {
			tx := l.db.Begin(t)
			inTx := l.on(tx.Store)
			outcomes, err := m.call(t, inTx, asked)
			if err != nil {
				t.Fatal(err)
			}
			want := []remediation.Action{m.step.after(second, l.clock.now), m.step.after(first, l.clock.now)}
			same(t, "decided in the transaction", []remediation.Action{outcomes[0].Action, outcomes[2].Action}, want)
			refused(t, outcomes[1].Err, remediation.TransitionError{ID: taken.ID, From: taken.Status, To: m.step.to})
			wantError(t, "unknown id", outcomes[3].Err, remediation.ErrNotFound)
			if keep {
				err = tx.Commit()
			} else {
				err = tx.Rollback()
				want = []remediation.Action{second, first}
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []remediation.Action{l.mustGet(t, second.ID), l.mustGet(t, first.ID)}
			slices.SortFunc(got, func(a, b remediation.Action) int { return cmp.Compare(b.ID, a.ID) })
			same(t, "after the transaction", got, want)
		}
	}
}

func (l *ledger) TestBulkReadsTheClockOnce(t *testing.T) {
	for _, m := range bulkCalls {
		asked := l.storePending(t, 20)
		before := l.clock.readings
		if _, err := m.call(t, l.Ledger, asked); err != nil {
			t.Fatal(err)
		}
		same(t, "clock readings", l.clock.readings-before, 1)
	}
}
