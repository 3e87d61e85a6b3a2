package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Explain: the reason that it reports for an action in each status, and its sentence.

func (l *ledger) mustExplain(t *testing.T, id int64) remediation.Explanation {
	t.Helper()
	e, err := l.Explain(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantExplanation expects the explanation want, and that its sentence contains the parts.
func (l *ledger) wantExplanation(t *testing.T, want remediation.Explanation, parts ...string) {
	t.Helper()
	got := l.mustExplain(t, want.ActionID)
	same(t, "Explain", got, want)
	s := got.String()
	if strings.Contains(s, "\n") || strings.Contains(s, "%!") {
		t.Errorf("%q is not one line of text", s)
	}
	for _, part := range append(parts, "action "+number(want.ActionID)) {
		if !strings.Contains(s, part) {
			t.Errorf("%q doesn't say %q", s, part)
		}
	}
}

func (l *ledger) TestExplainReportsAwaitingApproval(t *testing.T) {
	l.actionIn(t, remediation.Executing) // neither is reported as ahead of a pending action
	l.actionIn(t, remediation.Approved)
	a := l.actionIn(t, remediation.Pending)
	for range 2 {
		l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Pending,
			Reason: remediation.ReasonAwaitingApproval, Since: a.CreatedAt},
			"approval", a.CreatedAt.Format(time.DateTime))
		l.mustUnpause(t, paused) // the end of maintenance does not approve pending actions
	}
}

func (l *ledger) TestExplainReportsMaintenance(t *testing.T) {
	first, a := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	since := l.clock.tick()
	l.mustPause(t, normal)
	l.clock.tick()
	l.mustPause(t, normal) // a no-op: the time of the first call is kept
	for _, id := range []int64{a.ID, first.ID} {
		l.wantExplanation(t, remediation.Explanation{ActionID: id, ServerID: normal, Status: remediation.Approved,
			Reason: remediation.ReasonMaintenance, Since: since, By: remediation.AutoApprover},
			"maintenance", normal, since.Format(time.DateTime))
	}
	l.mustUnpause(t, normal)
	l.wantExplanation(t, remediation.Explanation{ActionID: first.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonUnclaimed, Since: *first.ApprovedAt, By: remediation.AutoApprover}, "next", normal)
}

func (l *ledger) TestExplainReportsTheActionAhead(t *testing.T) {
	if err := l.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	l.mustCreate(t, newAction("web-2")) // actions of other servers are not ahead
	first, second, third := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	behind := func(a remediation.Action, ahead int64) {
		t.Helper()
		l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: normal, Status: remediation.Approved,
			Reason: remediation.ReasonBehind, Since: *a.ApprovedAt, By: remediation.AutoApprover, Behind: ahead},
			"behind action "+number(ahead), normal)
	}
	next := func(a remediation.Action) {
		t.Helper()
		l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: normal, Status: remediation.Approved,
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

func (l *ledger) TestExplainSkipsActionsHeldByMaintenance(t *testing.T) {
	l.mustCreate(t, newAction(normal)) // held as soon as the server is paused
	l.mustPause(t, normal)
	a, b := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	l.actionIn(t, remediation.Approved) // on the other server
	b = l.advance(t, b, approve)
	l.wantExplanation(t, remediation.Explanation{ActionID: b.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonUnclaimed, Since: *b.ApprovedAt, By: "bob"}, "next")
	a = l.advance(t, a, approve)
	l.wantExplanation(t, remediation.Explanation{ActionID: b.ID, ServerID: normal, Status: remediation.Approved,
		Reason: remediation.ReasonBehind, Since: *b.ApprovedAt, By: "bob", Behind: a.ID}, "behind action "+number(a.ID))
}

// Explain calls exactly one waiting action the next one, and Claim returns that action.
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
			same(t, "next actions by Explain", next, []int64{a.ID})
			l.advance(t, a, complete)
		}
		l.nothingToClaim(t, normal)
	}
}

func (l *ledger) TestExplainReportsExecutionAndResult(t *testing.T) {
	a := l.advance(t, l.actionIn(t, remediation.Approved), start)
	l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Executing,
		Reason: remediation.ReasonExecuting, Since: *a.ExecutedAt, By: "bob"},
		"executing", paused, a.ExecutedAt.Format(time.DateTime))
	a = l.advance(t, a, complete)
	l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Completed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob", Detail: "0"},
		"completed", "exit code 0", a.CompletedAt.Format(time.DateTime))
	a = l.actionIn(t, remediation.Failed)
	l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Failed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob", Detail: "3"}, "failed", "exit code 3")
	l.actionIn(t, remediation.Executing)
	l.clock.tick()
	a = l.mustFailOverdue(t, time.Second, 1)[0]
	l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: paused, Status: remediation.Failed,
		Reason: remediation.ReasonFinished, Since: *a.CompletedAt, By: "bob"}, "failed", "without an exit code")
}

func (l *ledger) TestExplainReportsTheRejection(t *testing.T) {
	for _, a := range []remediation.Action{
		l.actionIn(t, remediation.Rejected), l.advance(t, l.actionIn(t, remediation.Approved), withdraw), l.advance(t, l.mustCreate(t, newAction(normal)), withdraw),
	} {
		l.wantExplanation(t, remediation.Explanation{ActionID: a.ID, ServerID: a.ServerID, Status: remediation.Rejected,
			Reason: remediation.ReasonRejected, Since: *a.RejectedAt, By: *a.RejectedBy, Detail: *a.RejectionReason},
			"rejected by "+*a.RejectedBy, *a.RejectionReason, a.RejectedAt.Format(time.DateTime))
	}
}

func (l *ledger) TestExplainOfUnknownActionIsErrNotFound(t *testing.T) {
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
