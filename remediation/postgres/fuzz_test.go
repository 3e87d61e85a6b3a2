package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// FuzzText expects the ledger to store a text unchanged or to refuse it with an *InputError. An error of the server
// would mean that it got a text that its own limits on bytes or lengths refuse.
func FuzzText(f *testing.F) {
	ledger := newLedger(postgres.New(pgtest.Pool(f, pgtest.URL(f))))
	if err := errors.Join(ledger.AddServer(f.Context(), "web-1"), ledger.Pause(f.Context(), "web-1")); err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		"", " ", "nginx", "\x00", "a\x00b", "\xff", "\xed\xa0\x80", "auto", " AUTO\t", "it's", `"`, `\x41`, `E'\n'`, "$1", "{a,b}", "NULL",
		"e\u0301", "\u202eexe", "\U0010ffff", "one\ntwo\r\n", strings.Repeat("日", 50), strings.Repeat("é", 51), strings.Repeat("x", 256),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// takes reports whether the ledger accepted the text. If it did, the stored text must be the same.
		takes := func(field string, err error, stored func() string) bool {
			t.Helper()
			switch refused := (*remediation.InputError)(nil); {
			case err == nil && stored() != s:
				t.Errorf("%s %q was stored as %q", field, s, stored())
			case err != nil && !errors.As(err, &refused):
				t.Errorf("%s %q: %v, want an *InputError", field, s, err)
			}
			return err == nil
		}
		pending := func(fill func(*remediation.NewAction)) (remediation.Action, error) {
			a := newAction("web-1")
			if fill(&a); a.DedupeKey != nil {
				old, err := ledger.List(t.Context(), remediation.Filter{Status: remediation.Pending, Limit: 1000})
				for _, o := range old { // the action of the last run still has the key
					_, rejectErr := ledger.Reject(t.Context(), o.ID, "bob", "again")
					err = errors.Join(err, rejectErr)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			created, err := ledger.Create(t.Context(), a)
			if err != nil {
				return created, err
			}
			return ledger.Get(t.Context(), created.ID)
		}
		a, err := pending(func(a *remediation.NewAction) { a.ActionType = s })
		takes("action_type", err, func() string { return a.ActionType })
		a, err = pending(func(a *remediation.NewAction) { a.ServiceName = &s })
		takes("service_name", err, func() string { return *a.ServiceName })
		a, err = pending(func(a *remediation.NewAction) { a.CreatedBy = s })
		takes("created_by", err, func() string { return a.CreatedBy })
		a, err = pending(func(a *remediation.NewAction) { a.DedupeKey = &s })
		takes("dedupe_key", err, func() string { return *a.DedupeKey })
		a, err = pending(func(a *remediation.NewAction) { a.IdempotencyKey = &s })
		takes("idempotency_key", err, func() string { return *a.IdempotencyKey })
		a, err = pending(func(a *remediation.NewAction) { a.Command = s })
		takes("command", err, func() string { return a.Command })

		a = create(t, ledger)
		id := a.ID
		outcomes, err := ledger.ApproveMany(t.Context(), []int64{id}, s)
		if !takes("approved_by", err, func() string { return *outcomes[0].Action.ApprovedBy }) {
			must[remediation.Action](t)(ledger.Approve(t.Context(), id, "bob"))
		}
		a, err = ledger.Withdraw(t.Context(), id, s, "no")
		if !takes("rejected_by", err, func() string { return *a.RejectedBy }) {
			a, err = ledger.Withdraw(t.Context(), id, "bob", s)
			if !takes("rejection_reason", err, func() string { return *a.RejectionReason }) {
				must[remediation.Action](t)(ledger.Withdraw(t.Context(), id, "bob", "no"))
			}
		}

		_, err = ledger.List(t.Context(), remediation.Filter{ServerID: s, ActionType: s, Status: remediation.Status(s)})
		takes("the filter", err, func() string { return s })
		if err := ledger.AddServer(t.Context(), s); !takes("the server", err, func() string { return s }) {
			return
		}
		_, err = ledger.AddAlert(t.Context(), s, s)
		takes("the alert's title", err, func() string { return s })
		a = must[remediation.Action](t)(ledger.Create(t.Context(), newAction(s)))
		a, err = ledger.Start(t.Context(), a.ID)
		if err == nil {
			asked, refused := ledger.RequestCancel(t.Context(), a.ID, s, "no")
			takes("cancel_requested_by", refused, func() string { return *asked.CancelRequestedBy })
			a, err = ledger.Finish(t.Context(), s, a.ID, remediation.Result{Stdout: s, Stderr: s})
		}
		takes("the output", err, func() string { return *a.Stdout })
	})
}
