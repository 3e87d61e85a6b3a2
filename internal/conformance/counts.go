package conformance

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Counts, and of All, which iterates over the pages of a list.

func (l *ledger) mustCounts(t *testing.T, statuses ...remediation.Status) map[remediation.Status]int64 {
	t.Helper()
	n, err := l.Counts(t.Context(), statuses...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (l *ledger) TestCountsIncludeStatusesWithoutActions(t *testing.T) {
	want := map[remediation.Status]int64{}
	for _, status := range remediation.Statuses() {
		want[status] = 0
	}
	same(t, "an empty ledger", l.mustCounts(t), want)
	for i, status := range remediation.Statuses() {
		l.fill(t, slices.Repeat([]remediation.Action{example(status)}, i+2)...)
		want[status] = int64(i + 2)
		same(t, "Counts", l.mustCounts(t), want)
	}
	l.advance(t, l.actionIn(t, remediation.Approved), withdraw)
	want[remediation.Rejected]++
	same(t, "Counts with actions on both servers", l.mustCounts(t), want)
}

func (l *ledger) TestCountsAreLimitedToTheGivenStatuses(t *testing.T) {
	l.fill(t, append(examples(), examples()...)...)
	l.exec(t, "DELETE FROM remediation_actions WHERE status = 'failed'")
	same(t, "one status", l.mustCounts(t, remediation.Pending), map[remediation.Status]int64{remediation.Pending: 2})
	same(t, "no actions", l.mustCounts(t, remediation.Failed), map[remediation.Status]int64{remediation.Failed: 0})
	same(t, "two statuses, one given twice", l.mustCounts(t, remediation.Executing, remediation.Failed, remediation.Executing),
		map[remediation.Status]int64{remediation.Executing: 2, remediation.Failed: 0})
}

func (l *ledger) TestCountsRefuseUnknownStatuses(t *testing.T) {
	for _, bad := range []remediation.Status{"", "paused", "Pending", "pending\x00", "\xff"} {
		n, err := l.Counts(t.Context(), remediation.Pending, bad)
		badInput(t, err, "status")
		same(t, "number of counts", len(n), 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Counts(ctx)
	wantError(t, "Counts", err, context.Canceled)
}

// collect returns every action that All yields. An error fails the test.
func collect(t *testing.T, all iter.Seq2[remediation.Action, error]) []remediation.Action {
	t.Helper()
	list := []remediation.Action{}
	for a, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

func (l *ledger) TestAllYieldsEachActionOnceInOrder(t *testing.T) {
	same(t, "All of an empty ledger", collect(t, l.All(t.Context(), remediation.Filter{})), []remediation.Action{})
	for range 4 {
		l.fill(t, append(examples(), withdrawn())...) // 7 actions a round, 28 at the end, so the last page of 7 is full
		want := l.mustList(t, remediation.Filter{Limit: 1000})
		for _, limit := range []int{0, 1, 6, 7, 28, 1000} {
			all := l.All(t.Context(), remediation.Filter{Limit: limit})
			for range 2 { // the iterator can be used again
				same(t, "All", collect(t, all), want)
			}
		}
		same(t, "All before", collect(t, l.All(t.Context(), remediation.Filter{Limit: 7, Before: want[2].ID})), want[3:])
	}
}

func (l *ledger) TestAllAppliesTheFilter(t *testing.T) {
	alert := l.mustAddAlert(t, normal)
	for i := range 40 {
		a := example(remediation.Statuses()[i%6])
		a.ServerID, a.ActionType = []string{normal, paused}[i%2], []string{"restart_service", "clear_cache", "reboot"}[i%3]
		if i%4 == 0 {
			a.AlertID = &alert
		}
		l.store(t, a)
	}
	for _, f := range []remediation.Filter{
		{ServerID: normal}, {Status: remediation.Approved}, {ActionType: "clear_cache"}, {AlertID: &alert},
		{ServerID: paused, Status: remediation.Approved}, {ServerID: normal, ActionType: "reboot", AlertID: &alert},
		{ServerID: "nowhere"},
	} {
		f.Limit = 1000
		want := l.mustList(t, f)
		f.Limit = 7
		same(t, "All", collect(t, l.All(t.Context(), f)), want)
	}
}

// pageCounter is a store that counts the pages that All reads.
type pageCounter struct {
	backend
	pages int
}

type backend = remediation.Backend

func (c *pageCounter) Backend() remediation.Backend { return c }

func (c *pageCounter) ListActions(ctx context.Context, f remediation.Filter) ([]remediation.Action, error) {
	c.pages++
	return c.backend.ListActions(ctx, f)
}

func (l *ledger) TestAllStopsReadingWhenTheLoopBreaks(t *testing.T) {
	stored := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Approved)}, 30)...)
	for after, pages := range map[int]int{1: 1, 7: 1, 8: 2, 14: 2, 15: 3} {
		c := &pageCounter{backend: l.db.Store.Backend()}
		var got []int64
		for a, err := range l.on(c).All(t.Context(), remediation.Filter{Limit: 7}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, a.ID); len(got) == after {
				break
			}
		}
		same(t, "actions read", got, stored[:after])
		same(t, "number of pages read", c.pages, pages)
	}
	c := &pageCounter{backend: l.db.Store.Backend()}
	l.on(c).All(t.Context(), remediation.Filter{})
	same(t, "number of pages read without a loop", c.pages, 0)
}

func (l *ledger) TestAllYieldsItsError(t *testing.T) {
	l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Approved)}, 20)...)
	ctx, cancel := context.WithCancel(t.Context())
	var got, failed int
	for a, err := range l.All(ctx, remediation.Filter{Limit: 7}) {
		if err != nil {
			failed++
			wantError(t, "All", err, context.Canceled)
			same(t, "action beside the error", a, remediation.Action{})
			continue // the iterator must end by itself
		}
		if got++; got == 9 {
			cancel() // in the middle of the second page
		}
	}
	cancel()
	same(t, "number of actions before the error", got, 14)
	same(t, "number of errors", failed, 1)

	failed = 0
	for _, err := range l.All(t.Context(), remediation.Filter{Status: "paused"}) {
		badInput(t, err, "status")
		failed++
		if errors.Is(err, remediation.ErrInvalidInput) {
			break
		}
	}
	same(t, "number of errors for a bad filter", failed, 1)
}

func (l *ledger) TestAllSkipsActionsCreatedDuringTheLoop(t *testing.T) {
	want := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Approved)}, 20)...)
	var got []int64
	for a, err := range l.All(t.Context(), remediation.Filter{Limit: 7}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.ID)
		l.mustCreate(t, newAction(normal))
		if err := l.update(t, a.ID, "status = 'rejected', rejected_at = created_at, rejected_by = 'eve', rejection_reason = 'no'"); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "All", got, want)
}
