package conformance

import (
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of History, which returns the events of one action.

func (l *ledger) mustHistory(t *testing.T, id int64) []remediation.Event {
	t.Helper()
	events, err := l.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func (l *ledger) TestHistoryIsTheActionsOwnEventsInOrder(t *testing.T) {
	var all []remediation.Action
	for range 3 { // several actions, to tell their events apart
		for _, path := range [][]step{{approve, start, complete}, {approve, start, fail}, {reject}, {approve, withdraw}, {approve}, {}} {
			a := l.mustCreate(t, newAction(paused))
			for _, s := range path {
				a = l.advance(t, a, s)
			}
			all = append(all, a)
		}
	}
	feed := l.mustEvents(t, 0)
	for _, a := range all {
		got := l.mustHistory(t, a.ID)
		sameEvents(t, "the history", got, history(a))
		var own []remediation.Event
		for _, e := range feed {
			if e.ActionID == a.ID {
				own = append(own, e)
			}
		}
		same(t, "the history and the feed", got, own)
	}
	for _, id := range []int64{0, -1, all[len(all)-1].ID + 1, 1 << 62} {
		events, err := l.History(t.Context(), id)
		wantError(t, "History", err, remediation.ErrNotFound)
		same(t, "number of events beside the error", len(events), 0)
	}
}

func (l *ledger) TestHistoryOutlivesTheAction(t *testing.T) {
	for _, remove := range []func(id int64){
		func(int64) { same(t, "pruned", l.mustPrune(t, l.clock.tick(), 10), int64(1)) },
		func(id int64) { l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(id)) },
		func(int64) { l.exec(t, "DELETE FROM servers WHERE id = "+quote(paused)) },
	} {
		a := l.actionIn(t, remediation.Completed)
		before := l.mustHistory(t, a.ID)
		remove(a.ID)
		got := l.mustHistory(t, a.ID)
		same(t, "number of events", len(got), len(before)+1)
		same(t, "events from before the deletion", got[:len(before)], before)
		same(t, "kind of the last event", got[len(before)].Kind, remediation.EventDeleted)
	}
	a := l.mustCreate(t, newAction(normal))
	l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(a.ID))
	l.exec(t, "DELETE FROM remediation_events WHERE action_id = "+number(a.ID))
	_, err := l.History(t.Context(), a.ID)
	wantError(t, "History of an action whose row and events are deleted", err, remediation.ErrNotFound)
}

func (l *ledger) TestHistoryOfAnActionWithoutEventsIsEmpty(t *testing.T) {
	old := l.insertOld(t, rowOf(example(remediation.Completed)))
	events, err := l.History(t.Context(), old.ID)
	if err != nil || events == nil || len(events) > 0 {
		t.Errorf("History returns %v, %v, want an empty list", events, err)
	}
}

// TestHistoryDuringWritesIsNeverPartial reads the history of actions while they are created. An action becomes visible
// together with its first events.
func (l *ledger) TestHistoryDuringWritesIsNeverPartial(t *testing.T) {
	reader := l.on(l.db.Another(t))
	done := make(chan struct{})
	last := l.mustCreate(t, newAction(normal)).ID
	go func() {
		defer close(done)
		l.runLifecycles(t, l.Ledger, rounds(100))
	}()
	for id := last + 1; ; {
		events, err := reader.History(t.Context(), id)
		if err == nil {
			if len(events) < 2 {
				t.Errorf("action %d has the history %v", id, events)
			}
			id++
			continue
		}
		wantError(t, "History", err, remediation.ErrNotFound)
		select {
		case <-done:
			if _, err := l.Get(t.Context(), id); err == nil {
				continue // it was created after History read
			}
			same(t, "number of actions read", int(id-last-1), rounds(100))
			return
		default:
		}
	}
}
