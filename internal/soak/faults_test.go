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

// This file has the helpers of all fault tests, and the faults of both engines: schema versions and wrong clocks.

// createLog records which calls of Create succeeded, so that a test can compare them with the stored actions.
type createLog struct {
	*remediation.Ledger
	prefix    string // of the names, if several logs share a database
	mu        sync.Mutex
	created   int      // number of calls of create
	succeeded []string // names of the actions whose Create returned no error
}

// newCreateLog adds the server of all actions.
func newCreateLog(t *testing.T, l *remediation.Ledger) *createLog {
	t.Helper()
	if err := l.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return &createLog{Ledger: l}
}

// create creates an action with a unique name and a command of about size bytes. The name is the action's type.
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

// createTogether calls create from n goroutines and returns their errors.
func (l *createLog) createTogether(t *testing.T, n int) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = l.create(t.Context(), 10) })
	}
	wg.Wait()
	return errs
}

// check opens the database again and expects exactly the acknowledged actions. The actions in uncertain may exist or
// not.
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

// column opens the database again and returns the first column of a query's rows.
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

// wantErrorText expects each error to contain text, and logs the first one.
func wantErrorText(t *testing.T, text string, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want an error with the text %q", err, text)
			return
		}
	}
	t.Logf("%v", errs[0])
}

// wantErrorIs expects errors.Is(err, kind) of each error, and logs the first one.
func wantErrorIs(t *testing.T, kind error, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if !errors.Is(err, kind) {
			t.Errorf("%v, want an error that matches %q", err, kind)
			return
		}
	}
	t.Logf("%v", errs[0])
}

// Calls fail with ErrSchemaVersion while the schema is newer, older or dirty. Migrate repairs only the older schema.
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

// migrate calls Migrate.
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

// wantVersion expects ErrSchemaVersion with text.
func wantVersion(t *testing.T, text string, err error) {
	t.Helper()
	wantErrorIs(t, remediation.ErrSchemaVersion, err)
	wantErrorText(t, text, err)
}

// The clock is set back an hour several times. All calls succeed, use the clock's time, and sweep or prune nothing too
// early.
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
		latest := now // the latest time of both actions, from which FailOverdue counts
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
			t.Errorf("FailOverdue returned %v while the clock was behind and %v afterwards, want none and action %d",
				none, overdue, second)
		}
		kinds := []remediation.EventKind{}
		for _, e := range must[[]remediation.Event](t)(l.Events(t.Context(), 0, 100)) {
			kinds = append(kinds, e.Kind)
		}
		want := []remediation.EventKind{"created", "created", "approved", "approved",
			"executing", "completed", "executing", "failed"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if n := must[int64](t)(l.Prune(t.Context(), claimedAt.Add(-2*time.Hour), 10)); n != 0 {
			t.Errorf("pruned %d actions that finished later", n)
		}
	})
}
