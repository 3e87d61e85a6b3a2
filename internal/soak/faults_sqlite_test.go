package soak

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// The file of a ledger is moved away, and once also replaced, while many callers work. Calls fail with ErrFileGone
// until it is back, and every acknowledged action is stored.
func TestMovedFileUnderLoadLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	l := newCreateLog(t, d.ledger(t))
	path, away := string(d), string(d)+".away"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // in case a call never fails
	defer cancel()
	var uncertain []string // calls in progress may have written to the file before it was moved
	for _, moveAway := range []func() error{
		func() error { return os.Rename(path, away) },
		func() error { // replace it with another file
			return errors.Join(os.Rename(path, away), os.WriteFile(path, nil, 0o600))
		},
	} {
		errs, names := make([]error, 16), make([]string, 16)
		var working, wg sync.WaitGroup
		working.Add(len(errs))
		for i := range errs {
			wg.Go(func() {
				names[i], errs[i] = l.create(ctx, 10)
				working.Done()
				for errs[i] == nil {
					names[i], errs[i] = l.create(ctx, 10)
				}
			})
		}
		working.Wait()
		wantNoError(t, moveAway())
		wg.Wait()
		wantErrorIs(t, sqlite.ErrFileGone, errs...)
		wantNoError(t, os.Rename(away, path))
		wantNoError(t, l.createTogether(t, 16)...)
		uncertain = append(uncertain, names...)
		l.check(t, d, uncertain...)
	}
	d.check(t)
}

// Another program has the write lock. Writers get ErrBusy, and readers are unaffected.
func TestDatabaseLockedByAnotherProgramIsBusyForEveryWriter(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), string(d), sqlite.WithBusyTimeout(50*time.Millisecond)))
	defer store.Close()
	l := newCreateLog(t, remediation.New(store))
	other := d.raw(t)
	other.SetMaxOpenConns(1)
	_, err := other.Exec("BEGIN IMMEDIATE")
	wantNoError(t, err)
	wantErrorIs(t, remediation.ErrBusy, l.createTogether(t, 16)...)
	wantErrorIs(t, remediation.ErrBusy, l.Pause(t.Context(), "web-1"))
	_, err = l.List(t.Context(), remediation.Filter{})
	wantNoError(t, err)
	_, err = other.Exec("COMMIT")
	wantNoError(t, err)
	wantNoError(t, l.createTogether(t, 16)...)
	l.check(t, d)
}

// A quarter of the file is overwritten. Each read returns the correct action or an error, and a backup restores all
// actions.
func TestCorruptFileIsReportedAndNeverMisread(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	l := newCreateLog(t, d.ledger(t))
	for range 20 {
		wantNoError(t, l.createTogether(t, 20)...)
	}
	want := must[[]remediation.Action](t)(l.List(t.Context(), remediation.Filter{Limit: 1000}))
	_, err := d.raw(t).Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	wantNoError(t, err)
	intact := must[[]byte](t)(os.ReadFile(string(d)))
	damaged := database(filepath.Join(t.TempDir(), "ledger.db"))
	middle := len(intact) / 4096 / 2 * 4096 // after the pages of the schema, so that Open still succeeds
	garbage := bytes.Repeat([]byte{0xa5}, len(intact)/4)
	contents := slices.Concat(intact[:middle], garbage, intact[middle+len(garbage):])
	wantNoError(t, os.WriteFile(string(damaged), contents, 0o600))

	reopened := damaged.ledger(t)
	var lost []error
	for _, a := range want {
		got, err := reopened.Get(t.Context(), a.ID)
		if err != nil {
			lost = append(lost, err)
		} else if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("an action was misread from the damaged file (-want +got):\n%s", diff)
		}
	}
	wantErrorText(t, "malformed", lost...)
	_, err = reopened.Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "ann"})
	wantErrorText(t, "malformed", err)
	t.Logf("%d of %d actions can't be read", len(lost), len(want))

	wantNoError(t, os.WriteFile(string(damaged), intact, 0o600)) // from a backup
	restored := damaged.ledger(t)
	got := must[[]remediation.Action](t)(restored.List(t.Context(), remediation.Filter{Limit: 1000}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("actions after the backup was restored (-want +got):\n%s", diff)
	}
}

// Open refuses a file that is not a database, and does not change it.
func TestOpenLeavesAFileThatIsNotADatabaseUnchanged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	notes := bytes.Repeat([]byte("These are notes, not a database.\n"), 1000)
	wantNoError(t, os.WriteFile(path, notes, 0o600))
	_, err := sqlite.Open(t.Context(), path)
	wantErrorText(t, "not a database", err)
	if diff := cmp.Diff(notes, must[[]byte](t)(os.ReadFile(path))); diff != "" {
		t.Errorf("Open changed the file (-before +after):\n%s", diff)
	}
	wantNoError(t, os.Remove(path))
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), path))
	wantNoError(t, store.Migrate(t.Context()), store.Close())
}
