package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/homelab-cmd/actionledger/remediation"
)

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

// agent does what a real one does on its server, which would wait a moment and claim again where this one returns.
func (d *demo) agent(ctx context.Context, server string) error {
	for {
		a, err := d.ledger.Claim(ctx, server)
		if errors.Is(err, remediation.ErrNothingToClaim) {
			return nil
		}
		if err != nil {
			return err
		}
		result, err := execute(ctx, a.Command)
		if err != nil {
			return fmt.Errorf("execute action %d: %w", a.ID, err)
		}
		a, err = d.ledger.Finish(ctx, server, a.ID, result)
		if err != nil {
			return err
		}
		d.say("%s ran #%d: %s, exit code %d", server, a.ID, a.Status, *a.ExitCode)
	}
}

// execute returns an error only when there was no command to give an exit code; one that failed is a result.
func execute(ctx context.Context, command string) (remediation.Result, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return remediation.Result{}, err
	}
	return remediation.Result{
		ExitCode: int64(cmd.ProcessState.ExitCode()),
		Stdout:   stdout.String(),
		Stderr:   stderr.String(),
	}, nil
}
