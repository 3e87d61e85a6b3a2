package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has helpers that take actions through the whole lifecycle and call every method.

// now is the time of all calls. It has microseconds and, in New York, another offset than in summer, so that a test
// notices if either is lost.
var now = time.Date(2026, 11, 23, 13, 17, 9, 47807000, time.UTC)

// newLedger returns a ledger whose clock is always at now.
func newLedger(store remediation.Store) *remediation.Ledger {
	return remediation.New(store, remediation.WithClock(func() time.Time { return now }))
}

func newAction(serverID string) remediation.NewAction {
	return remediation.NewAction{
		ServerID: serverID, ActionType: "restart_service", Command: "systemctl restart nginx", CreatedBy: "ann",
	}
}

// walk adds a server and takes actions of it along every edge of the lifecycle. It compares whole rows, as the calls
// return them and as they are read back. It returns the actions, newest first: at least one in each status, and a
// withdrawn one.
func walk(t testing.TB, l *remediation.Ledger, serverID string) []remediation.Action {
	t.Helper()
	ctx := bounded(t)
	do := must[remediation.Action](t)
	for range 2 {
		if err := l.AddServer(ctx, serverID); err != nil {
			t.Fatal(err)
		}
	}
	alert := must[int64](t)(l.AddAlert(ctx, serverID, `it's "down" \n % $1 é`))
	given := remediation.NewAction{
		ServerID: serverID, ActionType: "restart_service", Command: "echo 'it''s' \"up\" \\n % $1 日本 🚒\n",
		CreatedBy: "ann O'Hara", ServiceName: new(`C:\nginx`), AlertID: &alert,
	}
	created := func() remediation.Action {
		t.Helper()
		got := do(l.Create(ctx, given))
		want := remediation.Action{
			ID: got.ID, ServerID: serverID, ActionType: given.ActionType, Status: remediation.Pending,
			ServiceName: given.ServiceName, Command: given.Command, CreatedAt: now, CreatedBy: given.CreatedBy, AlertID: &alert,
		}
		if got.Status == remediation.Approved {
			want.Status, want.ApprovedAt, want.ApprovedBy = remediation.Approved, &now, new(remediation.AutoApprover)
		}
		same(t, "Create", got, want)
		return want
	}

	completed := created()
	same(t, "the approver in normal mode", completed.ApprovedBy, new(remediation.AutoApprover))
	completed.Status, completed.ExecutedAt = remediation.Executing, &now
	same(t, "Claim", do(l.Claim(ctx, serverID)), completed)
	completed.Status, completed.CompletedAt, completed.ExitCode = remediation.Completed, &now, new(int64(0))
	completed.Stdout, completed.Stderr = new(`up \o/ 日本`), new("")
	same(t, "Finish", do(l.Finish(ctx, serverID, completed.ID, remediation.Result{Stdout: *completed.Stdout})), completed)

	if err := l.Pause(ctx, serverID); err != nil {
		t.Fatal(err)
	}
	approve := func(a remediation.Action) remediation.Action {
		t.Helper()
		a.Status, a.ApprovedAt, a.ApprovedBy = remediation.Approved, &now, new("bob")
		same(t, "Approve", do(l.Approve(ctx, a.ID, "bob")), a)
		return a
	}
	start := func(a remediation.Action) remediation.Action {
		t.Helper()
		a.Status, a.ExecutedAt = remediation.Executing, &now
		same(t, "Start", do(l.Start(ctx, a.ID)), a)
		return a
	}
	asRejected := func(a remediation.Action) remediation.Action {
		a.Status, a.RejectedAt, a.RejectedBy, a.RejectionReason = remediation.Rejected, &now, new("carol"), new("not on a Friday")
		return a
	}
	failed := start(approve(created()))
	failed.Status, failed.CompletedAt, failed.ExitCode = remediation.Failed, &now, new(int64(3221225786))
	failed.Stdout, failed.Stderr = new(""), new("no such unit")
	same(t, "Finish", do(l.Finish(ctx, serverID, failed.ID,
		remediation.Result{ExitCode: *failed.ExitCode, Stderr: *failed.Stderr})), failed)
	rejected := asRejected(created())
	same(t, "Reject", do(l.Reject(ctx, rejected.ID, "carol", "not on a Friday")), rejected)
	withdrawn := asRejected(approve(created()))
	same(t, "Withdraw", do(l.Withdraw(ctx, withdrawn.ID, "carol", "not on a Friday")), withdrawn)
	executing := start(approve(created()))
	given.AlertID, given.ServiceName = nil, nil
	bare := do(l.Create(ctx, given))
	same(t, "an action without alert and service",
		[]any{bare.AlertID, bare.ServiceName}, []any{(*int64)(nil), (*string)(nil)})
	given.AlertID, given.ServiceName = &alert, new(`C:\nginx`)
	approved, pending := approve(created()), created()
	if err := l.Unpause(ctx, serverID); err != nil {
		t.Fatal(err)
	}

	all := []remediation.Action{pending, approved, bare, executing, withdrawn, rejected, failed, completed}
	readBack(t, l, all)
	return all
}

// readBack expects Get, and List with each kind of filter, to return the actions in all. These are all actions of one
// server, newest first.
func readBack(t testing.TB, l *remediation.Ledger, all []remediation.Action) {
	t.Helper()
	ctx := bounded(t)
	for _, want := range all {
		same(t, "Get", must[remediation.Action](t)(l.Get(ctx, want.ID)), want)
	}
	oldest := all[len(all)-1]
	for name, f := range map[string]remediation.Filter{
		"everything":        {},
		"server":            {ServerID: oldest.ServerID},
		"type":              {ActionType: oldest.ActionType},
		"status":            {Status: remediation.Rejected},
		"server and status": {ServerID: oldest.ServerID, Status: remediation.Rejected},
		"alert":             {AlertID: oldest.AlertID},
		"alert and all":     {AlertID: oldest.AlertID, ServerID: oldest.ServerID, Status: remediation.Rejected, ActionType: oldest.ActionType},
	} {
		var want []remediation.Action
		for _, a := range all {
			if (f.Status == "" || a.Status == f.Status) && (f.AlertID == nil || a.AlertID != nil && *a.AlertID == *f.AlertID) {
				a.Stdout, a.Stderr = nil, nil
				want = append(want, a)
			}
		}
		f.Before, f.Limit = all[0].ID+1, len(want) // there may be older actions, also of other servers
		same(t, "List by "+name, must[[]remediation.Action](t)(l.List(ctx, f)), want)
	}
}

// calls returns a call of every method of a Ledger. The server, the alert and the action that they name need not exist.
func calls(l *remediation.Ledger) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"AddServer": func(ctx context.Context) error { return l.AddServer(ctx, "web-1") },
		"Pause":     func(ctx context.Context) error { return l.Pause(ctx, "web-1") },
		"Unpause":   func(ctx context.Context) error { return l.Unpause(ctx, "web-1") },
		"AddAlert":  func(ctx context.Context) error { _, err := l.AddAlert(ctx, "web-1", "down"); return err },
		"Create":    func(ctx context.Context) error { _, err := l.Create(ctx, newAction("web-1")); return err },
		"Approve":   func(ctx context.Context) error { _, err := l.Approve(ctx, 1, "bob"); return err },
		"Reject":    func(ctx context.Context) error { _, err := l.Reject(ctx, 1, "bob", "no"); return err },
		"Withdraw":  func(ctx context.Context) error { _, err := l.Withdraw(ctx, 1, "bob", "no"); return err },
		"Claim":     func(ctx context.Context) error { _, err := l.Claim(ctx, "web-1"); return err },
		"Start":     func(ctx context.Context) error { _, err := l.Start(ctx, 1); return err },
		"Finish":    func(ctx context.Context) error { _, err := l.Finish(ctx, "web-1", 1, remediation.Result{}); return err },
		"Get":       func(ctx context.Context) error { _, err := l.Get(ctx, 1); return err },
		"List":      func(ctx context.Context) error { _, err := l.List(ctx, remediation.Filter{}); return err },

		"ApproveMany": func(ctx context.Context) error { _, err := l.ApproveMany(ctx, []int64{1}, "bob"); return err },
		"RejectMany":  func(ctx context.Context) error { _, err := l.RejectMany(ctx, []int64{1}, "bob", "no"); return err },
		"FailOverdue": func(ctx context.Context) error { _, err := l.FailOverdue(ctx, time.Hour, 1); return err },
		"Counts":      func(ctx context.Context) error { _, err := l.Counts(ctx); return err },
		"Explain":     func(ctx context.Context) error { _, err := l.Explain(ctx, 1); return err },
		"Events":      func(ctx context.Context) error { _, err := l.Events(ctx, 0, 1); return err },
		"History":     func(ctx context.Context) error { _, err := l.History(ctx, 1); return err },
		"Follow": func(ctx context.Context) error {
			for _, err := range l.Follow(ctx, 0) {
				return err
			}
			return ctx.Err()
		},
		"Expire":      func(ctx context.Context) error { _, err := l.Expire(ctx, 1); return err },
		"Servers":     func(ctx context.Context) error { _, err := l.Servers(ctx, "", 1); return err },
		"Prune":       func(ctx context.Context) error { _, err := l.Prune(ctx, now, 1); return err },
		"ClearOutput": func(ctx context.Context) error { _, err := l.ClearOutput(ctx, now, 1); return err },

		"Server":             func(ctx context.Context) error { _, err := l.Server(ctx, "web-1"); return err },
		"ForbidSelfApproval": func(ctx context.Context) error { return l.ForbidSelfApproval(ctx, "web-1", true) },
		"Heartbeat":          func(ctx context.Context) error { _, err := l.Heartbeat(ctx, "web-1", 1); return err },
		"RequestCancel":      func(ctx context.Context) error { _, err := l.RequestCancel(ctx, 1, "bob", "no"); return err },
	}
}
