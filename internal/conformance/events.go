package conformance

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the feed of events: which changes write events, in which order, and that the feed is append-only and
// complete.

// mustEvents returns all events after an id in the order of the feed. It reads them in pages.
func (l *ledger) mustEvents(t *testing.T, after int64) []remediation.Event {
	t.Helper()
	var all []remediation.Event
	for {
		page, err := l.Events(t.Context(), after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		after = page[len(page)-1].ID
	}
}

// lastEvent returns the id of the newest event, or 0 if there is none.
func (l *ledger) lastEvent(t *testing.T) int64 {
	t.Helper()
	if all := l.mustEvents(t, 0); len(all) > 0 {
		return all[len(all)-1].ID
	}
	return 0
}

// history returns the events, without their ids, that an action with these fields must have.
func history(a remediation.Action) []remediation.Event {
	event := func(kind remediation.EventKind, actor *string, at time.Time, detail *string) remediation.Event {
		return remediation.Event{ActionID: a.ID, ServerID: a.ServerID, Kind: kind, Actor: actor, OccurredAt: at, Detail: detail}
	}
	list := []remediation.Event{event(remediation.EventCreated, &a.CreatedBy, a.CreatedAt, &a.Command)}
	if a.ApprovedAt != nil {
		list = append(list, event(remediation.EventApproved, a.ApprovedBy, *a.ApprovedAt, nil))
	}
	if a.RejectedAt != nil {
		list = append(list, event(remediation.EventRejected, a.RejectedBy, *a.RejectedAt, a.RejectionReason))
	}
	if a.ExecutedAt != nil {
		list = append(list, event(remediation.EventExecuting, &a.ServerID, *a.ExecutedAt, nil))
	}
	if a.CancelRequestedAt != nil {
		list = append(list, event(remediation.EventCancelRequested, a.CancelRequestedBy, *a.CancelRequestedAt, a.CancelReason))
	}
	if a.CompletedAt != nil && a.ExitCode != nil {
		list = append(list, event(remediation.EventKind(a.Status), &a.ServerID, *a.CompletedAt, new(number(*a.ExitCode))))
	} else if a.CompletedAt != nil {
		list = append(list, event(remediation.EventKind(a.Status), nil, *a.CompletedAt, nil))
	}
	return list
}

// sameEvents compares events without their ids, which must increase.
func sameEvents(t *testing.T, what string, got, want []remediation.Event) {
	t.Helper()
	got = slices.Clone(got)
	for i := range got {
		if i > 0 && got[i].ID <= got[i-1].ID {
			t.Errorf("%s: event %d comes after event %d", what, got[i].ID, got[i-1].ID)
		}
	}
	for i := range got {
		got[i].ID = 0
	}
	same(t, what, got, want)
}

func (l *ledger) TestEventsRecordTheWholeLifecycle(t *testing.T) {
	for name, path := range map[string][]step{
		"completed": {approve, start, complete},
		"failed":    {approve, start, fail},
		"rejected":  {reject},
		"withdrawn": {approve, withdraw},
	} {
		after := l.lastEvent(t)
		a := l.mustCreate(t, newAction(paused))
		sameEvents(t, name+": created", l.mustEvents(t, after), history(a))
		for _, s := range path {
			a = l.advance(t, a, s)
			sameEvents(t, name+" after "+s.name, l.mustEvents(t, after), history(a))
		}
	}
	after := l.lastEvent(t)
	a := l.mustCreate(t, newAction(normal))
	sameEvents(t, "created in normal mode", l.mustEvents(t, after), history(a))
	l.clock.tick()
	a = l.mustClaim(t, normal)
	sameEvents(t, "claimed", l.mustEvents(t, after), history(a))
}

func (l *ledger) TestEventsRecordRawInserts(t *testing.T) {
	unreported := example(remediation.Failed)
	unreported.ExitCode, unreported.Stdout, unreported.Stderr = nil, nil, nil
	for _, a := range append(examples(), withdrawn(), unreported) {
		after := l.lastEvent(t)
		a = l.store(t, a)
		sameEvents(t, "raw insert of a "+string(a.Status)+" action", l.mustEvents(t, after), history(a))
	}
	kinds := []remediation.EventKind{}
	after := l.lastEvent(t)
	l.store(t, example(remediation.Completed))
	for _, e := range l.mustEvents(t, after) {
		kinds = append(kinds, e.Kind)
	}
	same(t, "kinds of events of a completed row", kinds, []remediation.EventKind{
		remediation.EventCreated, remediation.EventApproved, remediation.EventExecuting, remediation.EventCompleted,
	})
}

func (l *ledger) TestEventsRecordRawUpdates(t *testing.T) {
	for _, tr := range transitions() {
		from := l.store(t, tr.from)
		after := l.lastEvent(t)
		if err := l.update(t, from.ID, tr.set()); err != nil {
			t.Fatal(err)
		}
		tr.to.ID = from.ID
		want := history(tr.to)
		sameEvents(t, string(from.Status)+" to "+string(tr.to.Status), l.mustEvents(t, after), want[len(want)-1:])
	}
	executing := l.store(t, example(remediation.Executing))
	after := l.lastEvent(t)
	if err := l.update(t, executing.ID, "status = 'failed', completed_at = "+literal(at(9))); err != nil {
		t.Fatal(err)
	}
	want := history(l.mustGet(t, executing.ID))
	sameEvents(t, "failed without an exit code", l.mustEvents(t, after), want[len(want)-1:])

	// A change that is no step of the lifecycle writes no event.
	alert := l.mustAddAlert(t, normal)
	a := example(remediation.Completed)
	a.AlertID = &alert
	a = l.store(t, a)
	after = l.lastEvent(t)
	l.exec(t, "DELETE FROM alerts WHERE id = "+number(alert))
	sameEvents(t, "after the alert was deleted", l.mustEvents(t, after), nil)
}

func (l *ledger) TestEventsRecordClearedOutputs(t *testing.T) {
	full, onlyStdout, onlyStderr := example(remediation.Completed), example(remediation.Completed), example(remediation.Failed)
	onlyStdout.Stderr, onlyStderr.Stdout, onlyStderr.Stderr = nil, nil, new("")
	for set, a := range map[string]remediation.Action{
		"stdout = NULL, stderr = NULL": full, "stdout = NULL": onlyStdout, "stderr = NULL": onlyStderr,
	} {
		a = l.store(t, a)
		after := l.lastEvent(t)
		earliest := time.Now().Add(-time.Minute)
		for _, set := range []string{"stdout = stdout, stderr = stderr", set, set} { // the last one finds nothing to clear
			if err := l.update(t, a.ID, set); err != nil {
				t.Fatal(err)
			}
		}
		got := l.mustEvents(t, after)
		if len(got) != 1 {
			t.Fatalf("%d events after clearing the outputs, want 1: %v", len(got), got)
		}
		if at := got[0].OccurredAt; at.Before(earliest) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("cleared at %s, want about now", at)
		}
		got[0].ID, got[0].OccurredAt = 0, time.Time{}
		same(t, "the event", got[0], remediation.Event{ActionID: a.ID, ServerID: a.ServerID, Kind: remediation.EventOutputCleared})
	}
	rejected := l.store(t, withdrawn())
	after := l.lastEvent(t)
	if err := l.update(t, rejected.ID, "stdout = NULL, stderr = NULL"); err != nil {
		t.Fatal(err)
	}
	sameEvents(t, "after an update with nothing to clear", l.mustEvents(t, after), nil)
}

func (l *ledger) TestEventsOfBulkAndSweepAreRecordedPerAction(t *testing.T) {
	approved, rejected := l.storePending(t, 3), l.storePending(t, 3)
	after := l.lastEvent(t)
	l.clock.tick()
	if _, err := l.ApproveMany(t.Context(), approved, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.RejectMany(t.Context(), rejected, "carol", "no"); err != nil {
		t.Fatal(err)
	}
	for range approved {
		l.mustClaim(t, normal)
	}
	l.clock.tick()
	if _, err := l.FailOverdue(t.Context(), time.Second, 10); err != nil {
		t.Fatal(err)
	}
	all := l.mustEvents(t, after)
	for _, id := range slices.Concat(approved, rejected) {
		own := slices.DeleteFunc(slices.Clone(all), func(e remediation.Event) bool { return e.ActionID != id })
		sameEvents(t, "events of one action", own, history(l.mustGet(t, id))[1:])
	}
	same(t, "number of events", len(all), 3*len(approved)+len(rejected))
}

func (l *ledger) TestEventsAreNotRecordedForRefusedChanges(t *testing.T) {
	in := map[remediation.Status]remediation.Action{}
	for _, status := range remediation.Statuses() {
		in[status] = l.actionIn(t, status)
	}
	l.mustCreate(t, keyed(normal, "apt"))
	before := l.mustEvents(t, 0)
	for status, a := range in {
		for _, s := range steps {
			if s.from != status {
				_, err := s.call(t.Context(), l.Ledger, paused, a.ID)
				wantError(t, s.name, err, remediation.ErrInvalidTransition)
			}
		}
		if err := l.update(t, a.ID, "command = 'reboot'"); err == nil {
			t.Error("a raw change of the command was accepted")
		}
		if err := l.update(t, a.ID, "status = 'executing'"); err == nil {
			t.Error("a raw change of the status alone was accepted")
		}
	}
	if _, err := l.Create(t.Context(), newAction("nowhere")); err == nil {
		t.Error("Create on an unknown server succeeded")
	}
	if _, err := l.Create(t.Context(), keyed(normal, "apt")); err == nil {
		t.Error("a duplicate was created")
	}
	bad := rowOf(example(remediation.Completed))
	bad["exit_code"] = "1"
	if _, err := l.insert(t, bad); err == nil {
		t.Error("a completed row with exit code 1 was accepted")
	}
	if _, err := l.ApproveMany(t.Context(), []int64{in[remediation.Rejected].ID, 1 << 62}, "bob"); err != nil {
		t.Error(err)
	}
	same(t, "events after the refused changes", l.mustEvents(t, 0), before)
}

func (l *ledger) TestEventsAreNotRecordedForARolledBackTransaction(t *testing.T) {
	pending := l.actionIn(t, remediation.Pending)
	before := l.mustEvents(t, 0)
	tx := l.db.Begin(t)
	makeChanges(t, l.on(tx.Store), l.clock.now)
	if _, err := l.on(tx.Store).Approve(t.Context(), pending.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	same(t, "after a rollback", l.mustEvents(t, 0), before)

	tx = l.db.Begin(t)
	var want []remediation.Event
	for _, a := range makeChanges(t, l.on(tx.Store), l.clock.now) {
		want = append(want, history(a)...)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	got := l.mustEvents(t, l.lastID(before))
	same(t, "number of events after the commit", len(got), len(want))
	a := l.advance(t, pending, approve)
	got = l.mustEvents(t, l.lastID(got))
	sameEvents(t, "after the commit", got, history(a)[1:])
}

// lastID returns the id of the last event of a list that is not empty.
func (l *ledger) lastID(events []remediation.Event) int64 { return events[len(events)-1].ID }

func (l *ledger) TestEventsOutliveTheServer(t *testing.T) {
	var actions []remediation.Action
	for _, a := range append(examples(), withdrawn()) {
		actions = append(actions, l.store(t, a))
	}
	kept := l.actionIn(t, remediation.Completed)
	before := l.mustEvents(t, 0)
	earliest := time.Now().Add(-time.Minute)
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	same(t, "events from before the deletion", l.mustEvents(t, 0)[:len(before)], before)

	got := l.mustEvents(t, l.lastID(before))
	same(t, "number of new events", len(got), len(actions))
	for _, a := range actions {
		i := slices.IndexFunc(got, func(e remediation.Event) bool { return e.ActionID == a.ID })
		if i < 0 {
			t.Errorf("no new event of deleted action %d", a.ID)
			continue
		}
		e := got[i]
		if e.OccurredAt.Before(earliest) || e.OccurredAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("deleted at %s, want about now", e.OccurredAt)
		}
		same(t, "zone of occurred_at", e.OccurredAt, e.OccurredAt.UTC())
		e.ID, e.OccurredAt = 0, time.Time{}
		same(t, "the event", e, remediation.Event{
			ActionID: a.ID, ServerID: normal, Kind: remediation.EventDeleted, Detail: new(string(a.Status)),
		})
	}
	same(t, "the other server's action", l.mustGet(t, kept.ID), kept)
}

func (l *ledger) TestEventsAreAppendOnly(t *testing.T) {
	a := l.actionIn(t, remediation.Completed)
	other := l.actionIn(t, remediation.Rejected)
	refuse := func(query string) {
		t.Helper()
		before := l.mustEvents(t, 0)
		if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
			t.Errorf("%s was accepted", query)
		}
		same(t, "after "+query, l.mustEvents(t, 0), before)
	}
	sets := []string{"id = id + 1000", "action_id = 1000", "server_id = 'x'", "kind = 'failed'", "actor = 'mallory'", "actor = NULL",
		"occurred_at = " + literal(at(30)), "detail = 'x'", "detail = NULL", "detail = detail"}
	for _, set := range sets {
		refuse("UPDATE remediation_events SET " + set)
		refuse("UPDATE remediation_events SET " + set + " WHERE action_id = " + number(a.ID))
	}
	refuse("DELETE FROM remediation_events")
	refuse("DELETE FROM remediation_events WHERE action_id = " + number(a.ID))
	refuse("DELETE FROM remediation_events WHERE kind = 'created'")

	l.exec(t, "DELETE FROM remediation_actions WHERE id = "+number(a.ID))
	for _, set := range sets {
		refuse("UPDATE remediation_events SET " + set + " WHERE action_id = " + number(a.ID))
	}
	refuse("DELETE FROM remediation_events") // the other action still exists
	l.exec(t, "DELETE FROM remediation_events WHERE action_id = "+number(a.ID))
	sameEvents(t, "remaining events", l.mustEvents(t, 0), history(other))
}

func (l *ledger) TestEventsArePagedOldestFirst(t *testing.T) {
	for range 30 {
		l.mustCreate(t, newAction(normal)) // two events each
	}
	all := l.mustEvents(t, 0)
	same(t, "number of events", len(all), 60)
	for limit, want := range map[int]int{0: 50, 1: 1, 7: 7, 60: 60, 61: 60, 1000: 60} {
		page, err := l.Events(t.Context(), 0, limit)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the page", page, all[:want])
	}
	for _, i := range []int{0, 29, 58} {
		page, err := l.Events(t.Context(), all[i].ID, 3)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the page after an event", page, all[i+1:min(i+4, len(all))])
	}
	for _, after := range []int64{all[59].ID, all[59].ID + 1, 1 << 62} {
		page, err := l.Events(t.Context(), after, 10)
		if err != nil || len(page) != 0 {
			t.Errorf("after %d: %v, %v, want an empty page", after, page, err)
		}
	}
}

func (l *ledger) TestEventsInputIsValidated(t *testing.T) {
	_, err := l.Events(t.Context(), -1, 10)
	badInput(t, err, "after")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Events(ctx, 0, 10)
	wantError(t, "Events", err, context.Canceled)
}

// TestEventsFeedMissesAndRepeatsNothing reads the feed during writes. Half of the writers use transactions of several
// actions and roll some of them back.
func (l *ledger) TestEventsFeedMissesAndRepeatsNothing(t *testing.T) {
	reader := l.on(l.db.Another(t))
	var beginMu sync.Mutex
	begin := func() Tx { // one at a time: SQLite has one writer, and a transaction among several that wait could time out
		beginMu.Lock()
		defer beginMu.Unlock()
		return l.db.Begin(t)
	}
	writers := l.racers(t, 8)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		race(writers, func(i int, writer *remediation.Ledger) {
			for n := range 8 {
				if i%4 < 2 {
					l.runLifecycles(t, writer, 1)
					continue
				}
				tx := begin()
				l.runLifecycles(t, l.on(tx.Store), 3)
				end := tx.Commit
				if n%3 == 2 {
					end = tx.Rollback
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			}
		})
	}()
	var seen []remediation.Event
	var after int64
	for done := false; ; {
		page, err := reader.Events(t.Context(), after, 5)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 0 {
			seen = append(seen, page...)
			after = page[len(page)-1].ID
			continue
		}
		if done {
			break
		}
		select {
		case <-finished:
			done = true // after one more read
		default:
		}
	}
	same(t, "events that the feed returned", seen, l.mustEvents(t, 0))
	same(t, "number of stored events", l.count(t, "remediation_events"), len(seen))
	ids := map[int64]bool{}
	byAction := map[int64][]remediation.Event{}
	for _, e := range seen {
		if ids[e.ID] {
			t.Fatalf("event %d was returned twice", e.ID)
		}
		ids[e.ID] = true
		byAction[e.ActionID] = append(byAction[e.ActionID], e)
	}
	actions := l.mustList(t, remediation.Filter{Limit: 1000})
	same(t, "number of actions with events", len(byAction), len(actions))
	for _, a := range actions {
		sameEvents(t, "events of one action", byAction[a.ID], history(a))
	}
}

// runLifecycles creates, starts and finishes n actions on the normal server, one after another.
func (l *ledger) runLifecycles(t *testing.T, writer *remediation.Ledger, n int) {
	for range n {
		a, err := writer.Create(t.Context(), newAction(normal))
		if err == nil {
			_, err = writer.Start(t.Context(), a.ID)
		}
		if err == nil {
			_, err = writer.Finish(t.Context(), normal, a.ID, remediation.Result{})
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}
