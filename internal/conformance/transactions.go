package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of a store that joins the caller's transaction.

// makeChanges makes one change of each kind on a new server and returns the actions as they must be stored.
func makeChanges(t *testing.T, l *remediation.Ledger, now time.Time) []remediation.Action {
	t.Helper()
	if err := l.AddServer(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	alert, err := l.AddAlert(t.Context(), "new", "down")
	if err != nil {
		t.Fatal(err)
	}
	a := newAction("new")
	a.AlertID = &alert
	first, err := l.Create(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Claim(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	if err := l.Pause(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	second, err := l.Create(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{approve, start, complete} {
		if _, err := s.call(t.Context(), l, "new", second.ID); err != nil {
			t.Fatal(err)
		}
		second = s.after(second, now)
	}
	return []remediation.Action{start.after(first, now), second}
}

func (l *ledger) TestTxCommitKeepsEveryChange(t *testing.T) {
	tx := l.db.Begin(t)
	inTx := l.on(tx.Store)
	want := makeChanges(t, inTx, l.clock.now)
	for _, a := range want {
		got, err := inTx.Get(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "Get in the transaction", got, a)
		_, err = l.Get(t.Context(), a.ID)
		wantError(t, "Get outside the transaction, before the commit", err, remediation.ErrNotFound)
	}
	page, err := inTx.List(t.Context(), remediation.Filter{ServerID: "new"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "List in the transaction", ids(page), []int64{want[1].ID, want[0].ID})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, a := range want {
		same(t, "after the commit", l.mustGet(t, a.ID), a)
	}
}

func (l *ledger) TestTxRollbackUndoesEveryChange(t *testing.T) {
	pending, approved := l.actionIn(t, remediation.Pending), l.mustCreate(t, newAction(normal))
	before := l.contents(t)
	tx := l.db.Begin(t)
	inTx := l.on(tx.Store)
	makeChanges(t, inTx, l.clock.now)
	if _, err := inTx.Approve(t.Context(), pending.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := inTx.Claim(t.Context(), normal); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	same(t, "after the rollback", l.contents(t), before)
	same(t, "Approve again", l.advance(t, pending, approve), approve.after(pending, l.clock.now))
	same(t, "Claim again", l.mustClaim(t, normal), start.after(approved, l.clock.now))
}

func (l *ledger) TestTxStaysUsableAfterARefusedCall(t *testing.T) {
	in := map[remediation.Status]remediation.Action{}
	for _, status := range remediation.Statuses() {
		in[status] = l.actionIn(t, status)
	}
	tx := l.db.Begin(t)
	inTx := l.on(tx.Store)
	for status, a := range in {
		for _, s := range steps {
			if s.from == status {
				continue
			}
			_, err := s.call(t.Context(), inTx, paused, a.ID)
			refused(t, err, remediation.TransitionError{ID: a.ID, From: status, To: s.to})
		}
	}
	_, err := inTx.Create(t.Context(), newAction("nowhere"))
	wantError(t, "Create", err, remediation.ErrServerNotFound)
	unknown := newAction(normal)
	unknown.AlertID = new(int64(1 << 62))
	_, err = inTx.Create(t.Context(), unknown)
	wantError(t, "Create", err, remediation.ErrAlertNotFound)
	_, err = inTx.AddAlert(t.Context(), "nowhere", "down")
	wantError(t, "AddAlert", err, remediation.ErrServerNotFound)
	wantError(t, "Pause", inTx.Pause(t.Context(), "nowhere"), remediation.ErrServerNotFound)
	_, err = inTx.Claim(t.Context(), normal)
	wantError(t, "Claim", err, remediation.ErrNothingToClaim)
	_, err = inTx.Approve(t.Context(), 1<<62, "bob")
	wantError(t, "Approve", err, remediation.ErrNotFound)
	_, err = inTx.Create(t.Context(), remediation.NewAction{})
	wantError(t, "Create", err, remediation.ErrInvalidInput)
	if err := inTx.AddServer(t.Context(), normal); err != nil {
		t.Errorf("AddServer of an existing server: %v", err)
	}

	want := makeChanges(t, inTx, l.clock.now)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, a := range want {
		same(t, "after the commit", l.mustGet(t, a.ID), a)
	}
	for _, a := range in {
		same(t, "the action after refused calls", l.mustGet(t, a.ID), a)
	}
}

// If Pause did not wait, a server whose Pause has returned could get an action that "auto" approved afterwards.
func (l *ledger) TestPauseWaitsForAnUncommittedCreate(t *testing.T) {
	tx := l.db.Begin(t)
	created, err := l.on(tx.Store).Create(t.Context(), newAction(normal))
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.Pause(short, normal); err == nil {
		t.Error("Pause returned before the transaction of Create committed")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	same(t, "the action", l.mustGet(t, created.ID), created)
	l.mustPause(t, normal) // the Pause that timed out may or may not take effect
	if a := l.mustCreate(t, newAction(normal)); a.Status != remediation.Pending {
		t.Errorf("after Pause a new action is %s, want pending", a.Status)
	}
}
