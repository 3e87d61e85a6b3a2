package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/homelab-cmd/actionledger/internal/batch"
	"github.com/homelab-cmd/actionledger/remediation"
)

// shared is a store for tests of group commit. The test leads the store's queue, and so decides which calls share a
// commit.
type shared struct {
	*Store
	ledger *remediation.Ledger
	path   string
	other  *sql.DB
}

func openShared(t *testing.T) *shared {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s, err := Open(t.Context(), path, WithBusyTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pragma := range []string{"PRAGMA integrity_check", "SELECT coalesce((SELECT 'broken' FROM pragma_foreign_key_check), 'ok')"} {
			var result string
			if err := other.QueryRow(pragma).Scan(&result); err != nil || result != "ok" {
				t.Errorf("%s: %q, %v", pragma, result, err)
			}
		}
		if err := errors.Join(s.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	})
	l := remediation.New(s)
	if err := l.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return &shared{s, l, path, other}
}

func (s *shared) queue() *batch.Queue[queued] { return s.backend.writes.(*groupCommit).queue }

// together queues all calls in this order before the first of them runs.
func (s *shared) together(t *testing.T, calls ...func() error) []error {
	t.Helper()
	s.lead(t)
	_, stale := s.queue().Stat()
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call() })
		s.awaitQueued(t, stale+i+1)
	}
	s.queue().Release()
	wg.Wait()
	return errs
}

func (s *shared) lead(t *testing.T) {
	t.Helper()
	if err := s.queue().Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitQueued returns when n calls are queued. The test is the leader.
func (s *shared) awaitQueued(t *testing.T, n int) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		_, queued := s.queue().Stat()
		if queued == n {
			return
		}
		if time.Since(begin) > time.Minute {
			s.queue().Release() // otherwise Close waits for the calls
			t.Fatalf("%d calls are queued after a minute, want %d", queued, n)
		}
	}
}

func (s *shared) create(ctx context.Context, command string) error {
	_, err := s.ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: command, CreatedBy: "ann",
	})
	return err
}

// commands returns the commands of all actions that another connection sees.
func (s *shared) commands(t *testing.T) []string {
	t.Helper()
	rows, err := s.other.Query("SELECT command FROM remediation_actions ORDER BY command")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	list := []string{}
	for rows.Next() {
		var command string
		if err := rows.Scan(&command); err != nil {
			t.Fatal(err)
		}
		list = append(list, command)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func (s *shared) expect(t *testing.T, errs []error, want []error, commands ...string) {
	t.Helper()
	for i, err := range errs {
		if !errors.Is(err, want[i]) {
			t.Errorf("call %d: %v, want %v", i, err, want[i])
		}
	}
	if diff := cmp.Diff(commands, s.commands(t)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestQueuedCallsShareOneCommit(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	walBytes := func() int64 {
		info, err := os.Stat(s.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	const calls = 100
	oneCommit := walBytes()
	if err := s.create(t.Context(), "alone"); err != nil {
		t.Fatal(err)
	}
	oneCommit = walBytes() - oneCommit
	var creates []func() error
	for i := range calls {
		creates = append(creates, func() error { return s.create(t.Context(), fmt.Sprintf("c%03d", i)) })
	}
	before := walBytes()
	for i, err := range s.together(t, creates...) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if written := walBytes() - before; written > calls/2*oneCommit {
		t.Errorf("%d calls wrote %d bytes to the WAL and one call wrote %d: they did not share a commit", calls, written, oneCommit)
	}
	if got := len(s.commands(t)); got != calls+1 {
		t.Errorf("%d actions, want %d", got, calls+1)
	}
}

func TestFailedStatementInAGroupCommitFailsOnlyItsCall(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	if err := s.create(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	var refused error
	errs := s.together(t,
		func() error { return s.create(t.Context(), "b") },
		func() error { return s.create(t.Context(), "c") },
		func() error { // the database refuses the NUL, which a Ledger would not pass on
			_, refused = s.backend.WithdrawAction(t.Context(), 1, "al\x00ice", "no", now)
			return nil
		},
		func() error { return s.create(t.Context(), "d") })
	s.expect(t, errs, make([]error, 4), "a", "b", "c", "d")
	if code(refused)&0xff != sqlite3.SQLITE_CONSTRAINT {
		t.Errorf("the refused statement: %v, want a constraint's error", refused)
	}
	if a, err := s.ledger.Get(t.Context(), 1); err != nil || a.Status != remediation.Approved {
		t.Errorf("action 1 is %s, %v", a.Status, err)
	}
}

// A trigger of the host program may roll back the transaction, and SQLite reports that as a failed constraint.
func TestRollbackByATriggerInAGroupCommitFailsOnlyItsCall(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	if _, err := s.writer.Exec(`CREATE TRIGGER mine BEFORE INSERT ON remediation_actions WHEN NEW.command = 'no'
		BEGIN SELECT RAISE(ROLLBACK, 'mine'); END`); err != nil {
		t.Fatal(err)
	}
	var refused error
	errs := s.together(t,
		func() error { return s.create(t.Context(), "a") },
		func() error {
			refused = s.create(t.Context(), "no")
			return nil
		},
		func() error { return s.create(t.Context(), "b") },
		func() error { return s.create(t.Context(), "c") })
	s.expect(t, errs, make([]error, 4), "a", "b", "c")
	if code(refused)&0xff != sqlite3.SQLITE_CONSTRAINT {
		t.Errorf("the refused statement: %v, want a constraint's error", refused)
	}
}

func TestFullDiskFailsOnlyTheCallThatDidNotFit(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	var pages int
	if err := s.writer.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+50)); err != nil {
		t.Fatal(err)
	}
	errs := s.together(t,
		func() error { return s.create(t.Context(), "a") },
		func() error { return s.create(t.Context(), "b") },
		func() error { return s.create(t.Context(), strings.Repeat("x", 1<<20)) }, // does not fit on the disk
		func() error { return s.create(t.Context(), "c") })
	if code(errs[2]) != sqlite3.SQLITE_FULL {
		t.Errorf("the call that filled the disk: %v", errs[2])
	}
	errs[2] = nil
	s.expect(t, errs, make([]error, 4), "a", "b", "c")
}

func TestFailedGroupCommitFailsEveryCall(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	conn, err := s.writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var deny atomic.Bool
	deny.Store(true)
	err = conn.Raw(func(c any) error {
		return c.(modernc.AuthorizerRegisterer).RegisterAuthorizer(
			func(action modernc.AuthorizerActionCode, arg1, _, _, _ string) modernc.AuthorizerReturnCode {
				if action == modernc.AuthTransaction && arg1 == "COMMIT" && deny.Load() {
					return modernc.AuthorizerDeny
				}
				return modernc.AuthorizerOK
			})
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	errs := s.together(t,
		func() error { return s.create(t.Context(), "a") },
		func() error { return s.create(t.Context(), "b") })
	if errs[0] == nil || errs[1] == nil {
		t.Errorf("errors %v, want two", errs)
	}
	if diff := cmp.Diff([]string{}, s.commands(t)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	deny.Store(false)
	errs = s.together(t,
		func() error { return s.create(t.Context(), "c") },
		func() error { return s.create(t.Context(), "d") },
		func() error { return s.create(t.Context(), "e") })
	s.expect(t, errs, make([]error, 3), "c", "d", "e")
}

func TestCallWhoseContextEndsInTheQueueNeverRuns(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	errs := s.together(t,
		func() error { return s.create(t.Context(), "a") },
		func() error {
			err := s.create(ctx, "never")
			gaveUp <- err
			return err
		},
		func() error { // cancels the call before it in the queue, and waits until that gave up
			cancel()
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				t.Errorf("the call that gave up: %v", err)
			}
			return s.create(t.Context(), "b")
		})
	s.expect(t, errs, []error{nil, context.Canceled, nil}, "a", "b")
}

// A call stays in the queue, where its context can end it, until the leader has begun the transaction.
func TestContextEndsTheWaitForAnotherProgramsLock(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	tx, err := s.other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stays, gives := make(chan error, 1), make(chan error, 2)
	s.lead(t)
	go func() { stays <- s.create(t.Context(), "a") }()
	for range cap(gives) {
		go func() { gives <- s.create(ctx, "never") }()
	}
	s.awaitQueued(t, 3)
	s.queue().Release()
	for led := false; !led; led, _ = s.queue().Stat() { // until one of the calls leads
		runtime.Gosched()
	}
	cancel()
	gaveUp := []error{<-gives, <-gives}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	s.expect(t, append(gaveUp, <-stays), []error{context.Canceled, context.Canceled, nil}, "a")
}

func TestCloseWaitsForQueuedCalls(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	s.lead(t)
	a, b, concurrent, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { a <- s.create(t.Context(), "a") }()
	go func() { b <- s.create(t.Context(), "b") }()
	s.awaitQueued(t, 2)
	go func() { closed <- s.Close() }()
	go func() { concurrent <- s.create(t.Context(), "c") }()
	s.queue().Release()
	want := []string{"a", "b"}
	if err := errors.Join(<-a, <-b, <-closed); err != nil {
		t.Error(err)
	}
	if err := <-concurrent; err == nil {
		want = append(want, "c")
	} else if !errors.Is(err, ErrClosed) {
		t.Errorf("the call at the same time as Close: %v", err)
	}
	if diff := cmp.Diff(want, s.commands(t)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if err := s.create(t.Context(), "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestContextsThatEndAtAnyTimeLoseNoAcknowledgedAction(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	const callers, each = 32, 40
	acknowledged := make([][]string, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((c*each+i)%17)*300*time.Microsecond)
				command := fmt.Sprintf("%02d.%02d", c, i)
				err := s.create(ctx, command)
				if err == nil {
					acknowledged[c] = append(acknowledged[c], command)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", command, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	stored := map[string]int{}
	for _, command := range s.commands(t) {
		stored[command]++
	}
	for command, n := range stored {
		if n != 1 {
			t.Errorf("%s is stored %d times", command, n)
		}
	}
	for _, list := range acknowledged {
		for _, command := range list {
			if stored[command] != 1 {
				t.Errorf("%s was acknowledged but is not stored", command)
			}
		}
	}
	if err := s.create(t.Context(), "after"); err != nil {
		t.Errorf("Create after the contexts ended: %v", err)
	}
}
