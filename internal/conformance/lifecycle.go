package conformance

import (
	"errors"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the lifecycle (AC1 to AC5): which call works in which status, approval, maintenance and deletion.

func (l *ledger) TestAC1_EveryPathFillsItsFieldsAndNoOthers(t *testing.T) {
	for name, path := range map[string][]step{
		"completed": {approve, start, complete},
		"failed":    {approve, start, fail},
		"rejected":  {reject},
		"withdrawn": {approve, withdraw},
	} {
		got := l.mustCreate(t, newAction(paused))
		want := remediation.Action{
			ID:          got.ID,
			ServerID:    paused,
			ActionType:  "restart_service",
			Status:      remediation.Pending,
			ServiceName: new("nginx"),
			Command:     "systemctl restart nginx",
			CreatedAt:   l.clock.now,
			CreatedBy:   "ann",
		}
		same(t, name+": Create", got, want)
		for _, s := range path {
			want = s.after(want, l.clock.tick())
			got, err := s.call(t.Context(), l.Ledger, paused, want.ID)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			same(t, name+": "+s.name, got, want)
			same(t, name+": Get after "+s.name, l.mustGet(t, want.ID), want)
		}
	}
}

func (l *ledger) TestAC1_EachCallWorksFromItsOwnStatusOnly(t *testing.T) {
	for _, status := range remediation.Statuses() {
		for _, s := range steps {
			t.Run(s.name+" in "+string(status), func(t *testing.T) {
				before := l.actionIn(t, status)
				now := l.clock.tick()
				got, err := s.call(t.Context(), l.Ledger, paused, before.ID)
				if status == s.from {
					if err != nil {
						t.Fatal(err)
					}
					same(t, "the result", got, s.after(before, now))
					same(t, "the row", l.mustGet(t, before.ID), s.after(before, now))
					return
				}
				refused(t, err, remediation.TransitionError{ID: before.ID, From: status, To: s.to})
				same(t, "the result", got, remediation.Action{})
				same(t, "the row", l.mustGet(t, before.ID), before)
			})
		}
	}
}

// refused expects err to be the *TransitionError want.
func refused(t *testing.T, err error, want remediation.TransitionError) {
	t.Helper()
	transition := (*remediation.TransitionError)(nil)
	if !errors.Is(err, remediation.ErrInvalidTransition) || !errors.As(err, &transition) {
		t.Errorf("error is %v, want a *TransitionError", err)
		return
	}
	same(t, "TransitionError", *transition, want)
}

func (l *ledger) TestAC2_NormalServerApprovesAtOnce(t *testing.T) {
	got := l.mustCreate(t, newAction(normal))
	want := remediation.Action{
		ID:          got.ID,
		ServerID:    normal,
		ActionType:  "restart_service",
		Status:      remediation.Approved,
		ServiceName: new("nginx"),
		Command:     "systemctl restart nginx",
		CreatedAt:   at(0),
		CreatedBy:   "ann",
		ApprovedAt:  new(at(0)),
		ApprovedBy:  new(remediation.AutoApprover),
	}
	same(t, "Create", got, want)
	same(t, "Get", l.mustGet(t, got.ID), want)
}

func (l *ledger) TestAC3_ActionCreatedInMaintenanceIsPending(t *testing.T) {
	before := l.mustCreate(t, newAction(normal))
	l.mustPause(t, normal)
	got := l.mustCreate(t, newAction(normal))
	want := before
	want.ID, want.Status, want.ApprovedAt, want.ApprovedBy = got.ID, remediation.Pending, nil, nil
	same(t, "Create under maintenance", got, want)
	same(t, "Get", l.mustGet(t, got.ID), want)
	same(t, "an action that was approved before", l.mustGet(t, before.ID), before)

	l.mustUnpause(t, normal)
	if a := l.mustCreate(t, newAction(normal)); a.Status != remediation.Approved {
		t.Errorf("after the maintenance a new action is %s", a.Status)
	}
}

func (l *ledger) TestAC3_PauseAndUnpauseAreIdempotent(t *testing.T) {
	since := l.clock.tick()
	for range 2 {
		l.mustPause(t, normal)
		l.clock.tick()
		if l.count(t, "servers WHERE id = "+quote(normal)+" AND is_paused = TRUE AND paused_at = "+literal(since)) != 1 {
			t.Fatal("the server is not paused since the first Pause")
		}
	}
	for range 2 {
		l.mustUnpause(t, normal)
		if l.count(t, "servers WHERE id = "+quote(normal)+" AND is_paused = FALSE AND paused_at IS NULL") != 1 {
			t.Fatal("the server is not in normal mode after Unpause")
		}
	}
}

func (l *ledger) TestAC3_UnpauseDoesNotApprovePendingActions(t *testing.T) {
	pending := l.actionIn(t, remediation.Pending)
	l.mustUnpause(t, paused)
	same(t, "the pending action", l.mustGet(t, pending.ID), pending)
	_, err := l.Claim(t.Context(), paused)
	wantError(t, "Claim", err, remediation.ErrNothingToClaim)
	if _, err := l.Approve(t.Context(), pending.ID, "bob"); err != nil {
		t.Error(err)
	}
}

func (l *ledger) TestAC4_RejectedIsTerminal(t *testing.T) {
	for _, before := range []remediation.Action{
		l.actionIn(t, remediation.Rejected),
		l.advance(t, l.actionIn(t, remediation.Approved), withdraw),
		l.advance(t, l.mustCreate(t, newAction(normal)), withdraw),
	} {
		for _, s := range steps {
			_, err := s.call(t.Context(), l.Ledger, before.ServerID, before.ID)
			refused(t, err, remediation.TransitionError{ID: before.ID, From: remediation.Rejected, To: s.to})
		}
		_, err := l.Claim(t.Context(), before.ServerID)
		wantError(t, "Claim", err, remediation.ErrNothingToClaim)
		same(t, "the rejected action", l.mustGet(t, before.ID), before)
	}
}

func (l *ledger) TestAC5_ApprovalIsRecordedAndKeptByWithdraw(t *testing.T) {
	pending := l.actionIn(t, remediation.Pending)
	now := l.clock.tick()
	approved, err := l.Approve(t.Context(), pending.ID, "Zoë from the night shift")
	if err != nil {
		t.Fatal(err)
	}
	want := pending
	want.Status, want.ApprovedAt, want.ApprovedBy = remediation.Approved, &now, new("Zoë from the night shift")
	same(t, "Approve", approved, want)
	same(t, "Withdraw", l.advance(t, approved, withdraw), withdraw.after(want, l.clock.now))
}

func (l *ledger) TestAddServerIsIdempotent(t *testing.T) {
	l.actionIn(t, remediation.Pending)
	before := l.contents(t)
	for _, id := range []string{normal, paused} {
		if err := l.AddServer(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	same(t, "after adding the servers again", l.contents(t), before)
}

func (l *ledger) TestDeletingTheServerDeletesItsActions(t *testing.T) {
	for _, status := range remediation.Statuses() {
		l.actionIn(t, status)
	}
	other := l.mustCreate(t, newAction(normal))
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(paused))
	same(t, "after the deletion", l.contents(t), contents{Servers: 1, Actions: []remediation.Action{other}})
}

func (l *ledger) TestActionIDIsNeverReused(t *testing.T) {
	l.mustCreate(t, newAction(normal))
	last := l.mustCreate(t, newAction(normal)).ID
	for _, which := range []string{" WHERE id = " + number(last), ""} { // delete the newest action, then all actions
		l.exec(t, "DELETE FROM remediation_actions"+which)
		next := l.mustCreate(t, newAction(normal)).ID
		if next <= last {
			t.Errorf("new action has id %d after action %d was deleted, want a larger id", next, last)
		}
		last = next
	}
}
