package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Concurrent claims of one server do not wait for each other: each gets the oldest action that no other has locked.
func TestClaimSkipsAnActionThatAnotherTransactionClaims(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, func(ctx context.Context, l *remediation.Ledger) error {
		return errors.Join(createsAction(ctx, l), createsAction(ctx, l))
	})
	first := must[remediation.Action](t)(m.inTx.Claim(t.Context(), "web-1"))
	second := must[remediation.Action](t)(m.ledger.Claim(bounded(t), "web-1"))
	if first.ID >= second.ID {
		t.Errorf("claimed %d and then %d, want the oldest first", first.ID, second.ID)
	}
	if _, err := m.ledger.Claim(bounded(t), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("a third Claim: %v, want ErrNothingToClaim", err)
	}
	if err := m.tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "the first claim", must[remediation.Action](t)(m.ledger.Get(t.Context(), first.ID)), first)
}

func TestActionOfARolledBackClaimIsClaimedAgain(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, createsAction)
	lost := must[remediation.Action](t)(m.inTx.Claim(t.Context(), "web-1"))
	if err := m.tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, "the next claim", must[remediation.Action](t)(m.ledger.Claim(t.Context(), "web-1")), lost)
	if _, err := m.ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("a second Claim: %v, want ErrNothingToClaim", err)
	}
}

// A withdrawal waits for a claim of the same action. Its error names the status that the claim has set.
func TestErrorOfACallThatWaitedHasTheNewStatus(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, createsAction)
	claimed := must[remediation.Action](t)(m.inTx.Claim(t.Context(), "web-1"))
	err := m.waitsForCommit(t, func(ctx context.Context) error {
		_, err := m.ledger.Withdraw(ctx, claimed.ID, "carol", "too late")
		return err
	})
	got := (*remediation.TransitionError)(nil)
	errors.As(err, &got)
	same(t, "Withdraw", got, &remediation.TransitionError{ID: claimed.ID, From: remediation.Executing, To: remediation.Rejected})
	same(t, "the claimed action", must[remediation.Action](t)(m.ledger.Get(t.Context(), claimed.ID)), claimed)
}

func TestReferenceDeletedDuringCreateIsNotFound(t *testing.T) {
	t.Parallel()
	var alert int64
	createsForAlert := func(ctx context.Context, l *remediation.Ledger) error {
		given := newAction("web-1")
		given.AlertID = &alert
		_, err := l.Create(ctx, given)
		return err
	}
	addsAlert := func(ctx context.Context, l *remediation.Ledger) error {
		_, err := l.AddAlert(ctx, "web-1", "another")
		return err
	}
	m := newLockTest(t, prepareNothing)
	for _, c := range []struct {
		name    string
		deleted string
		call    func(ctx context.Context, l *remediation.Ledger) error
		want    error
	}{
		{"server", "servers", createsAction, remediation.ErrServerNotFound},
		{"alert", "alerts", createsForAlert, remediation.ErrAlertNotFound},
		{"server and its alert", "servers", createsForAlert, remediation.ErrServerNotFound},
		{"server of a new alert", "servers", addsAlert, remediation.ErrServerNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := m.ledger.AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			alert = must[int64](t)(m.ledger.AddAlert(t.Context(), "web-1", "down"))
			call := func(ctx context.Context) error { return c.call(ctx, m.ledger) }

			// Create succeeds if the deletion is rolled back.
			m.beginAgain(t)
			run(t, m.tx, "DELETE FROM "+c.deleted)
			if err := m.waitsFor(t, m.tx.Rollback, call); err != nil {
				t.Errorf("after the deletion was rolled back: %v", err)
			}

			want := contentsOf(t, m.pool)["remediation_actions"]
			for _, a := range want {
				a["alert_id"] = nil
			}
			if c.deleted == "servers" {
				want = []map[string]any{}
			}
			m.beginAgain(t)
			run(t, m.tx, "DELETE FROM "+c.deleted)
			err := m.waitsForCommit(t, call)
			if !errors.Is(err, c.want) || sqlState(err) != "" {
				t.Errorf("error is %v, want %v without an error of PostgreSQL", err, c.want)
			}
			same(t, "actions", contentsOf(t, m.pool)["remediation_actions"], want)
		})
	}
}
