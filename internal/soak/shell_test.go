package soak

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// This file tests a ledger that shares its file with the sqlite3 shell.

// shell is a running sqlite3 shell on the file of a ledger.
type shell struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startShell starts a shell, and kills it when the test ends.
func startShell(t *testing.T, d database) *shell {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		skipOrFail(t, fmt.Errorf("can't find the sqlite3 shell: %w", err))
	}
	s := &shell{Cmd: exec.Command(program, "-batch", "-bail", string(d))}
	s.Stderr = os.Stderr
	s.in = must[io.WriteCloser](t)(s.StdinPipe())
	s.out = bufio.NewScanner(must[io.ReadCloser](t)(s.StdoutPipe()))
	wantNoError(t, s.Start())
	t.Cleanup(s.kill)
	return s
}

// run executes statements in the shell and waits until they are done.
func (s *shell) run(t *testing.T, statements string) {
	t.Helper()
	_, err := fmt.Fprintln(s.in, statements+"; SELECT 'done';")
	wantNoError(t, err)
	if !s.out.Scan() || s.out.Text() != "done" {
		t.Fatalf("sqlite3: %s: output %q, %v", statements, s.out.Text(), s.out.Err())
	}
}

func (s *shell) kill() {
	s.Process.Kill()
	s.Wait()
}

// The shell takes the write lock, then commits, rolls back or is killed. Meanwhile calls with a short busy timeout get
// ErrBusy, calls with a long one wait, and reads continue.
func TestLedgerAndTheSqlite3ShellShareOneFile(t *testing.T) {
	t.Parallel()
	const timeout = 30 * time.Millisecond
	d := newSQLite(t)
	t.Cleanup(func() { d.check(t) })
	longWait := newCreateLog(t, d.ledger(t))
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), string(d), sqlite.WithBusyTimeout(timeout)))
	defer store.Close()
	shortWait := &createLog{Ledger: remediation.New(store), prefix: "hasty-"}

	var busy, waited, killed int
	var reads atomic.Int64
	servers := []string{"web-1"} // and the servers that the shell commits
	r := newRun(t, 3, func() string {
		return fmt.Sprintf("%d calls got ErrBusy, %d waited for the shell, %d shells killed, %d reads during the locks",
			busy, waited, killed, reads.Load())
	})
	hold := 100 * time.Millisecond
	if *length > 0 {
		hold = 3 * time.Second
	}
	for r.next() {
		sh := startShell(t, d)
		server := fmt.Sprintf("shell-%d", r.rounds)
		sh.run(t, "PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; INSERT INTO servers (id) VALUES ('"+server+"')")
		var wg sync.WaitGroup
		var released atomic.Bool
		wg.Go(func() {
			for !released.Load() {
				if _, err := shortWait.List(t.Context(), remediation.Filter{ServerID: "web-1"}); err != nil {
					t.Errorf("a read during the shell's transaction: %v", err)
					return
				}
				reads.Add(1)
			}
		})
		for range 2 {
			begin := time.Now()
			for _, err := range shortWait.createTogether(t, 8) {
				if !errors.Is(err, remediation.ErrBusy) || time.Since(begin) < timeout {
					t.Errorf("call with busy timeout %v: %v after %v, want ErrBusy", timeout, err, time.Since(begin))
				}
				busy++
			}
		}

		errs := make([]error, 32)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = longWait.create(t.Context(), 10)
				if errs[i] == nil && !released.Load() {
					t.Error("a call succeeded while the shell held the write lock")
				}
			})
		}
		<-time.After(time.Duration(r.Int64N(int64(hold))))
		released.Store(true)
		switch r.IntN(3) {
		case 0:
			sh.run(t, "ROLLBACK")
		case 1:
			sh.kill()
			killed++
		default:
			servers = append(servers, server)
			sh.run(t, "COMMIT")
		}
		wg.Wait()
		wantNoError(t, errs...)
		waited += len(errs)
		wantNoError(t, shortWait.createTogether(t, 8)...)
		sh.kill()
	}
	both := &createLog{succeeded: slices.Concat(longWait.succeeded, shortWait.succeeded)}
	both.check(t, d)
	slices.Sort(servers)
	if diff := cmp.Diff(servers, d.column(t, "SELECT id FROM servers ORDER BY id")); diff != "" {
		t.Errorf("servers (-committed +found):\n%s", diff)
	}
}
