package soak

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Random sequences of calls run on the ledger and on a model. Every answer must match the model, raw SQL that breaks a
// rule must be refused, and in the end the database must match the model.
func TestRandomSequencesMatchTheModel(t *testing.T) {
	onEngines(t, func(t *testing.T, d database) {
		s := &sequence{ctx: t.Context(), db: d.raw(t), postgres: d.isPostgres(), steps: map[string]int{}}
		s.ledger = d.ledger(t, remediation.WithClock(func() time.Time { return s.now }))
		sequences := 0
		r := newRun(t, 2, func() string {
			n := 0
			for _, times := range s.steps {
				n += times
			}
			return fmt.Sprintf("%d steps of %d kinds in %d sequences, %d transitions, %d actions pruned, %d raw statements refused",
				n, len(s.steps), sequences, s.transitions, s.pruned, s.refused)
		})
		checks := "10"
		if *length > 0 {
			checks = "20"
		}
		if testing.Short() {
			checks += "0" // internal/mutants uses -short, with which rapid divides by 5, and needs as many checks
		}
		setRapid(t, "checks", checks)
		setRapid(t, "steps", "80")
		setRapid(t, "shrinktime", "10s")
		setRapid(t, "nofailfile", "true") // the seed repeats a failure
		for r.next() {
			// rapid takes 0 for a random seed. To repeat a failure use -seed, not the flag that rapid prints.
			setRapid(t, "seed", strconv.FormatUint(r.Uint64()|1, 10))
			rapid.Check(t, func(rt *rapid.T) {
				sequences++
				s.reset(rt)
				rt.Repeat(s.kinds())
				s.rawInsertLimits(rt)
			})
		}
	})
}

// setRapid sets one of rapid's flags until the test ends. rapid can only be configured with flags.
func setRapid(t *testing.T, name, value string) {
	f := flag.Lookup("rapid." + name)
	before := f.Value.String()
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Value.Set(before) })
}

// sequence is a random sequence of steps on a database, with its model.
type sequence struct {
	ctx      context.Context
	db       *sql.DB
	ledger   *remediation.Ledger
	postgres bool

	steps                        map[string]int
	transitions, pruned, refused int

	now        time.Time
	modelState modelState
	maxID      int64                         // greatest ID of an action so far
	events     map[int64][]remediation.Event // by action, as the model expects them
	withKey    []remediation.NewAction       // successful requests with an idempotency key
	feedID     int64                         // last event read from the feed
	feedEvents map[int64][]remediation.Event
}

// reset empties the database and the model. IDs start at 1 again, so that a repeated failure has the same message, as
// rapid expects.
func (s *sequence) reset(t *rapid.T) {
	reset := []string{"DELETE FROM servers", "DELETE FROM remediation_events"}
	if s.postgres {
		reset = append(reset, "DELETE FROM remediation_events_gone") // positions of IDs that are used again
		for _, table := range []string{"alerts", "remediation_actions", "remediation_events"} {
			reset = append(reset, "ALTER TABLE "+table+" ALTER COLUMN id RESTART")
		}
	} else {
		reset = append(reset, "DELETE FROM sqlite_sequence")
	}
	for _, statement := range reset {
		s.exec(t, statement)
	}
	s.now = time.Date(2026, 11, 23, 13, 17, 9, 47807379, time.UTC)
	s.modelState = modelState{servers: map[string]mode{}, risingIDs: true}
	s.maxID, s.feedID, s.withKey = 0, 0, nil
	s.events, s.feedEvents = map[int64][]remediation.Event{}, map[int64][]remediation.Event{}
	for _, server := range servers[:2] {
		s.do(t, call{Method: "AddServer", Server: server})
	}
	s.do(t, call{Method: "Pause", Server: servers[1]})
	s.do(t, call{Method: "ForbidSelfApproval", Server: servers[1], Forbid: true})
}

// kinds returns the steps of a sequence, each as often as its weight. rapid draws the first names more often than the
// last.
func (s *sequence) kinds() map[string]func(*rapid.T) {
	kinds := map[string]func(*rapid.T){}
	for i, kind := range []struct {
		name  string
		times int
		step  func(*rapid.T)
	}{
		{"Create", 6, s.create}, {"Claim", 3, s.claim}, {"Finish", 3, s.finish}, {"clock advances", 2, s.tick},
		{"Pause", 1, s.pause}, {"Approve", 3, s.approve}, {"Start", 1, s.start}, {"Unpause", 1, s.unpause},
		{"Create again", 2, s.createAgain}, {"Heartbeat", 2, s.heartbeat}, {"limit reached", 3, s.reachLimit},
		{"Expire", 1, s.expire}, {"RequestCancel", 1, s.requestCancel},
		{"raw limits", 2, s.rawLimits}, {"raw insert with limits", 1, s.rawInsertLimits},
		{"ApproveMany", 1, s.approveMany}, {"Reject", 1, s.reject}, {"Withdraw", 1, s.withdraw}, {"FailOverdue", 2, s.failOverdue},
		{"ClearOutput", 2, s.clearOutput}, {"Explain", 2, s.explain}, {"List", 2, s.list}, {"Prune", 1, s.prune},
		{"RejectMany", 1, s.rejectMany}, {"AddAlert", 1, s.addAlert}, {"alert deleted", 1, s.deleteAlert},
		{"raw status", 2, s.rawStatus}, {"raw field", 2, s.rawField}, {"raw insert", 1, s.rawInsert}, {"raw event", 1, s.rawEvent},
		{"ForbidSelfApproval", 1, s.forbidSelfApproval}, {"Servers", 1, s.readServers},
		{"Get", 1, s.get}, {"Counts", 1, s.counts}, {"Events", 1, s.readEvents}, {"bad input", 1, s.badInput},
		{"AddServer", 1, s.addServer}, {"clock set back", 1, s.setBack},
		{"create many", 1, s.createMany},
	} {
		for n := range kind.times {
			kinds[fmt.Sprintf("%02d %s %d", i, kind.name, n)] = func(t *rapid.T) {
				kind.step(t)
				s.steps[kind.name]++
			}
		}
	}
	return kinds
}

// do makes a call and compares its answer with the model's.
func (s *sequence) do(t *rapid.T, c call) {
	c.At = s.now
	c.Answer = c.make(s.ctx, s.ledger)
	next, want := s.modelState.apply(c)
	if diff := cmp.Diff(want, c.Answer); diff != "" {
		t.Fatalf("%s (-model +ledger):\n%s", c, diff)
	}
	before := s.modelState
	s.advance(next)
	for _, a := range c.Answer.Actions {
		if _, known := before.find(a.ID); c.Method == "Create" && !known {
			if a.ID <= s.maxID {
				t.Fatalf("action ID %d is not greater than all earlier ones", a.ID)
			}
			if a.IdempotencyKey != nil {
				s.withKey = append(s.withKey, c.New)
			}
		}
		s.maxID = max(s.maxID, a.ID)
	}
}

// advance changes the model to its next state, and adds the events that the change must produce.
func (s *sequence) advance(next modelState) {
	for _, a := range next.actions {
		before := remediation.Action{}
		if i, ok := s.modelState.find(a.ID); ok {
			before = s.modelState.actions[i]
		}
		s.events[a.ID] = append(s.events[a.ID], expectedEvents(before, a)...)
		if before.ID != 0 && before.Status != a.Status {
			s.transitions++
		}
	}
	for _, a := range s.modelState.actions {
		if _, ok := next.find(a.ID); !ok {
			s.pruned++
			s.events[a.ID] = append(s.events[a.ID], remediation.Event{ActionID: a.ID, ServerID: a.ServerID,
				Kind: remediation.EventDeleted, Detail: new(string(a.Status))})
		}
	}
	s.modelState = next
}

// expectedEvents returns the events of a change of an action.
func expectedEvents(before, a remediation.Action) (events []remediation.Event) {
	record := func(kind remediation.EventKind, actor *string, at time.Time, detail *string) {
		events = append(events, remediation.Event{
			ActionID: a.ID, ServerID: a.ServerID, Kind: kind, Actor: actor, OccurredAt: at, Detail: detail})
	}
	if before.ID == 0 {
		record(remediation.EventCreated, &a.CreatedBy, a.CreatedAt, &a.Command)
	}
	if before.Status == a.Status {
		if before.CancelRequestedAt == nil && a.CancelRequestedAt != nil {
			record(remediation.EventCancelRequested, a.CancelRequestedBy, *a.CancelRequestedAt, a.CancelReason)
		}
		if (before.Stdout != nil || before.Stderr != nil) && a.Stdout == nil && a.Stderr == nil {
			record(remediation.EventOutputCleared, nil, time.Time{}, nil)
		}
		return events
	}
	switch a.Status {
	case remediation.Approved:
		record(remediation.EventApproved, a.ApprovedBy, *a.ApprovedAt, nil)
	case remediation.Rejected:
		record(remediation.EventRejected, a.RejectedBy, *a.RejectedAt, a.RejectionReason)
	case remediation.Executing:
		record(remediation.EventExecuting, &a.ServerID, *a.ExecutedAt, nil)
	case remediation.Completed, remediation.Failed:
		if a.ExitCode == nil {
			record(remediation.EventFailed, nil, *a.CompletedAt, nil)
		} else {
			record(remediation.EventKind(a.Status), &a.ServerID, *a.CompletedAt, new(fmt.Sprint(*a.ExitCode)))
		}
	}
	return events
}

// compare expects the database to have exactly the actions and events of the model.
func (s *sequence) compare(t *rapid.T) {
	t.Helper()
	var stored []remediation.Action
	for id := range s.maxID + 1 {
		a, err := s.ledger.Get(s.ctx, id)
		if err == nil {
			stored = append(stored, a)
		} else if got := answerOf(err); got.Err != remediation.ErrNotFound.Error() {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(s.modelState.actions, stored, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("stored actions (-model +ledger):\n%s", diff)
	}
	s.readEvents(t)
}
