package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of List: order, limits, pages, filters and the fields that it leaves out.

func (l *ledger) mustList(t *testing.T, f remediation.Filter) []remediation.Action {
	t.Helper()
	page, err := l.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// fill inserts many actions by raw SQL in one statement and returns their ids, newest first.
func (l *ledger) fill(t *testing.T, actions ...remediation.Action) []int64 {
	t.Helper()
	rows := make([]row, len(actions))
	for i, a := range actions {
		rows[i] = rowOf(a)
	}
	ids, err := l.insert(t, rows...)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids
}

func ids(actions []remediation.Action) []int64 {
	var list []int64
	for _, a := range actions {
		list = append(list, a.ID)
	}
	return list
}

func (l *ledger) TestListIsNewestFirst50ByDefaultAnd1000AtMost(t *testing.T) {
	all := l.fill(t, slices.Repeat([]remediation.Action{example(remediation.Completed)}, 1003)...)
	for limit, want := range map[int]int{0: 50, 1: 1, 50: 50, 51: 51, 999: 999, 1000: 1000} {
		page := l.mustList(t, remediation.Filter{Limit: limit})
		same(t, "the page", ids(page), all[:want])
	}
	same(t, "before the newest", ids(l.mustList(t, remediation.Filter{Before: all[0]})), all[1:51])
	same(t, "before the third oldest", ids(l.mustList(t, remediation.Filter{Before: all[1000]})), all[1001:])
}

func (l *ledger) TestListPagesAreCompleteWhileActionsArrive(t *testing.T) {
	for range 23 {
		l.mustCreate(t, newAction(normal))
	}
	want := ids(l.mustList(t, remediation.Filter{}))
	var got []int64
	page := l.mustList(t, remediation.Filter{Limit: 5})
	for len(page) > 0 && len(got) < len(want) {
		got = append(got, ids(page)...)
		l.mustCreate(t, newAction(normal))
		page = l.mustList(t, remediation.Filter{Before: page[len(page)-1].ID, Limit: 5})
	}
	same(t, "the page after the last", ids(page), []int64(nil))
	same(t, "all pages together", got, want)
}

func (l *ledger) TestListCombinesFilters(t *testing.T) {
	alertsOf := map[string][]*int64{}
	for _, serverID := range []string{normal, paused} {
		alertsOf[serverID] = []*int64{nil, new(l.mustAddAlert(t, serverID)), new(l.mustAddAlert(t, serverID))}
	}
	servers, types := []string{normal, paused}, []string{"restart_service", "clear_cache"}
	var all []remediation.Action
	for _, a := range append(examples(), withdrawn()) {
		for _, a.ServerID = range servers {
			for _, a.ActionType = range types {
				for _, a.AlertID = range alertsOf[a.ServerID] {
					a.DedupeKey = new(fmt.Sprint("key ", len(all)))
					all = append(all, a)
				}
			}
		}
	}
	stored := l.fill(t, all...)
	slices.Reverse(all)
	for i := range all {
		all[i].ID, all[i].Stdout, all[i].Stderr = stored[i], nil, nil
	}

	unknown := int64(1 << 62)
	for _, serverID := range append(servers, "", "nowhere") {
		for _, actionType := range append(types, "", "reboot") {
			for _, status := range append(remediation.Statuses(), "") {
				for _, alert := range append(slices.Concat(alertsOf[normal], alertsOf[paused]), &unknown) {
					f := remediation.Filter{ServerID: serverID, ActionType: actionType, Status: status, AlertID: alert}
					want := matching(all, f)
					f.Limit = 1000
					same(t, "List", l.mustList(t, f), want)
					l.samePages(t, f, want)
				}
			}
		}
	}
}

// matching returns the actions that List must find with a filter.
func matching(all []remediation.Action, f remediation.Filter) []remediation.Action {
	found := []remediation.Action{}
	for _, a := range all {
		if (f.ServerID == "" || a.ServerID == f.ServerID) && (f.ActionType == "" || a.ActionType == f.ActionType) &&
			(f.Status == "" || a.Status == f.Status) && (f.AlertID == nil || a.AlertID != nil && *a.AlertID == *f.AlertID) {
			found = append(found, a)
		}
	}
	return found
}

// samePages expects Before and Limit to work together with the rest of the filter: two pages make up the whole list.
func (l *ledger) samePages(t *testing.T, f remediation.Filter, want []remediation.Action) {
	t.Helper()
	if len(want) < 2 {
		return
	}
	f.Limit = len(want) / 2
	same(t, "the first page", l.mustList(t, f), want[:f.Limit])
	f.Before, f.Limit = want[f.Limit-1].ID, 1000
	same(t, "the second page", l.mustList(t, f), want[len(want)/2:])
}

func (l *ledger) TestListLoadsNoOutputs(t *testing.T) {
	alert := l.mustAddAlert(t, normal)
	a := example(remediation.Failed)
	a.AlertID = &alert
	a = l.store(t, a)
	want := a
	want.Stdout, want.Stderr = nil, nil
	for _, f := range []remediation.Filter{
		{}, {ServerID: normal}, {ActionType: a.ActionType}, {Status: a.Status}, {AlertID: &alert},
		{ServerID: normal, Status: a.Status},
	} {
		same(t, "List", l.mustList(t, f), []remediation.Action{want})
	}
	same(t, "Get", l.mustGet(t, a.ID), a)
}

func (l *ledger) TestEmptyListIsNotAnError(t *testing.T) {
	if page := l.mustList(t, remediation.Filter{}); len(page) != 0 {
		t.Errorf("an empty ledger lists %d actions", len(page))
	}
	oldest := l.mustCreate(t, newAction(normal))
	for _, f := range []remediation.Filter{
		{ServerID: "nowhere"}, {Status: remediation.Failed}, {Before: oldest.ID}, {Before: 1},
	} {
		if page := l.mustList(t, f); len(page) != 0 {
			t.Errorf("%+v lists %d actions", f, len(page))
		}
	}
}
