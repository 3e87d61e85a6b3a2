//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// work lets the agent of each server run its actions, then shows that Start refuses the one that is held.
func (d *demo) work(ctx context.Context) error {
	for _, server := range []string{web, db} {
		if err := d.agent(ctx, server); err != nil {
			return err
		}
	}
	_, err := d.ledger.Start(ctx, d.held)
	return d.refused(fmt.Sprintf("Starting #%d by hand", d.held), err)
}

func (d *demo) endMaintenance(ctx context.Context) error {
	if err := d.ledger.Unpause(ctx, db); err != nil {
		return err
	}
	return d.agent(ctx, db)
}

// agent runs the approved actions of a server like a real agent. A real agent waits and claims again when there is
// nothing to claim; this one returns.
func (d *demo) agent(ctx context.Context, server string) error {
	for {
		a, err := d.ledger.Claim(ctx, server)
		if errors.Is(err, remediation.ErrNothingToClaim) {
			return nil
		}
		if err != nil {
			return err
		}
		result := execute(ctx, d.ledger, a)
		a, err = d.ledger.Finish(context.WithoutCancel(ctx), server, a.ID, result)
		if err != nil {
			return err
		}
		if a.CancelRequestedAt != nil {
			d.say("%s asks %s to stop #%d: %s", *a.CancelRequestedBy, server, a.ID, *a.CancelReason)
		}
		d.say("%s ran #%d: %s, exit code %d", server, a.ID, a.Status, *a.ExitCode)
	}
}

// region: agent

const (
	longest = time.Minute            // the time limit of a command without MaxRuntimeSeconds
	beat    = 100 * time.Millisecond // between two heartbeats; 5 seconds are enough for a real agent
)

// execute runs the command of a claimed action in a process group of its own, and returns the result for Finish. It kills
// the group when the time limit is over, when a person asks for that, or when the ledger has closed the action. The exit
// code is -1 if the command was killed or did not start; stderr then says why.
func execute(ctx context.Context, ledger *remediation.Ledger, a remediation.Action) remediation.Result {
	limit := longest
	if a.MaxRuntimeSeconds != nil {
		limit = time.Duration(*a.MaxRuntimeSeconds) * time.Second
	}
	running, done := context.WithTimeoutCause(ctx, limit, fmt.Errorf("ran for longer than %s", limit))
	defer done()
	running, stop := context.WithCancelCause(running)
	defer stop(nil)
	go watch(running, stop, ledger, a)

	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(running, "sh", "-c", a.Command)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // a process that left the group may hold the outputs open
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if code == -1 {
		fmt.Fprintln(&stderr, "agent:", cmp.Or(context.Cause(running), err))
	}
	return remediation.Result{ExitCode: int64(code), Stdout: stdout.String(), Stderr: stderr.String()}
}

// watch sends heartbeats while a command runs. It stops the command when a person asks for that, or when the ledger has
// closed the action. After any other error it tries again at the next heartbeat.
func watch(running context.Context, stop context.CancelCauseFunc, ledger *remediation.Ledger, a remediation.Action) {
	for {
		select {
		case <-running.Done():
			return
		case <-time.After(beat):
		}
		seen, err := ledger.Heartbeat(running, a.ServerID, a.ID)
		switch {
		case errors.Is(err, remediation.ErrInvalidTransition), errors.Is(err, remediation.ErrNotFound):
			stop(err)
		case err == nil && seen.CancelRequestedAt != nil:
			stop(fmt.Errorf("%s asked to stop it: %s", *seen.CancelRequestedBy, *seen.CancelReason))
		}
	}
}

// endregion
