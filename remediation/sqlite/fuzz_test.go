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

// fuzzed is a ledger that a fuzz target writes to, and a connection that notices each change to it.
type fuzzed struct {
	*remediation.Ledger
	other *sql.DB
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	path := filepath.Join(f.TempDir(), "ledger.db")
	store := serverStore(f, path) // with "web-1"
	l := &fuzzed{remediation.New(store), rawPool(f, path, "")}
	l.other.SetMaxOpenConns(1) // data_version is about one connection's own view
	wantDone(f, l.AddServer(f.Context(), "paused"), l.Pause(f.Context(), "paused"))
	return l
}

func wantDone(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// seeds adds what text from outside may look like, with the lengths about a limit.
func seeds(f *testing.F, most int) {
	for _, s := range []string{
		"", " ", "\t\r\n", "\u00a0\u3000", "\u200b", "nginx", "\x00", "nginx\x00; true", "\xff", "\xe6\x97", "\xed\xa0\x80", "\xc0\x80", "a\xffb\xfec",
		"auto", "AUTO", " Auto\t", "\u00a0aUtO\u2003", "auto\u200b", "\u0430uto", "automatic", "it's", `"quoted"`, "'; DROP TABLE servers; --",
		"?1 $1 :id @id", "100% _ *", "e\u0301", "\u00e9", "one\u2028two\u2029", "\ufeffnginx", "\u202eexe", "\U0010ffff\ufffd", "NULL", "007", "1e3",
		"2026-11-23 13:17:09", "one\ntwo\r\n", "\x1b[31m", "👩\u200d🚒",
		strings.Repeat("x", most-1), strings.Repeat("日", most/3), strings.Repeat("é", most), strings.Repeat("x", most), strings.Repeat("x", most+1),
	} {
		f.Add(s)
	}
}

// clean is the rule for a text that is stored as it is; most counts characters.
func clean(s string, most int) bool {
	return strings.TrimSpace(s) != "" && utf8.ValidString(s) && !strings.Contains(s, "\x00") && utf8.RuneCountInString(s) <= most
}

// cleanName is the rule for a name.
func cleanName(s string, most int) bool {
	return clean(s, most) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

func cleanText(s string) bool { return clean(s, 1<<20) && len(s) <= 1<<20 }

func cleanActor(s string) bool {
	return cleanName(s, 50) && strings.ToLower(strings.TrimSpace(s)) != "auto"
}

// takes expects that call stores a good text and refuses any other, writing nothing. It reports whether the text is good.
func (l *fuzzed) takes(t *testing.T, good bool, call func(ctx context.Context) error) bool {
	t.Helper()
	before := l.version(t)
	err := call(t.Context())
	refused := (*remediation.InputError)(nil)
	if good {
		wantDone(t, err)
	} else if !errors.As(err, &refused) {
		t.Fatalf("%v, want an *InputError", err)
	} else if l.version(t) != before {
		t.Fatal("a refused call wrote")
	}
	return good
}

// version changes with every commit of another connection.
func (l *fuzzed) version(t *testing.T) (version int) {
	t.Helper()
	wantDone(t, l.other.QueryRow("PRAGMA data_version").Scan(&version))
	return version
}

// stored expects that a text is read back exactly, by the ledger and by another program, and to be equal to it there.
func (l *fuzzed) stored(t *testing.T, id int64, column, want string, field func(a remediation.Action) *string) {
	t.Helper()
	got, err := l.Get(t.Context(), id)
	wantDone(t, err)
	if diff := cmp.Diff(&want, field(got)); diff != "" {
		t.Errorf("%s by the ledger (-want +got):\n%s", column, diff)
	}
	var raw string
	wantDone(t, l.other.QueryRow("SELECT "+column+" FROM remediation_actions WHERE id = ? AND "+column+" = ?", id, want).Scan(&raw))
	if diff := cmp.Diff(want, raw); diff != "" {
		t.Errorf("%s by another program (-want +got):\n%s", column, diff)
	}
}

// fuzzCreate is the fuzz target of one of Create's texts.
func fuzzCreate(f *testing.F, column string, most int, good func(string) bool, fill func(a *remediation.NewAction, s string),
	field func(a remediation.Action) *string) {
	l := newFuzzed(f)
	seeds(f, most)
	f.Fuzz(func(t *testing.T, s string) {
		a := remediation.NewAction{ServerID: "paused", ActionType: "check", Command: "true", CreatedBy: "ann"}
		fill(&a, s)
		var created remediation.Action
		if l.takes(t, good(s), func(ctx context.Context) (err error) {
			created, err = l.Create(ctx, a)
			return err
		}) {
			l.stored(t, created.ID, column, s, field)
		}
	})
}

func FuzzActionType(f *testing.F) {
	fuzzCreate(f, "action_type", 50, func(s string) bool { return cleanName(s, 50) },
		func(a *remediation.NewAction, s string) { a.ActionType = s }, func(a remediation.Action) *string { return &a.ActionType })
}

func FuzzCommand(f *testing.F) {
	fuzzCreate(f, "command", 1<<20, cleanText,
		func(a *remediation.NewAction, s string) { a.Command = s }, func(a remediation.Action) *string { return &a.Command })
}

func FuzzCreatedBy(f *testing.F) {
	fuzzCreate(f, "created_by", 50, cleanActor,
		func(a *remediation.NewAction, s string) { a.CreatedBy = s }, func(a remediation.Action) *string { return &a.CreatedBy })
}

func FuzzServiceName(f *testing.F) {
	fuzzCreate(f, "service_name", 255, func(s string) bool { return cleanName(s, 255) },
		func(a *remediation.NewAction, s string) { a.ServiceName = &s }, func(a remediation.Action) *string { return a.ServiceName })
}

func FuzzDedupeKey(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 255)
	f.Fuzz(func(t *testing.T, s string) {
		a := remediation.NewAction{ServerID: "paused", ActionType: "check", Command: "true", CreatedBy: "ann", DedupeKey: &s}
		var first remediation.Action
		if !l.takes(t, cleanName(s, 255), func(ctx context.Context) (err error) {
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
	fuzzCreate(f, "idempotency_key", 255, func(s string) bool { return cleanName(s, 255) },
		func(a *remediation.NewAction, s string) { a.IdempotencyKey = &s }, func(a remediation.Action) *string { return a.IdempotencyKey })
}

func FuzzServerID(f *testing.F) {
	l := newFuzzed(f)
	seeds(f, 100)
	f.Fuzz(func(t *testing.T, s string) {
		good := cleanName(s, 100)
		if !l.takes(t, good, func(ctx context.Context) error { return l.AddServer(ctx, s) }) {
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
				l.takes(t, false, call)
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
			t.Errorf("claimed action %d, want the server's own %d", claimed.ID, created.ID)
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
		if !l.takes(t, clean(s, 255), func(ctx context.Context) (err error) {
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
