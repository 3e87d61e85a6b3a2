// A complete program: a command is queued, approved by a person and executed, and its result is kept.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/exec"
	"strings"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

func main() {
	ctx := context.Background()

	store, err := sqlite.Open(ctx, "ledger.db") // created if there is none
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	ledger := remediation.New(store)

	// The hub queues a command. In maintenance it waits for a person; in normal mode it is approved at once.
	if err := ledger.AddServer(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	queued, err := ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "check", Command: "echo all is well", CreatedBy: "dashboard",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("queued:", queued.Status)

	if _, err := ledger.Approve(ctx, queued.ID, "alice"); err != nil {
		log.Fatal(err)
	}

	// The agent of web-1 claims what may run, runs it, and reports the result.
	for {
		action, err := ledger.Claim(ctx, "web-1")
		if errors.Is(err, remediation.ErrNothingToClaim) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		var stdout, stderr strings.Builder
		cmd := exec.CommandContext(ctx, "sh", "-c", action.Command)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			log.Fatal(err) // the command did not start, so there is no exit code to report
		}
		done, err := ledger.Finish(ctx, "web-1", action.ID, remediation.Result{
			ExitCode: int64(cmd.ProcessState.ExitCode()), Stdout: stdout.String(), Stderr: stderr.String(),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s by %s, exit code %d: %s", done.Status, *done.ApprovedBy, *done.ExitCode, *done.Stdout)
	}
}
