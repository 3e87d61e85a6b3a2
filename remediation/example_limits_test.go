package remediation_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// An action that nobody approved before its ExpiresAt never runs. Expire rejects it.
func ExampleLedger_Expire() {
	ctx := context.Background()
	now := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return now }))
	defer done()
	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}

	// region: limits
	tonight := time.Date(2026, 1, 19, 22, 0, 0, 0, time.UTC)
	action, err := ledger.Create(ctx, remediation.NewAction{
		ServerID: "web-1", ActionType: "upgrade", Command: "apt-get -y upgrade", CreatedBy: "dashboard",
		NotBefore: &tonight, ExpiresAt: new(tonight.Add(4 * time.Hour)), MaxRuntimeSeconds: new(int64(1800)),
	})
	// endregion
	if err != nil {
		log.Fatal(err)
	}

	now = now.Add(20 * time.Hour)
	_, err = ledger.Approve(ctx, action.ID, "alice")
	fmt.Println(err)

	// region: expire
	expired, err := ledger.Expire(ctx, 1000)
	if err != nil {
		log.Fatal(err)
	}
	for _, action := range expired {
		fmt.Printf("action %d is %s by %s: %s\n", action.ID, action.Status, *action.RejectedBy, *action.RejectionReason)
	}
	// endregion
	// Output:
	// approve: action 1 has expired
	// action 1 is rejected by auto: expired at 2026-01-20 02:00:00 UTC
}

// A request to cancel reaches the agent with its next heartbeat. The agent stops the command and reports the result.
func ExampleLedger_RequestCancel() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	id := exampleQueue(ledger, "web-1", "rsync -a /srv /backup")
	if _, err := ledger.Claim(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	heartbeat := func() remediation.Action {
		action, err := ledger.Heartbeat(ctx, "web-1", id)
		if err != nil {
			log.Fatal(err)
		}
		return action
	}

	fmt.Println("cancelled:", heartbeat().CancelRequestedAt != nil)
	if _, err := ledger.RequestCancel(ctx, id, "alice", "the disk is full"); err != nil {
		log.Fatal(err)
	}
	if action := heartbeat(); action.CancelRequestedAt != nil {
		fmt.Printf("%s, and %s asks to stop: %s\n", action.Status, *action.CancelRequestedBy, *action.CancelReason)
	}
	action, err := ledger.Finish(ctx, "web-1", id, remediation.Result{ExitCode: -1, Stderr: "killed\n"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status)
	// Output:
	// cancelled: false
	// executing, and alice asks to stop: the disk is full
	// failed
}

// With an IdempotencyKey, a program can retry a Create whose result was lost. The retry does not create a second
// action.
func ExampleLedger_Create_idempotency() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	restart := remediation.NewAction{
		ServerID: "web-1", ActionType: "restart_service", Command: "systemctl restart nginx", CreatedBy: "dashboard",
		IdempotencyKey: new("request 4711"),
	}

	for range 2 {
		action, err := createOnce(ctx, ledger, restart)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("action", action.ID)
	}
	restart.Command = "systemctl restart sshd"
	_, err := createOnce(ctx, ledger, restart)
	if duplicate := (*remediation.DuplicateError)(nil); errors.As(err, &duplicate) {
		fmt.Println("another request had this key: action", duplicate.ExistingID)
	}
	// Output:
	// action 1
	// action 1
	// another request had this key: action 1
}

// region: idempotency

// createOnce repeats a Create until it has an answer. With an IdempotencyKey only the first call creates the action.
func createOnce(ctx context.Context, ledger *remediation.Ledger, a remediation.NewAction) (remediation.Action, error) {
	for {
		action, err := ledger.Create(ctx, a)
		if err == nil || ctx.Err() != nil || errors.Is(err, remediation.ErrInvalidInput) ||
			errors.Is(err, remediation.ErrServerNotFound) || errors.Is(err, remediation.ErrAlertNotFound) ||
			errors.Is(err, remediation.ErrDuplicate) {
			return action, err
		}
		time.Sleep(time.Second)
	}
}

// endregion

// Four eyes: an action can't be approved by the person who created it.
func ExampleLedger_ForbidSelfApproval() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")

	// region: foureyes
	if err := ledger.ForbidSelfApproval(ctx, "db-1", true); err != nil {
		log.Fatal(err)
	}
	_, err := ledger.Approve(ctx, id, "dashboard") // "dashboard" created the action
	var refused *remediation.TransitionError
	if errors.As(err, &refused) && refused.Why == remediation.ReasonSelfApproval {
		fmt.Println("another person must approve it")
	}
	// endregion
	action, err := ledger.Approve(ctx, id, "alice")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status, "by", *action.ApprovedBy)
	// Output:
	// another person must approve it
	// approved by alice
}
