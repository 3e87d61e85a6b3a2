package soak

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random steps that read, or that decide many actions at once.

func (s *sequence) approveMany(t *rapid.T) {
	ids, by := rapid.SliceOfN(rapid.Custom(s.pending), 0, 5).Draw(t, "ids"), pick(t, "by", people)
	if len(ids) > 0 && rapid.Bool().Draw(t, "own") {
		if i, ok := s.modelState.find(ids[0]); ok {
			by = s.modelState.actions[i].CreatedBy
		}
	}
	got, err := s.ledger.ApproveMany(s.ctx, ids, by)
	s.checkOutcomes(t, ids, call{Method: "Approve", By: by}, got, err)
}

func (s *sequence) rejectMany(t *rapid.T) {
	ids := rapid.SliceOfN(rapid.Custom(s.pending), 0, 5).Draw(t, "ids")
	by, reason := pick(t, "by", people), pick(t, "reason", texts)
	got, err := s.ledger.RejectMany(s.ctx, ids, by, reason)
	s.checkOutcomes(t, ids, call{Method: "Reject", By: by, Reason: reason}, got, err)
}

func (s *sequence) pending(t *rapid.T) int64 { return s.id(t, remediation.Pending) }

// checkOutcomes expects a bulk decision to decide each action once. A repeated ID gets the outcome of the first.
func (s *sequence) checkOutcomes(t *rapid.T, ids []int64, c call, outcomes []remediation.Outcome, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	next, decisions := s.modelState, map[int64]answer{}
	var want, got []answer
	for _, id := range ids {
		if _, again := decisions[id]; !again {
			c.ID, c.At = id, s.now
			next, decisions[id] = next.apply(c)
		}
		want = append(want, decisions[id])
	}
	for i, outcome := range outcomes {
		if outcome.ID != ids[i] {
			t.Fatalf("outcome %d has ID %d, want %d", i, outcome.ID, ids[i])
		}
		got = append(got, answerOf(outcome.Err, outcome.Action))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s of %v (-model +ledger):\n%s", c.Method, ids, diff)
	}
	s.advance(next)
}

func (s *sequence) list(t *rapid.T) {
	f := remediation.Filter{Limit: rapid.IntRange(0, 4).Draw(t, "limit")}
	if server := pickOptional(t, "server", servers); server != nil {
		f.ServerID = *server
	}
	if actionType := pickOptional(t, "type", types); actionType != nil {
		f.ActionType = *actionType
	}
	if status := pickOptional(t, "status", remediation.Statuses()); status != nil {
		f.Status = *status
	}
	if rapid.IntRange(0, 3).Draw(t, "by alert") == 0 {
		f.AlertID = new(s.alert(t))
	}
	if rapid.Bool().Draw(t, "a later page") {
		f.Before = s.id(t, remediation.Completed)
	}
	var want []remediation.Action
	for _, a := range slices.Backward(s.modelState.actions) {
		if (f.ServerID == "" || a.ServerID == f.ServerID) && (f.ActionType == "" || a.ActionType == f.ActionType) &&
			(f.Status == "" || a.Status == f.Status) && (f.Before == 0 || a.ID < f.Before) &&
			(f.AlertID == nil || a.AlertID != nil && *a.AlertID == *f.AlertID) {
			a.Stdout, a.Stderr = nil, nil
			want = append(want, a)
		}
	}
	var all []remediation.Action
	for a, err := range s.ledger.All(s.ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Fatalf("All(%+v) (-model +ledger):\n%s", f, diff)
	}
	page, err := s.ledger.List(s.ctx, f)
	limit := f.Limit
	if limit == 0 {
		limit = 50
	}
	want = want[:min(limit, len(want))]
	if diff := cmp.Diff(answer{Actions: want}, answerOf(err, page...)); diff != "" {
		t.Fatalf("List(%+v) (-model +ledger):\n%s", f, diff)
	}
}

func (s *sequence) counts(t *rapid.T) {
	named := rapid.SliceOfDistinct(rapid.SampledFrom(remediation.Statuses()), rapid.ID[remediation.Status]).Draw(t, "statuses")
	want := map[remediation.Status]int64{}
	for _, status := range named {
		want[status] = 0
	}
	if len(named) == 0 {
		for _, status := range remediation.Statuses() {
			want[status] = 0
		}
	}
	for _, a := range s.modelState.actions {
		if _, ok := want[a.Status]; ok {
			want[a.Status]++
		}
	}
	got, err := s.ledger.Counts(s.ctx, named...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Counts(%v) (-model +ledger):\n%s", named, diff)
	}
}

func (s *sequence) explain(t *rapid.T) {
	id := s.id(t, remediation.Approved)
	got, err := s.ledger.Explain(s.ctx, id)
	i, ok := s.modelState.find(id)
	if !ok {
		if got := answerOf(err); got.Err != remediation.ErrNotFound.Error() {
			t.Fatalf("Explain(%d): %v", id, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := s.modelState.explanation(s.modelState.actions[i], s.now.Truncate(time.Microsecond))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Explain(%d) (-model +ledger):\n%s", id, diff)
	}
}

// explanation is Explain in the model.
func (m modelState) explanation(a remediation.Action, now time.Time) remediation.Explanation {
	e := remediation.Explanation{ActionID: a.ID, ServerID: a.ServerID, Status: a.Status}
	if a.ApprovedBy != nil {
		e.By = *a.ApprovedBy
	}
	switch a.Status {
	case remediation.Pending:
		e.Reason, e.Since = remediation.ReasonAwaitingApproval, a.CreatedAt
		if expired(a, now) {
			e.Reason, e.Since = remediation.ReasonExpired, *a.ExpiresAt
		}
	case remediation.Rejected:
		e.Reason, e.Since, e.By, e.Detail = remediation.ReasonRejected, *a.RejectedAt, *a.RejectedBy, *a.RejectionReason
	case remediation.Executing:
		e.Reason, e.Since = remediation.ReasonExecuting, *a.ExecutedAt
		if a.CancelRequestedAt != nil {
			e.Detail = fmt.Sprintf("%s asked to cancel it at %s UTC", *a.CancelRequestedBy, a.CancelRequestedAt.Format(time.DateTime))
		}
	case remediation.Completed, remediation.Failed:
		e.Reason, e.Since = remediation.ReasonFinished, *a.CompletedAt
		if a.ExitCode != nil {
			e.Detail = fmt.Sprint(*a.ExitCode)
		}
	case remediation.Approved:
		e.Since = *a.ApprovedAt
		switch e.Reason = m.blockedBy(a, remediation.Executing, "", now); e.Reason {
		case remediation.ReasonMaintenance:
			e.Since = m.servers[a.ServerID].since
		case remediation.ReasonExpired:
			e.Since = *a.ExpiresAt
		case remediation.ReasonNotYetDue:
			e.Detail = a.NotBefore.Format(time.DateTime) + " UTC"
		default:
			e.Reason = remediation.ReasonUnclaimed
			if e.Behind = m.blocker(a, now); e.Behind != 0 {
				e.Reason = remediation.ReasonBehind
			}
		}
	}
	return e
}

// blocker returns the ID of the action that an approved action waits for: the first running action, or else the first
// action that Claim takes before it. It returns 0 if there is none.
func (m modelState) blocker(a remediation.Action, now time.Time) (id int64) {
	for _, other := range m.actions {
		if other.ServerID != a.ServerID {
			continue
		}
		if other.Status == remediation.Executing {
			return other.ID
		}
		if id == 0 && other.ID < a.ID && m.claimable(other, now) {
			id = other.ID
		}
	}
	return id
}

// readEvents reads the feed to its end, in pages, and compares it with the model. It ignores the times of deletions and
// of cleared output, because the database's own clock sets them.
func (s *sequence) readEvents(t *rapid.T) {
	for {
		limit := rapid.IntRange(1, 9).Draw(t, "page")
		page, err := s.ledger.Events(s.ctx, s.feedID, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.ID <= s.feedID {
				t.Fatalf("event %d follows event %d", e.ID, s.feedID)
			}
			s.feedID, e.ID = e.ID, 0
			if e.Kind == remediation.EventDeleted || e.Kind == remediation.EventOutputCleared {
				e.OccurredAt = time.Time{}
			}
			s.feedEvents[e.ActionID] = append(s.feedEvents[e.ActionID], e)
		}
		if len(page) < limit {
			break
		}
	}
	if diff := cmp.Diff(s.events, s.feedEvents); diff != "" {
		t.Fatalf("events by action (-model +ledger):\n%s", diff)
	}
}
