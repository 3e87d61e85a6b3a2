package conformance

import (
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the link from an action to its alert.

func (l *ledger) TestAC7_ActionKeepsItsAlertThroughTheLifecycle(t *testing.T) {
	alert := l.mustAddAlert(t, paused)
	a := newAction(paused)
	a.AlertID = &alert
	want := l.mustCreate(t, a)
	same(t, "AlertID", want.AlertID, &alert)
	for _, s := range stepsTo[remediation.Completed] {
		want = s.after(want, l.clock.tick())
		got, err := s.call(t.Context(), l.Ledger, paused, want.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.name, got, want)
	}
	same(t, "Get", l.mustGet(t, want.ID), want)
}

func (l *ledger) TestAC7_DeletingTheAlertClearsTheLinkAndNothingElse(t *testing.T) {
	alert, kept := l.mustAddAlert(t, normal), l.mustAddAlert(t, normal)
	var want []remediation.Action
	for _, a := range append(examples(), withdrawn()) {
		for _, id := range []*int64{&alert, &kept} {
			a.AlertID = id
			want = append(want, l.store(t, a))
		}
	}
	l.exec(t, "DELETE FROM alerts WHERE id = "+number(alert))
	for _, a := range want {
		if *a.AlertID == alert {
			a.AlertID = nil
		}
		same(t, string(a.Status)+" after its alert was deleted", l.mustGet(t, a.ID), a)
	}
}

func (l *ledger) TestAC7_UnknownAlertIsRefused(t *testing.T) {
	gone := l.mustAddAlert(t, normal)
	l.exec(t, "DELETE FROM alerts WHERE id = "+number(gone))
	before := l.contents(t)
	for _, id := range []int64{gone, 0, -1, 1 << 62} {
		a := newAction(normal)
		a.AlertID = &id
		got, err := l.Create(t.Context(), a)
		wantError(t, "Create", err, remediation.ErrAlertNotFound)
		same(t, "Create", got, remediation.Action{})

		raw := example(remediation.Approved)
		raw.AlertID = &id
		if _, err := l.insert(t, rowOf(raw)); err == nil {
			t.Errorf("a row with unknown alert %d was accepted", id)
		}
	}
	same(t, "after the refused calls", l.contents(t), before)
}
