package remediation_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// While an action of the server with the same DedupeKey is open, Create does not create another one.
func ExampleLedger_Create_dedupe() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()

	for range 2 {
		// region: dedupe
		action, err := ledger.Create(ctx, remediation.NewAction{
			ServerID: "web-1", ActionType: "restart_service", ServiceName: new("nginx"),
			Command: "systemctl restart nginx", CreatedBy: "dashboard",
			DedupeKey: new("restart_service:nginx"), // one restart per service; "apt" would be one apt run of any kind
		})
		var duplicate *remediation.DuplicateError
		switch {
		case errors.As(err, &duplicate):
			fmt.Println("already queued as action", duplicate.ExistingID)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println("queued as action", action.ID)
		}
		// endregion
	}
	// Output:
	// queued as action 1
	// already queued as action 1
}

// ApproveMany approves many actions in one statement, and returns one outcome per id.
func ExampleLedger_ApproveMany() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	first := examplePending(ledger, "db-1", "vacuumdb --all")
	second := examplePending(ledger, "db-1", "reindexdb --all")
	if _, err := ledger.Reject(ctx, second, "bob", "the backup still runs"); err != nil {
		log.Fatal(err)
	}

	// region: many
	outcomes, err := ledger.ApproveMany(ctx, []int64{second, first, 99}, "alice")
	if err != nil {
		log.Fatal(err) // nothing was decided
	}
	for _, outcome := range outcomes {
		if outcome.Err != nil {
			fmt.Println(outcome.Err)
			continue
		}
		fmt.Println(outcome.Action.Command, "is", outcome.Action.Status)
	}
	// endregion
	// Output:
	// approve: action 2 is rejected and can't become approved
	// vacuumdb --all is approved
	// approve action 99: no such action
}

// RejectMany rejects many actions for the same reason.
func ExampleLedger_RejectMany() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	waiting := []int64{examplePending(ledger, "db-1", "vacuumdb --all"), examplePending(ledger, "db-1", "reindexdb --all")}

	outcomes, err := ledger.RejectMany(ctx, waiting, "alice", "the disk is being replaced")
	if err != nil {
		log.Fatal(err)
	}
	for _, outcome := range outcomes {
		fmt.Println(outcome.ID, outcome.Action.Status, "by", *outcome.Action.RejectedBy)
	}
	// Output:
	// 1 rejected by alice
	// 2 rejected by alice
}

// FailOverdue closes an action whose agent never reports a result. Run it regularly.
func ExampleLedger_FailOverdue() {
	ctx := context.Background()
	now := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return now }))
	defer done()
	id := exampleQueue(ledger, "web-1", "apt-get upgrade")
	if _, err := ledger.Claim(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}

	now = now.Add(45 * time.Minute) // meanwhile the machine of the agent has failed
	// region: overdue
	closed, err := ledger.FailOverdue(ctx, 30*time.Minute, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, action := range closed {
		fmt.Printf("action %d is %s: %s\n", action.ID, action.Status, *action.Stderr)
	}
	// endregion

	_, err = ledger.Finish(ctx, "web-1", id, remediation.Result{})
	fmt.Println(err)
	// Output:
	// action 1 is failed: no result came within 30m0s
	// finish: action 1 is failed and can't become completed
}

// All reads page after page, so the loop gets every action.
func ExampleLedger_All() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	for _, command := range []string{"uptime", "df -h", "free -m"} {
		exampleQueue(ledger, "web-1", command)
	}

	for action, err := range ledger.All(ctx, remediation.Filter{ServerID: "web-1"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(action.ID, action.Command)
	}
	// Output:
	// 3 free -m
	// 2 df -h
	// 1 uptime
}

// Counts shows how much work is waiting.
func ExampleLedger_Counts() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "uptime")
	exampleQueue(ledger, "web-1", "df -h")

	counts, err := ledger.Counts(ctx, remediation.Pending, remediation.Approved)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts[remediation.Pending], "wait for a person,", counts[remediation.Approved], "for the agent")
	// Output: 0 wait for a person, 2 for the agent
}

// Explain says what an action is waiting for, as a sentence and as a Reason.
func ExampleLedger_Explain() {
	ctx := context.Background()
	now := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return now }))
	defer done()
	exampleQueue(ledger, "web-1", "apt-get update")
	id := exampleQueue(ledger, "web-1", "apt-get upgrade")
	explain := func() {
		// region: explain
		why, err := ledger.Explain(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(why)
		if why.Reason == remediation.ReasonMaintenance {
			fmt.Println("unpause", why.ServerID, "or withdraw the action")
		}
		// endregion
	}

	explain()
	now = now.Add(time.Minute)
	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	explain()
	// Output:
	// action 2 waits behind action 1 on server "web-1"
	// action 2 is held: server "web-1" has been in maintenance since 2026-01-19 12:01:00 UTC and only "auto" approved it
	// unpause web-1 or withdraw the action
}

// A reader that passes the last id that it saw to the next call misses no event.
func ExampleLedger_Events() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "uptime")
	if _, err := ledger.Claim(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}

	var last int64
	for {
		events, err := ledger.Events(ctx, last, 2)
		if err != nil {
			log.Fatal(err)
		}
		if len(events) == 0 {
			break // no new events yet
		}
		for _, event := range events {
			fmt.Println(event.ID, event.Kind, "by", *event.Actor)
			last = event.ID
		}
	}
	// Output:
	// 1 created by dashboard
	// 2 approved by auto
	// 3 executing by web-1
}

// A follower first gets the existing events, then each new event, until its context ends.
func ExampleLedger_Follow() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "uptime")
	handle := func(event remediation.Event) {
		fmt.Println(event.ID, event.Kind, "by", *event.Actor)
		switch event.Kind {
		case remediation.EventApproved:
			if _, err := ledger.Claim(ctx, "web-1"); err != nil {
				log.Fatal(err)
			}
		case remediation.EventExecuting:
			cancel()
		}
	}

	// region: follow
	var last int64 // the last event that was handled; store it with what you do
	for event, err := range ledger.Follow(ctx, last) {
		if err != nil {
			log.Fatal(err) // such as a restart of the server: follow again from last
		}
		handle(event)
		last = event.ID
	}
	fmt.Println("stopped:", ctx.Err())
	// endregion
	// Output:
	// 1 created by dashboard
	// 2 approved by auto
	// 3 executing by web-1
	// stopped: context canceled
}

// The history of an action stays after the action is deleted.
func ExampleLedger_History() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	id := exampleQueue(ledger, "web-1", "uptime")
	if _, err := ledger.Withdraw(ctx, id, "alice", "not tonight"); err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Prune(ctx, time.Now().AddDate(100, 0, 0), 0); err != nil {
		log.Fatal(err)
	}
	// region: history
	events, err := ledger.History(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	for _, event := range events {
		fmt.Println(event.ID, event.Kind)
	}
	// endregion
	// Output:
	// 1 created
	// 2 approved
	// 3 rejected
	// 4 deleted
}

// ClearOutput saves space by deleting only the outputs. The command, the people and the exit code stay.
func ExampleLedger_ClearOutput() {
	ctx := context.Background()
	now := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return now }))
	defer done()
	id := exampleQueue(ledger, "web-1", "uptime")
	if _, err := ledger.Start(ctx, id); err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Finish(ctx, "web-1", id, remediation.Result{Stdout: "up 3 days\n"}); err != nil {
		log.Fatal(err)
	}

	now = now.AddDate(0, 2, 0)
	cleared, err := ledger.ClearOutput(ctx, now.AddDate(0, -1, 0), 1000)
	if err != nil {
		log.Fatal(err)
	}
	action, err := ledger.Get(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cleared, "cleared:", action.Status, "with exit code", *action.ExitCode, "and no output:", action.Stdout == nil)
	// Output:
	// 1 cleared: completed with exit code 0 and no output: true
}

// A nightly job clears outputs after a month and deletes actions after a year; their events stay.
func ExampleLedger_Prune() {
	ctx := context.Background()
	now := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return now }))
	defer done()
	id := exampleQueue(ledger, "web-1", "uptime")
	if _, err := ledger.Start(ctx, id); err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Finish(ctx, "web-1", id, remediation.Result{Stdout: "up 3 days\n"}); err != nil {
		log.Fatal(err)
	}

	for _, months := range []int{6, 13} {
		if err := nightly(ctx, ledger, now.AddDate(0, months, 0)); err != nil {
			log.Fatal(err)
		}
	}
	events, err := ledger.Events(ctx, 0, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, event := range events {
		fmt.Println(event.Kind)
	}
	// Output:
	// created
	// approved
	// executing
	// completed
	// output_cleared
	// deleted
}

// region: nightly

// nightly keeps outputs for 30 days and actions for a year. Each call is short, so that others can write in between.
func nightly(ctx context.Context, ledger *remediation.Ledger, night time.Time) error {
	const batch = 1000
	for n := int64(batch); n == batch; {
		var err error
		if n, err = ledger.ClearOutput(ctx, night.AddDate(0, 0, -30), batch); err != nil {
			return err
		}
	}
	for n := int64(batch); n == batch; {
		var err error
		if n, err = ledger.Prune(ctx, night.AddDate(-1, 0, 0), batch); err != nil {
			return err
		}
	}
	return nil
}

// endregion
