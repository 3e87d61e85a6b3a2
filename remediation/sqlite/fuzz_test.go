package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// These fuzz targets pass any text to the calls that create something. A valid text must be stored unchanged, and any
// other must be refused before anything is written.

// fuzzed is a ledger that a fuzz target writes to, with a connection that detects each change.
type fuzzed struct {
	*remediation.Ledger
	other *sql.DB
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	path := filepath.Join(f.TempDir(), "ledger.db")
	store := serverStore(f, path) // with "web-1"
	l := &fuzzed{remediation.New(store), rawPool(f, path, "")}
	l.other.SetMaxOpenConns(1) // data_version belongs to a connection
	wantDone(f, l.AddServer(f.Context(), "paused"), l.Pause(f.Context(), "paused"))
	return l
}

func wantDone(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// seeds adds texts that users may enter, and lengths around the limit.
func seeds(f *testing.F, limit int) {
	for _, s := range []string{
		"", " ", "\t\r\n", "\u00a0\u3000", "\u200b", "nginx", "\x00", "nginx\x00; true", "\xff", "\xe6\x97", "\xed\xa0\x80", "\xc0\x80", "a\xffb\xfec",
		"auto", "AUTO", " Auto\t", "\u00a0aUtO\u2003", "auto\u200b", "\u0430uto", "automatic", "it's", `"quoted"`, "'; DROP TABLE servers; --",
		"?1 $1 :id @id", "100% _ *", "e\u0301", "\u00e9", "one\u2028two\u2029", "\ufeffnginx", "\u202eexe", "\U0010ffff\ufffd", "NULL", "007", "1e3",
		"2026-11-23 13:17:09", "one\ntwo\r\n", "\x1b[31m", "👩\u200d🚒",
		strings.Repeat("x", limit-1), strings.Repeat("日", limit/3), strings.Repeat("é", limit), strings.Repeat("x", limit), strings.Repeat("x", limit+1),
	} {
		f.Add(s)
	}
}

// isValid reports whether a text can be stored. limit is its maximum length in characters.
func isValid(s string, limit int) bool {
	return strings.TrimSpace(s) != "" && utf8.ValidString(s) && !strings.Contains(s, "\x00") && utf8.RuneCountInString(s) <= limit
}

// validName reports whether a text is a valid name.
func validName(s string, limit int) bool {
	return isValid(s, limit) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

func validText(s string) bool { return isValid(s, 1<<20) && len(s) <= 1<<20 }

func validActor(s string) bool {
	return validName(s, 50) && strings.ToLower(strings.TrimSpace(s)) != "auto"
}

// accepts expects that call succeeds with a valid text, and otherwise returns an *InputError and writes nothing. It
// returns valid.
func (l *fuzzed) accepts(t *testing.T, valid bool, call func(ctx context.Context) error) bool {
	t.Helper()
	before := l.version(t)
	err := call(t.Context())
	refused := (*remediation.InputError)(nil)
	if valid {
		wantDone(t, err)
	} else if !errors.As(err, &refused) {
		t.Fatalf("%v, want an *InputError", err)
	} else if l.version(t) != before {
		t.Fatal("a refused call wrote")
	}
	return valid
}

// version returns a number that changes with every commit of another connection.
func (l *fuzzed) version(t *testing.T) (version int) {
	t.Helper()
	wantDone(t, l.other.QueryRow("PRAGMA data_version").Scan(&version))
	return version
}

// stored expects that the ledger and another program read want back exactly, and that SQLite finds the row by it.
func (l *fuzzed) stored(t *testing.T, id int64, column, want string, field func(a remediation.Action) *string) {
	t.Helper()
	got, err := l.Get(t.Context(), id)
	wantDone(t, err)
	if diff := cmp.Diff(&want, field(got)); diff != "" {
		t.Errorf("%s read by the ledger (-want +got):\n%s", column, diff)
	}
	var raw string
	wantDone(t, l.other.QueryRow("SELECT "+column+" FROM remediation_actions WHERE id = ? AND "+column+" = ?", id, want).Scan(&raw))
	if diff := cmp.Diff(want, raw); diff != "" {
		t.Errorf("%s read by another program (-want +got):\n%s", column, diff)
	}
}

// fuzzCreate fuzzes one text of Create. fill sets it in the input, and field reads it from the action.
func fuzzCreate(f *testing.F, column string, limit int, valid func(string) bool, fill func(a *remediation.NewAction, s string),
	field func(a remediation.Action) *string) {
	l := newFuzzed(f)
	seeds(f, limit)
	f.Fuzz(func(t *testing.T, s string) {
		a := remediation.NewAction{ServerID: "paused", ActionType: "check", Command: "true", CreatedBy: "ann"}
		fill(&a, s)
		var created remediation.Action
		if l.accepts(t, valid(s), func(ctx context.Context) (err error) {
			created, err = l.Create(ctx, a)
			return err
		}) {
			l.stored(t, created.ID, column, s, field)
		}
	})
}

func FuzzActionType(f *testing.F) {
	fuzzCreate(f, "action_type", 50, func(s string) bool { return validName(s, 50) },
		func(a *remediation.NewAction, s string) { a.ActionType = s }, func(a remediation.Action) *string { return &a.ActionType })
}

func FuzzCommand(f *testing.F) {
	fuzzCreate(f, "command", 1<<20, validText,
		func(a *remediation.NewAction, s string) { a.Command = s }, func(a remediation.Action) *string { return &a.Command })
}

func FuzzCreatedBy(f *testing.F) {
	fuzzCreate(f, "created_by", 50, validActor,
		func(a *remediation.NewAction, s string) { a.CreatedBy = s }, func(a remediation.Action) *string { return &a.CreatedBy })
}

func FuzzServiceName(f *testing.F) {
	fuzzCreate(f, "service_name", 255, func(s string) bool { return validName(s, 255) },
		func(a *remediation.NewAction, s string) { a.ServiceName = &s }, func(a remediation.Action) *string { return a.ServiceName })
}

func FuzzDedupeKey(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 255)
	f.Fuzz(func(t *testing.T, s string) {
		a := remediation.NewAction{ServerID: "paused", ActionType: "check", Command: "true", CreatedBy: "ann", DedupeKey: &s}
		var first remediation.Action
		if !l.accepts(t, validName(s, 255), func(ctx context.Context) (err error) {
			first, err = l.Create(ctx, a)
			return err
		}) {
			return
		}
		l.stored(t, first.ID, "dedupe_key", s, func(a remediation.Action) *string { return a.DedupeKey })
		_, err := l.Create(t.Context(), a)
		duplicate := (*remediation.DuplicateError)(nil)
		if !errors.As(err, &duplicate) || duplicate.ExistingID != first.ID {
			t.Errorf("a second action with the key: %v, want a *DuplicateError of action %d", err, first.ID)
		}
		_, err = l.Reject(t.Context(), first.ID, "ann", "frees the key")
		wantDone(t, err)
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	fuzzCreate(f, "idempotency_key", 255, func(s string) bool { return validName(s, 255) },
		func(a *remediation.NewAction, s string) { a.IdempotencyKey = &s }, func(a remediation.Action) *string { return a.IdempotencyKey })
}

func FuzzServerID(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 100)
	f.Fuzz(func(t *testing.T, s string) {
		valid := validName(s, 100)
		if !l.accepts(t, valid, func(ctx context.Context) error { return l.AddServer(ctx, s) }) {
			for _, call := range []func(ctx context.Context) error{
				func(ctx context.Context) error { return l.Pause(ctx, s) },
				func(ctx context.Context) error { return l.Unpause(ctx, s) },
				func(ctx context.Context) error { _, err := l.Claim(ctx, s); return err },
				func(ctx context.Context) error { _, err := l.Finish(ctx, s, 1, remediation.Result{}); return err },
				func(ctx context.Context) error { _, err := l.AddAlert(ctx, s, "down"); return err },
				func(ctx context.Context) error {
					_, err := l.Create(ctx, remediation.NewAction{ServerID: s, ActionType: "check", Command: "true", CreatedBy: "ann"})
					return err
				},
			} {
				l.accepts(t, false, call)
			}
			return
		}
		ctx := t.Context()
		wantDone(t, l.Pause(ctx, s), l.Unpause(ctx, s))
		created, err := l.Create(ctx, remediation.NewAction{ServerID: s, ActionType: "check", Command: "true", CreatedBy: "ann"})
		wantDone(t, err)
		claimed, err := l.Claim(ctx, s)
		wantDone(t, err)
		if claimed.ID != created.ID {
			t.Errorf("claimed action %d, want %d", claimed.ID, created.ID)
		}
		_, err = l.Finish(ctx, s, claimed.ID, remediation.Result{})
		wantDone(t, err)
		l.stored(t, created.ID, "server_id", s, func(a remediation.Action) *string { return &a.ServerID })
	})
}

func FuzzAlertTitle(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 255)
	f.Fuzz(func(t *testing.T, s string) {
		var id int64
		if !l.accepts(t, isValid(s, 255), func(ctx context.Context) (err error) {
			id, err = l.AddAlert(ctx, "web-1", s)
			return err
		}) {
			return
		}
		var raw string
		wantDone(t, l.other.QueryRow("SELECT title FROM alerts WHERE id = ?", id).Scan(&raw))
		if diff := cmp.Diff(s, raw); diff != "" {
			t.Errorf("title (-want +got):\n%s", diff)
		}
	})
}
