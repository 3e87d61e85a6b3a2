package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	modernc "modernc.org/sqlite"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// shared is a store whose writer another program keeps waiting, so that a test decides what waits in line.
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
			var says string
			if err := other.QueryRow(pragma).Scan(&says); err != nil || says != "ok" {
				t.Errorf("%s: %q, %v", pragma, says, err)
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

// whileLocked runs calls so that the first waits for another program's lock and all others wait in line behind it.
func (s *shared) whileLocked(t *testing.T, calls ...func() error) []error {
	t.Helper()
	lock, err := s.other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call() })
		s.await(t, func() bool { return len(s.commits.turn) == 1 && len(s.commits.line) == i })
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return errs
}

func (s *shared) await(t *testing.T, ready func() bool) {
	t.Helper()
	for !ready() {
		if t.Context().Err() != nil {
			t.Fatal("the test ended before its calls were in line")
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (s *shared) create(ctx context.Context, command string) error {
	_, err := s.ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: command, CreatedBy: "ann",
	})
	return err
}

// commands are those that a new connection finds.
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

func TestCallsThatWaitTogetherShareOneCommit(t *testing.T) {
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
	one := walBytes()
	if err := s.create(t.Context(), "alone"); err != nil {
		t.Fatal(err)
	}
	one = walBytes() - one // what one commit writes
	var creates []func() error
	for i := range calls {
		creates = append(creates, func() error { return s.create(t.Context(), fmt.Sprintf("c%03d", i)) })
	}
	before := walBytes()
	for i, err := range s.whileLocked(t, creates...) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if written := walBytes() - before; written > calls/2*one {
		t.Errorf("%d calls wrote %d bytes to the WAL, where one alone writes %d: they did not share", calls, written, one)
	}
	if got := len(s.commands(t)); got != calls+1 {
		t.Errorf("%d actions, want %d", got, calls+1)
	}
}

func TestStatementThatFailsInASharedTransactionFailsAlone(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	if err := s.create(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ledger.Claim(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	var refused error
	errs := s.whileLocked(t,
		func() error { return s.create(t.Context(), "b") },
		func() error { return s.create(t.Context(), "c") },
		func() error { // completed with exit code 1: the database refuses that
			_, refused = s.FinishAction(t.Context(), "web-1", 1, remediation.Completed, remediation.Result{ExitCode: 1}, now)
			return nil
		},
		func() error { return s.create(t.Context(), "d") })
	s.expect(t, errs, make([]error, 4), "a", "b", "c", "d")
	if !ownFault(refused) || refused == nil {
		t.Errorf("the refused statement: %v, want a constraint's error", refused)
	}
	if a, err := s.ledger.Get(t.Context(), 1); err != nil || a.Status != remediation.Executing {
		t.Errorf("action 1 is %s, %v", a.Status, err)
	}
}

// An error that may have rolled back the whole transaction must not let the statements after it commit by themselves.
func TestStatementThatBreaksASharedTransactionLeavesTheOthersToRunAlone(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	broken := errors.New("disk I/O error")
	errs := s.whileLocked(t,
		func() error { return s.create(t.Context(), "a") },
		func() error { return s.create(t.Context(), "b") },
		func() error {
			_, err := write(t.Context(), &s.store, func(context.Context, *sqlitedb.Queries) (int, error) { return 0, broken })
			return err
		},
		func() error { return s.create(t.Context(), "c") })
	s.expect(t, errs, []error{nil, nil, broken, nil}, "a", "b", "c")
}

func TestCommitThatFailsFailsEveryCallThatShares(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	conn, err := s.writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deny := true
	err = conn.Raw(func(c any) error {
		return c.(modernc.AuthorizerRegisterer).RegisterAuthorizer(
			func(action modernc.AuthorizerActionCode, arg1, _, _, _ string) modernc.AuthorizerReturnCode {
				if action == modernc.AuthTransaction && arg1 == "COMMIT" && deny {
					return modernc.AuthorizerDeny
				}
				return modernc.AuthorizerOK
			})
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	errs := s.whileLocked(t,
		func() error { return s.create(t.Context(), "alone") }, // has no COMMIT to deny
		func() error { return s.create(t.Context(), "a") },
		func() error { return s.create(t.Context(), "b") })
	if errs[0] != nil || errs[1] == nil || errs[2] == nil {
		t.Errorf("errors %v, want none, and two", errs)
	}
	if diff := cmp.Diff([]string{"alone"}, s.commands(t)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	deny = false
	errs = s.whileLocked(t,
		func() error { return s.create(t.Context(), "c") },
		func() error { return s.create(t.Context(), "d") },
		func() error { return s.create(t.Context(), "e") })
	s.expect(t, errs, make([]error, 3), "alone", "c", "d", "e")
}

func TestContextThatEndsInLineMeansItNeverRan(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	errs := s.whileLocked(t,
		func() error { return s.create(t.Context(), "a") },
		func() error {
			err := s.create(ctx, "never")
			gaveUp <- err
			return err
		},
		func() error { // is in line behind it, and answers only after it has given up
			cancel()
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				t.Errorf("the call that gave up: %v", err)
			}
			return s.create(t.Context(), "b")
		})
	s.expect(t, errs, []error{nil, context.Canceled, nil}, "a", "b")
}

func TestCloseAnswersEveryCallThatWaits(t *testing.T) {
	t.Parallel()
	s := openShared(t)
	closed := make(chan error, 1)
	errs := s.whileLocked(t,
		func() error { return s.create(t.Context(), "a") },
		func() error { return s.create(t.Context(), "b") },
		func() error {
			go func() { closed <- s.Close() }()
			return s.create(t.Context(), "c")
		})
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	want := []string{"a", "b"}
	if errs[2] == nil {
		want = append(want, "c")
	} else if !errors.Is(errs[2], ErrClosed) {
		t.Errorf("the call beside Close: %v", errs[2])
	}
	s.expect(t, errs[:2], make([]error, 2), want...)
	if err := s.create(t.Context(), "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestContextsThatEndAtAnyMomentLoseNoAnswer(t *testing.T) {
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
	there := map[string]int{}
	for _, command := range s.commands(t) {
		there[command]++
	}
	for command, n := range there {
		if n != 1 {
			t.Errorf("%s is there %d times", command, n)
		}
	}
	for _, list := range acknowledged {
		for _, command := range list {
			if there[command] != 1 {
				t.Errorf("%s was acknowledged and is not there", command)
			}
		}
	}
	if err := s.create(t.Context(), "after"); err != nil {
		t.Errorf("the writer after all that: %v", err)
	}
}
