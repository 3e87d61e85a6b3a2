package soak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// told keeps what a ledger answered to each Create, so that the answers can be held against what the database has.
type createLog struct {
	*remediation.Ledger
	prefix    string // of the names, where several write to one database
	mu        sync.Mutex
	created   int      // calls of create
	succeeded []string // the names of actions whose Create returned no error
}

// tell adds the server that all actions are for.
func newCreateLog(t *testing.T, l *remediation.Ledger) *createLog {
	t.Helper()
	if err := l.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return &createLog{Ledger: l}
}

// create creates an action with a name of its own, which is its type, and a command of about so many bytes.
func (l *createLog) create(ctx context.Context, size int) (name string, err error) {
	l.mu.Lock()
	l.created++
	name = fmt.Sprintf("%scheck-%06d", l.prefix, l.created)
	l.mu.Unlock()
	_, err = l.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: name, Command: "true " + strings.Repeat("x", size), CreatedBy: "ann",
	})
	if err == nil {
		l.mu.Lock()
		l.succeeded = append(l.succeeded, name)
		l.mu.Unlock()
	}
	return name, err
}

// createTogether is one create by each of n callers at once.
func (l *createLog) createTogether(t *testing.T, n int) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = l.create(t.Context(), 10) })
	}
	wg.Wait()
	return errs
}

// agree expects that another program finds what was acknowledged and nothing else. Of uncertain either is right.
func (l *createLog) check(t *testing.T, d database, uncertain ...string) {
	t.Helper()
	found := slices.DeleteFunc(d.column(t, "SELECT action_type FROM remediation_actions"), func(name string) bool {
		return slices.Contains(uncertain, name)
	})
	slices.Sort(found)
	slices.Sort(l.succeeded)
	if diff := cmp.Diff(l.succeeded, found); diff != "" {
		t.Errorf("actions (-acknowledged +found):\n%s", diff)
	}
}

// column is the first column of a query's rows, as another program reads it.
func (d database) column(t *testing.T, query string) (values []string) {
	t.Helper()
	db := d.raw(t)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

func wantNoError(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// wantErrorText expects that every call failed with a sentence that contains text.
func wantErrorText(t *testing.T, text string, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want an error that says %q", err, text)
			return
		}
	}
	t.Logf("%v", errs[0])
}

// wantErrorIs expects that every call failed with an error of one kind.
func wantErrorIs(t *testing.T, kind error, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if !errors.Is(err, kind) {
			t.Errorf("%v, want an error that is %q", err, kind)
			return
		}
	}
	t.Logf("%v", errs[0])
}

func TestSchemaVersionMismatchIsRefused(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, d database) {
		files := schema.SQLite
		if d.isPostgres() {
			files = schema.Postgres
		}
		last := must[[]string](t)(fs.Glob(files, "*.down.sql"))
		down := string(must[[]byte](t)(fs.ReadFile(files, last[len(last)-1])))
		db := d.raw(t)
		exec := func(statement string) {
			t.Helper()
			_, err := db.ExecContext(t.Context(), statement)
			wantNoError(t, err)
		}
		store, closeStore, err := d.open(t.Context())
		wantNoError(t, err)
		defer closeStore()
		l := remediation.New(store)

		exec("UPDATE schema_migrations SET version = version + 1")
		wantVersion(t, "upgrade the program", l.AddServer(t.Context(), "web-1"))
		exec("UPDATE schema_migrations SET version = version - 1")
		exec(down)
		exec("UPDATE schema_migrations SET version = version - 1")
		wantVersion(t, "call Migrate", l.AddServer(t.Context(), "web-1"))
		exec("UPDATE schema_migrations SET dirty = TRUE")
		wantVersion(t, "left half done", l.AddServer(t.Context(), "web-1"))
		wantVersion(t, "left half done", d.migrate(t))
		exec("UPDATE schema_migrations SET dirty = FALSE")
		if servers := d.column(t, "SELECT id FROM servers"); servers != nil {
			t.Errorf("the refused calls added %v", servers)
		}
		wantNoError(t, d.migrate(t), l.AddServer(t.Context(), "web-1"))
	})
}

func (d database) migrate(t *testing.T) error {
	if d.isPostgres() {
		return postgres.Migrate(t.Context(), pgtest.Pool(t, string(d)))
	}
	store, err := sqlite.Open(t.Context(), string(d))
	if err != nil {
		return err
	}
	return errors.Join(store.Migrate(t.Context()), store.Close())
}

func wantVersion(t *testing.T, text string, err error) {
	t.Helper()
	wantErrorIs(t, remediation.ErrSchemaVersion, err)
	wantErrorText(t, text, err)
}

func TestClockSetBackOneHourBlocksNoCall(t *testing.T) {
	t.Parallel()
	onEngines(t, func(t *testing.T, d database) {
		now := time.Date(2026, 10, 25, 2, 30, 0, 0, time.UTC)
		l := d.ledger(t, remediation.WithClock(func() time.Time { return now }))
		wantNoError(t, l.AddServer(t.Context(), "web-1"), l.Pause(t.Context(), "web-1"))
		do := must[remediation.Action](t)
		create := func() int64 {
			return do(l.Create(t.Context(), remediation.NewAction{
				ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "ann",
			})).ID
		}
		first := create()
		now = now.Add(-time.Hour)
		second := create()
		latest := now // of all its times, which is what overdue counts from
		for _, id := range []int64{first, second} {
			now = now.Add(-time.Hour)
			if approved := do(l.Approve(t.Context(), id, "ann")); !approved.ApprovedAt.Equal(now) {
				t.Errorf("approved_at is %v, want the clock's %v", approved.ApprovedAt, now)
			}
		}
		claimedAt := now
		if claimed := do(l.Claim(t.Context(), "web-1")); claimed.ID != first {
			t.Errorf("claimed action %d, want the one created first, %d", claimed.ID, first)
		}
		now = now.Add(-time.Hour)
		if done := do(l.Finish(t.Context(), "web-1", first, remediation.Result{})); !done.CompletedAt.Equal(now) {
			t.Errorf("completed_at is %v, want the clock's %v", done.CompletedAt, now)
		}
		do(l.Claim(t.Context(), "web-1"))
		now = now.Add(-time.Hour)
		none := must[[]remediation.Action](t)(l.FailOverdue(t.Context(), time.Minute, 10))
		now = latest.Add(2 * time.Minute)
		overdue := must[[]remediation.Action](t)(l.FailOverdue(t.Context(), time.Minute, 10))
		if len(none) != 0 || len(overdue) != 1 || overdue[0].ID != second {
			t.Errorf("swept %v while the clock was back and %v when it was right, want none and action %d", none, overdue, second)
		}
		kinds := []remediation.EventKind{}
		for _, e := range must[[]remediation.Event](t)(l.Events(t.Context(), 0, 100)) {
			kinds = append(kinds, e.Kind)
		}
		want := []remediation.EventKind{"created", "created", "approved", "approved", "executing", "completed", "executing", "failed"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if n := must[int64](t)(l.Prune(t.Context(), claimedAt.Add(-2*time.Hour), 10)); n != 0 {
			t.Errorf("pruned %d actions that finished later", n)
		}
	})
}
