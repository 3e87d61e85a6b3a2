package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

func (l *ledger) mustExplain(t *testing.T, id int64) remediation.Explanation {
	t.Helper()
	e, err := l.Explain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// explained expects the explanation, and that its sentence has these parts.
func (l *ledger) explained(t *testing.T, want remediation.Explanation, parts ...string) {
	t.Helper()
	got := l.mustExplain(t, want.ActionID)
	same(t, "Explain", got, want)
	s := got.String()
	if strings.Contains(s, "\n") || strings.Contains(s, "%!") {
		t.Errorf("%q is no sentence", s)
	}
	for _, part := range append(parts, "action "+number(want.ActionID)) {
		if !strings.Contains(s, part) {
			t.Errorf("%q doesn't say %q", s, part)
		}
	}
}

func (l *ledger) TestExplainNamesThePersonThatIsAwaited(t *testing.T) {
	l.actionIn(t, remediation.Executing) // neither is before what waits for a person
	l.actionIn(t, remediation.Approved)
	a := l.actionIn(t, remediation.Pending)
	for range 2 {
		l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Pending,
			Reason: remediation.ReasonAwaitingApproval, Since: a.CreatedAt},
			"approval", a.CreatedAt.Format(time.DateTime))
		l.mustUnpause(t, paused) // the end of the maintenance approves nothing
	}
}

func (l *ledger) TestExplainNamesTheMaintenanceThatHolds(t *testing.T) {
	first, a := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	since := l.clock.tick()
	l.mustPause(t, normal)
	l.clock.tick()
	l.mustPause(t, normal) // once more: the first time counts
	for _, id := range []int64{a.ID, first.ID} {
		l.explained(t, remediation.Explanation{ActionID: id, ServerID: normal, Status: remediation.Approved,
			Reason: remediation.ReasonMaintenance, Since: since, By: remediation.AutoApprover},
			"maintenance", normal, since.Format(time.DateTime))
	}
	l.mustUnpause(t, normal)
	l.explained(t, remediation.Explanation{ActionID: first.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonUnclaimed, Since: *first.ApprovedAt, By: remediation.AutoApprover}, "next", normal)
}

func (l *ledger) TestExplainNamesWhatIsAhead(t *testing.T) {
	if err := l.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	l.mustCreate(t, newAction("web-2")) // another server's are not before it
	first, second, third := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	behind := func(a remediation.Action, ahead int64) {
		t.Helper()
		l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: normal, Status: remediation.Approved,
			Reason: remediation.ReasonBehind, Since: *a.ApprovedAt, By: remediation.AutoApprover, Behind: ahead},
			"behind action "+number(ahead), normal)
	}
	next := func(a remediation.Action) {
		t.Helper()
		l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: normal, Status: remediation.Approved,
			Reason: remediation.ReasonUnclaimed, Since: *a.ApprovedAt, By: remediation.AutoApprover}, "next")
	}
	next(first)
	behind(second, first.ID)
	behind(third, first.ID)
	l.mustClaim(t, normal)
	behind(second, first.ID) // executing now
	behind(third, first.ID)
	l.advance(t, first, complete)
	next(second)
	behind(third, second.ID)
	l.advance(t, second, withdraw)
	next(third)
}

func (l *ledger) TestExplainPassesOverWhatMaintenanceHolds(t *testing.T) {
	l.mustCreate(t, newAction(normal)) // held once the server is paused
	l.mustPause(t, normal)
	a, b := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	l.actionIn(t, remediation.Approved) // the other server's
	b = l.advance(t, b, approve)
	l.explained(t, remediation.Explanation{ActionID: b.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonUnclaimed, Since: *b.ApprovedAt, By: "bob"}, "next")
	a = l.advance(t, a, approve)
	l.explained(t, remediation.Explanation{ActionID: b.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonBehind, Since: *b.ApprovedAt, By: "bob", Behind: a.ID}, "behind action "+number(a.ID))
}

// Of all that wait, the one that is next is the one that Claim delivers.
func (l *ledger) TestExplainAgreesWithClaim(t *testing.T) {
	var all []int64
	for i := range 8 {
		if i%3 == 1 {
			l.mustPause(t, normal)
		}
		a := l.mustCreate(t, newAction(normal))
		all = append(all, a.ID)
		if a.Status == remediation.Pending && i%2 == 0 {
			l.advance(t, a, approve)
		}
		if i%3 == 2 {
			l.mustUnpause(t, normal)
		}
	}
	for _, mode := range []func(*testing.T, string){l.mustPause, l.mustUnpause} {
		mode(t, normal)
		for {
			var next []int64
			for _, id := range all {
				if l.mustExplain(t, id).Reason == remediation.ReasonUnclaimed {
					next = append(next, id)
				}
			}
			if len(next) == 0 {
				break
			}
			a := l.mustClaim(t, normal)
			same(t, "next", next, []int64{a.ID})
			l.advance(t, a, complete)
		}
		l.nothingToClaim(t, normal)
	}
}

func (l *ledger) TestExplainFollowsAnActionToItsEnd(t *testing.T) {
	a := l.advance(t, l.actionIn(t, remediation.Approved), start)
	l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Executing,
		Reason: remediation.ReasonExecuting, Since: *a.ExecutedAt, By: "bob"},
		"executing", paused, a.ExecutedAt.Format(time.DateTime))
	a = l.advance(t, a, complete)
	l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Completed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob", Detail: "0"},
		"completed", "exit code 0", a.CompletedAt.Format(time.DateTime))
	a = l.actionIn(t, remediation.Failed)
	l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Failed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob", Detail: "3"}, "failed", "exit code 3")
	l.actionIn(t, remediation.Executing)
	l.clock.tick()
	a = l.mustFailOverdue(t, time.Second, 1)[0]
	l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Failed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob"}, "failed", "without an exit code")
}

func (l *ledger) TestExplainNamesWhoRejected(t *testing.T) {
	for _, a := range []remediation.Action{
		l.actionIn(t, remediation.Rejected), l.advance(t, l.actionIn(t, remediation.Approved), withdraw), l.advance(t, l.mustCreate(t, newAction(normal)), withdraw),
	} {
		l.explained(t, remediation.Explanation{ActionID: a.ID, ServerID: a.ServerID, Status: remediation.Rejected,
			Reason: remediation.ReasonRejected, Since: *a.RejectedAt, By: *a.RejectedBy, Detail: *a.RejectionReason},
			"rejected by "+*a.RejectedBy, *a.RejectionReason, a.RejectedAt.Format(time.DateTime))
	}
}

func (l *ledger) TestExplainOfUnknownIsErrNotFound(t *testing.T) {
	gone := l.mustCreate(t, newAction(normal)).ID
	l.exec(t, "DELETE FROM remediation_actions")
	for _, id := range []int64{gone, 0, -1, 1 << 62} {
		e, err := l.Explain(t.Context(), id)
		wantError(t, "Explain", err, remediation.ErrNotFound)
		same(t, "Explain", e, remediation.Explanation{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Explain(ctx, l.mustCreate(t, newAction(normal)).ID)
	wantError(t, "Explain", err, context.Canceled)
}
