package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These fuzz targets pass any text to the calls that change or list actions, and to Open. fuzz_test.go has those of the
// calls that create something, and the helpers.

// newPending creates an action that waits for approval.
func (l *fuzzed) newPending(t *testing.T) int64 {
	t.Helper()
	a, err := l.Create(t.Context(), remediation.NewAction{ServerID: "paused", ActionType: "check", Command: "true", CreatedBy: "ann"})
	wantDone(t, err)
	return a.ID
}

func (l *fuzzed) newExecuting(t *testing.T) int64 {
	t.Helper()
	id := l.newPending(t)
	_, err := l.Approve(t.Context(), id, "bob")
	wantDone(t, err)
	_, err = l.Start(t.Context(), id)
	wantDone(t, err)
	return id
}

func FuzzBy(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 50)
	f.Fuzz(func(t *testing.T, s string) {
		rejectedBy := func(a remediation.Action) *string { return a.RejectedBy }
		approved, rejected := l.newPending(t), l.newPending(t)
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.Approve(ctx, approved, s); return err }) {
			l.stored(t, approved, "approved_by", s, func(a remediation.Action) *string { return a.ApprovedBy })
		} else {
			_, err := l.Approve(t.Context(), approved, "ann")
			wantDone(t, err)
		}
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.Reject(ctx, rejected, s, "no"); return err }) {
			l.stored(t, rejected, "rejected_by", s, rejectedBy)
		}
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.Withdraw(ctx, approved, s, "no"); return err }) {
			l.stored(t, approved, "rejected_by", s, rejectedBy)
		}
		many := []int64{l.newPending(t)}
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.ApproveMany(ctx, many, s); return err }) {
			l.stored(t, many[0], "approved_by", s, func(a remediation.Action) *string { return a.ApprovedBy })
		}
		many = []int64{l.newPending(t)}
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.RejectMany(ctx, many, s, "no"); return err }) {
			l.stored(t, many[0], "rejected_by", s, rejectedBy)
		}
		executing := l.newExecuting(t)
		if l.accepts(t, validActor(s), func(ctx context.Context) error { _, err := l.RequestCancel(ctx, executing, s, "no"); return err }) {
			l.stored(t, executing, "cancel_requested_by", s, func(a remediation.Action) *string { return a.CancelRequestedBy })
		}
	})
}

func FuzzReason(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 1<<20)
	f.Fuzz(func(t *testing.T, s string) {
		reason := func(a remediation.Action) *string { return a.RejectionReason }
		id := l.newPending(t)
		if l.accepts(t, validText(s), func(ctx context.Context) error { _, err := l.Reject(ctx, id, "ann", s); return err }) {
			l.stored(t, id, "rejection_reason", s, reason)
		}
		many := []int64{l.newPending(t)}
		if l.accepts(t, validText(s), func(ctx context.Context) error { _, err := l.RejectMany(ctx, many, "ann", s); return err }) {
			l.stored(t, many[0], "rejection_reason", s, reason)
		}
		approved := l.newPending(t)
		_, err := l.Approve(t.Context(), approved, "ann")
		wantDone(t, err)
		if l.accepts(t, validText(s), func(ctx context.Context) error { _, err := l.Withdraw(ctx, approved, "ann", s); return err }) {
			l.stored(t, approved, "rejection_reason", s, reason)
		}
		executing := l.newExecuting(t)
		if l.accepts(t, validText(s), func(ctx context.Context) error { _, err := l.RequestCancel(ctx, executing, "ann", s); return err }) {
			l.stored(t, executing, "cancel_reason", s, func(a remediation.Action) *string { return a.CancelReason })
		}
	})
}

func FuzzStatus(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 50)
	for _, status := range remediation.Statuses() {
		f.Add(string(status))
	}
	f.Fuzz(func(t *testing.T, s string) {
		status := remediation.Status(s)
		l.accepts(t, slices.Contains(remediation.Statuses(), status), func(ctx context.Context) error {
			_, err := l.Counts(ctx, status)
			return err
		})
	})
}

func FuzzPath(f *testing.F) {
	seeds(f, 255)
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "..") {
			t.Skip("the path may leave the test's folder")
		}
		path := filepath.Join(t.TempDir(), s) // Join cleans it like Open
		store, err := sqlite.Open(t.Context(), path)
		if err != nil {
			return
		}
		wantDone(t, store.Close())
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("Open(%q) did not create the file: %v", path, err)
		}
	})
}

// fuzzOutput fuzzes a program's output. Finish accepts any output.
func fuzzOutput(f *testing.F, column string, result func(s string) remediation.Result, field func(a remediation.Action) *string) {
	l := newFuzzed(f)
	seeds(f, 1<<12)
	f.Fuzz(func(t *testing.T, s string) {
		ctx := t.Context()
		created, err := l.Create(ctx, remediation.NewAction{ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "ann"})
		wantDone(t, err)
		_, err = l.Start(ctx, created.ID)
		wantDone(t, err)
		_, err = l.Finish(ctx, "web-1", created.ID, result(s))
		wantDone(t, err)
		// The conversion to runes replaces each byte that is not UTF-8 with U+FFFD.
		replaced := strings.ReplaceAll(string([]rune(s)), "\x00", "\ufffd")
		l.stored(t, created.ID, column, replaced, field)
	})
}

func FuzzStdout(f *testing.F) {
	fuzzOutput(f, "stdout", func(s string) remediation.Result { return remediation.Result{Stdout: s} },
		func(a remediation.Action) *string { return a.Stdout })
}

func FuzzStderr(f *testing.F) {
	fuzzOutput(f, "stderr", func(s string) remediation.Result { return remediation.Result{ExitCode: 1, Stderr: s} },
		func(a remediation.Action) *string { return a.Stderr })
}

func FuzzFilter(f *testing.F) {
	l := newFuzzed(f)
	names := []string{"nginx", "NGINX", "it's", "e\u0301", "\u00e9", "100% _", "007", "7", " nginx", "\u00a0nginx"}
	var all []remediation.Action // newest first
	for i, name := range names {
		wantDone(f, l.AddServer(f.Context(), name))
		for _, kind := range []string{name, names[len(names)-1-i]} {
			a, err := l.Create(f.Context(), remediation.NewAction{ServerID: name, ActionType: kind, Command: "true", CreatedBy: "ann"})
			wantDone(f, err)
			all = slices.Insert(all, 0, a)
		}
		for _, status := range []string{"", "approved", "pending", "Approved", "approved\x00", "\xff"} {
			f.Add(name, name, status)
			f.Add("", name, status)
			f.Add(name, "", status)
		}
	}
	f.Add("%", "_", "")
	f.Add("' OR 1=1 --", "\x00", "approved' OR 1=1 --")
	f.Add(strings.Repeat("x", 101), strings.Repeat("日", 51), "executing")
	f.Fuzz(func(t *testing.T, serverID, actionType, status string) {
		valid := (serverID == "" || validName(serverID, 100)) && (actionType == "" || validName(actionType, 50)) &&
			(status == "" || slices.Contains(remediation.Statuses(), remediation.Status(status)))
		var got []remediation.Action
		if !l.accepts(t, valid, func(ctx context.Context) (err error) {
			got, err = l.List(ctx, remediation.Filter{ServerID: serverID, ActionType: actionType, Status: remediation.Status(status)})
			return err
		}) {
			return
		}
		want := []remediation.Action{}
		for _, a := range all {
			if (serverID == "" || a.ServerID == serverID) && (actionType == "" || a.ActionType == actionType) &&
				(status == "" || string(a.Status) == status) {
				want = append(want, a)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("page (-want +got):\n%s", diff)
		}
	})
}
