package conformance

import (
	"context"
	"errors"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the sentinel errors of unknown ids, a Claim without a runnable action, a second Finish and a cancelled
// context.

// wantError expects err to match the sentinel want and none of the others.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, sentinel := range []error{remediation.ErrNotFound, remediation.ErrServerNotFound, remediation.ErrAlertNotFound,
		remediation.ErrNothingToClaim, remediation.ErrInvalidTransition, remediation.ErrInvalidInput,
		remediation.ErrSchemaVersion, context.Canceled} {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Errorf("%s: error is %v, want %v", what, err, want)
			return
		}
	}
}

func (l *ledger) TestUnknownActionIsErrNotFound(t *testing.T) {
	gone := l.mustCreate(t, newAction(normal)).ID
	l.exec(t, "DELETE FROM remediation_actions")
	for _, id := range []int64{gone, 0, -1, 1 << 62} {
		for _, s := range steps {
			got, err := s.call(t.Context(), l.Ledger, normal, id)
			wantError(t, s.name, err, remediation.ErrNotFound)
			same(t, s.name, got, remediation.Action{})
		}
		got, err := l.Get(t.Context(), id)
		wantError(t, "Get", err, remediation.ErrNotFound)
		same(t, "Get", got, remediation.Action{})
	}
}

func (l *ledger) TestUnknownServerIsErrServerNotFound(t *testing.T) {
	before := l.contents(t)
	got, err := l.Create(t.Context(), newAction("nowhere"))
	wantError(t, "Create", err, remediation.ErrServerNotFound)
	same(t, "Create", got, remediation.Action{})
	_, err = l.AddAlert(t.Context(), "nowhere", "down")
	wantError(t, "AddAlert", err, remediation.ErrServerNotFound)
	wantError(t, "Pause", l.Pause(t.Context(), "nowhere"), remediation.ErrServerNotFound)
	wantError(t, "Unpause", l.Unpause(t.Context(), "nowhere"), remediation.ErrServerNotFound)
	same(t, "after the refused calls", l.contents(t), before)
}

func (l *ledger) TestClaimWithoutARunnableActionIsErrNothingToClaim(t *testing.T) {
	l.nothingToClaim(t, "nowhere") // no such server
	l.nothingToClaim(t, normal)    // no actions
	l.actionIn(t, remediation.Pending)
	l.nothingToClaim(t, paused) // only a pending action
	l.mustCreate(t, newAction(normal))
	l.mustPause(t, normal)
	l.nothingToClaim(t, normal) // only an action that maintenance holds
}

func (l *ledger) TestFinishIsScopedToTheServer(t *testing.T) {
	for _, status := range remediation.Statuses() {
		before := l.actionIn(t, status)
		for _, serverID := range []string{normal, "nowhere"} {
			_, err := l.Finish(t.Context(), serverID, before.ID, remediation.Result{Stdout: "mine"})
			wantError(t, "Finish of an action that is "+string(status), err, remediation.ErrNotFound)
		}
		same(t, "the other server's action", l.mustGet(t, before.ID), before)
	}
}

func (l *ledger) TestSecondFinishReportsTheStatusAfterTheFirst(t *testing.T) {
	for _, first := range []step{complete, fail} {
		before := l.advance(t, l.actionIn(t, remediation.Executing), first)
		for _, second := range []step{complete, fail} {
			l.clock.tick()
			_, err := second.call(t.Context(), l.Ledger, paused, before.ID)
			refused(t, err, remediation.TransitionError{ID: before.ID, From: first.to, To: second.to})
		}
		same(t, "the first result", l.mustGet(t, before.ID), before)
	}
}

func (l *ledger) TestCancelledContextWritesNothing(t *testing.T) {
	in := map[remediation.Status]remediation.Action{}
	for _, status := range remediation.Statuses() {
		in[status] = l.actionIn(t, status)
	}
	l.mustCreate(t, newAction(normal)) // an action that Claim would return
	before := l.contents(t)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "AddServer", l.AddServer(ctx, "new"), context.Canceled)
	wantError(t, "Pause", l.Pause(ctx, normal), context.Canceled)
	wantError(t, "Unpause", l.Unpause(ctx, paused), context.Canceled)
	_, err := l.AddAlert(ctx, normal, "down")
	wantError(t, "AddAlert", err, context.Canceled)
	_, err = l.Create(ctx, newAction(normal))
	wantError(t, "Create", err, context.Canceled)
	_, err = l.Claim(ctx, normal)
	wantError(t, "Claim", err, context.Canceled)
	for _, s := range steps {
		_, err = s.call(ctx, l.Ledger, paused, in[s.from].ID)
		wantError(t, s.name, err, context.Canceled)
	}
	_, err = l.Get(ctx, in[remediation.Pending].ID)
	wantError(t, "Get", err, context.Canceled)
	_, err = l.List(ctx, remediation.Filter{})
	wantError(t, "List", err, context.Canceled)
	same(t, "after the cancelled calls", l.contents(t), before)

	// The first call on a store also checks the database. A cancelled first call must not make later calls fail.
	other := l.on(l.db.Another(t))
	_, err = other.Create(ctx, newAction(normal))
	wantError(t, "the first call on a store", err, context.Canceled)
	if _, err := other.Create(t.Context(), newAction(normal)); err != nil {
		t.Errorf("after a cancelled first call: %v", err)
	}
}
