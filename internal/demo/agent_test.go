//go:build unix

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// newAgent returns a demo with a new ledger and the server web-1. It prints nothing.
func newAgent(t *testing.T) *demo {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &demo{ledger: remediation.New(store), out: io.Discard}
	if err := d.ledger.AddServer(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	return d
}

// ended checks that the agent reported the action as killed, and that its stderr contains the reason.
func (d *demo) ended(t *testing.T, id int64, why string) {
	t.Helper()
	a, err := d.ledger.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != remediation.Failed || *a.ExitCode != -1 || !strings.Contains(*a.Stderr, why) {
		t.Errorf("the action is %s with exit code %d and stderr %q; want failed, -1 and %q", a.Status, *a.ExitCode, *a.Stderr, why)
	}
}

// Every process of the command has the pipe open, so the test reads the end of the pipe only when all of them have
// ended.
func TestCancelledCommandLeavesNoProcess(t *testing.T) {
	d := newAgent(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := d.queue(t.Context(), remediation.NewAction{
		ServerID: web, ActionType: "test", Command: "exec 3> '" + pipe + "'; sleep 60 & echo up >&3; wait",
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.agent(t.Context(), web) }()

	processes, err := os.Open(pipe) // blocks until the command opens the pipe
	if err != nil {
		t.Fatal(err)
	}
	defer processes.Close()
	if err := processes.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(processes, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ledger.RequestCancel(t.Context(), a.ID, "alice", "the wrong server"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(processes); err != nil {
		t.Errorf("a process of the command still runs: %v", err)
	}
	d.ended(t, a.ID, "alice asked to stop it: the wrong server")
}

func TestCommandIsKilledAfterItsMaxRuntime(t *testing.T) {
	d := newAgent(t)
	a, err := d.queue(t.Context(), remediation.NewAction{
		ServerID: web, ActionType: "test", Command: "sleep 60", MaxRuntimeSeconds: new(int64(1)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.agent(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	d.ended(t, a.ID, "ran for longer than 1s")
}

func TestCommandOfAClosedActionIsKilled(t *testing.T) {
	d := newAgent(t)
	a, err := d.queue(t.Context(), remediation.NewAction{ServerID: web, ActionType: "test", Command: "sleep 60"})
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := d.ledger.Claim(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ledger.Finish(t.Context(), web, a.ID, remediation.Result{}); err != nil {
		t.Fatal(err)
	}
	result := execute(t.Context(), d.ledger, claimed)
	if result.ExitCode != -1 || !strings.Contains(result.Stderr, "action 1 is completed") {
		t.Errorf("the command of a closed action ended with %+v", result)
	}
}
