package conformance

import (
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Claim and of how maintenance holds back actions that only "auto" approved.

func (l *ledger) TestClaimReturnsTheServersOldestAction(t *testing.T) {
	if err := l.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	created := map[string][]remediation.Action{}
	for _, id := range []string{"web-2", normal, normal, "web-2", normal} {
		created[id] = append(created[id], l.mustCreate(t, newAction(id)))
	}
	for _, id := range []string{normal, "web-2"} {
		for _, a := range created[id] {
			want := start.after(a, l.clock.tick())
			same(t, "Claim", l.mustClaim(t, id), want)
			same(t, "Get", l.mustGet(t, a.ID), want)
		}
		l.nothingToClaim(t, id)
	}
}

func (l *ledger) TestClaimOrdersByIDNotByApproval(t *testing.T) {
	first, second := l.actionIn(t, remediation.Pending), l.actionIn(t, remediation.Pending)
	l.advance(t, second, approve)
	l.advance(t, first, approve)
	for _, id := range []int64{first.ID, second.ID} {
		if got := l.mustClaim(t, paused); got.ID != id {
			t.Errorf("claimed %d, want %d", got.ID, id)
		}
	}
}

func (l *ledger) TestClaimSkipsEveryOtherStatus(t *testing.T) {
	for _, status := range remediation.Statuses() {
		l.actionIn(t, status)
	}
	l.mustUnpause(t, paused)
	if got := l.mustClaim(t, paused); got.Status != remediation.Executing {
		t.Errorf("claimed an action that is %s", got.Status)
	}
	l.nothingToClaim(t, paused)
}

func (l *ledger) TestMaintenanceHoldsAutoApprovedActions(t *testing.T) {
	held := []remediation.Action{l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))}
	l.mustPause(t, normal)
	asked := []remediation.Action{l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))}
	l.nothingToClaim(t, normal)
	for i, a := range asked {
		asked[i] = l.advance(t, a, approve)
	}
	same(t, "Claim under maintenance", l.mustClaim(t, normal), start.after(asked[0], l.clock.now))

	l.mustUnpause(t, normal)
	for _, a := range append(held, asked[1]) {
		same(t, "Claim after maintenance", l.mustClaim(t, normal), start.after(a, l.clock.now))
	}
	l.nothingToClaim(t, normal)
}

func (l *ledger) TestStartOfAHeldActionIsRefused(t *testing.T) {
	held, other := l.mustCreate(t, newAction(normal)), l.mustCreate(t, newAction(normal))
	l.mustPause(t, normal)
	_, err := l.Start(t.Context(), held.ID)
	refused(t, err, remediation.TransitionError{ID: held.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
	same(t, "the held action", l.mustGet(t, held.ID), held)
	same(t, "Withdraw of a held action", l.advance(t, other, withdraw), withdraw.after(other, l.clock.now))

	l.mustUnpause(t, normal)
	same(t, "Start after maintenance", l.advance(t, held, start), start.after(held, l.clock.now))
}

func (l *ledger) mustClaim(t *testing.T, serverID string) remediation.Action {
	t.Helper()
	a, err := l.Claim(t.Context(), serverID)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// nothingToClaim expects that Claim returns ErrNothingToClaim and changes nothing.
func (l *ledger) nothingToClaim(t *testing.T, serverID string) {
	t.Helper()
	before := l.contents(t)
	got, err := l.Claim(t.Context(), serverID)
	wantError(t, "Claim", err, remediation.ErrNothingToClaim)
	same(t, "Claim", got, remediation.Action{})
	same(t, "after Claim", l.contents(t), before)
}
