package conformance

import (
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

func (l *ledger) TestClaimDeliversTheOldestOfItsServer(t *testing.T) {
	if err := l.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	created := map[string][]remediation.Action{}
	for _, id := range []string{"web-2", normal, normal, "web-2", normal} {
		created[id] = append(created[id], l.create(t, newAction(id)))
	}
	for _, id := range []string{normal, "web-2"} {
		for _, a := range created[id] {
			want := start.after(a, l.clock.tick())
			same(t, "Claim", l.claim(t, id), want)
			same(t, "Get", l.get(t, a.ID), want)
		}
		l.nothingToClaim(t, id)
	}
}

func (l *ledger) TestClaimGoesByIdNotByApproval(t *testing.T) {
	first, second := l.in(t, remediation.Pending), l.in(t, remediation.Pending)
	l.take(t, second, approve)
	l.take(t, first, approve)
	for _, id := range []int64{first.ID, second.ID} {
		if got := l.claim(t, paused); got.ID != id {
			t.Errorf("claimed %d, want %d", got.ID, id)
		}
	}
}

func (l *ledger) TestClaimPassesOverEveryOtherStatus(t *testing.T) {
	for _, status := range remediation.Statuses() {
		l.in(t, status)
	}
	l.unpause(t, paused)
	if got := l.claim(t, paused); got.Status != remediation.Executing {
		t.Errorf("claimed an action that is %s", got.Status)
	}
	l.nothingToClaim(t, paused)
}

func (l *ledger) TestMaintenanceHoldsWhatNoPersonApproved(t *testing.T) {
	held := []remediation.Action{l.create(t, newAction(normal)), l.create(t, newAction(normal))}
	l.pause(t, normal)
	asked := []remediation.Action{l.create(t, newAction(normal)), l.create(t, newAction(normal))}
	l.nothingToClaim(t, normal)
	for i, a := range asked {
		asked[i] = l.take(t, a, approve)
	}
	same(t, "Claim under maintenance", l.claim(t, normal), start.after(asked[0], l.clock.now))

	l.unpause(t, normal)
	for _, a := range append(held, asked[1]) {
		same(t, "Claim after maintenance", l.claim(t, normal), start.after(a, l.clock.now))
	}
	l.nothingToClaim(t, normal)
}

func (l *ledger) TestStartOfAHeldActionIsRefused(t *testing.T) {
	held, other := l.create(t, newAction(normal)), l.create(t, newAction(normal))
	l.pause(t, normal)
	_, err := l.Start(t.Context(), held.ID)
	refused(t, err, remediation.TransitionError{ID: held.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
	same(t, "the held action", l.get(t, held.ID), held)
	same(t, "Withdraw of a held action", l.take(t, other, withdraw), withdraw.after(other, l.clock.now))

	l.unpause(t, normal)
	same(t, "Start after maintenance", l.take(t, held, start), start.after(held, l.clock.now))
}

func (l *ledger) claim(t *testing.T, serverID string) remediation.Action {
	t.Helper()
	a, err := l.Claim(t.Context(), serverID)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestNothingToClaimIsErrNothingToClaim expects that Claim delivers nothing and changes nothing.
func (l *ledger) nothingToClaim(t *testing.T, serverID string) {
	t.Helper()
	before := l.contents(t)
	got, err := l.Claim(t.Context(), serverID)
	wantError(t, "Claim", err, remediation.ErrNothingToClaim)
	same(t, "Claim", got, remediation.Action{})
	same(t, "what Claim left", l.contents(t), before)
}
