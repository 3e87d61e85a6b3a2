package remediation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// An action is approved at once on a server in normal mode, and waits for a person on a server in maintenance.
func ExampleLedger_Create() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	alert, err := ledger.AddAlert(ctx, "web-1", "nginx is down")
	if err != nil {
		log.Fatal(err)
	}
	restart := remediation.NewAction{
		ServerID:    "web-1",
		ActionType:  "restart_service",
		ServiceName: new("nginx"),
		Command:     "systemctl restart nginx",
		CreatedBy:   "dashboard",
		AlertID:     &alert,
	}

	action, err := ledger.Create(ctx, restart)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status, "by", *action.ApprovedBy)

	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	action, err = ledger.Create(ctx, restart)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status)
	// Output:
	// approved by auto
	// pending
}

// A person approves an action of a server in maintenance.
func ExampleLedger_Approve() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")

	action, err := ledger.Approve(ctx, id, "alice")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s by %s: %s\n", action.Status, *action.ApprovedBy, action.Command)
	// Output: approved by alice: vacuumdb --all
}

// A person rejects an action, with a reason.
func ExampleLedger_Reject() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")

	action, err := ledger.Reject(ctx, id, "alice", "the backup still runs")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s by %s: %s\n", action.Status, *action.RejectedBy, *action.RejectionReason)
	// Output: rejected by alice: the backup still runs
}

// An approved action can be withdrawn until an agent claims it.
func ExampleLedger_Withdraw() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")
	if _, err := ledger.Approve(ctx, id, "alice"); err != nil {
		log.Fatal(err)
	}

	action, err := ledger.Withdraw(ctx, id, "bob", "the disk was replaced")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("approved by %s, %s by %s\n", *action.ApprovedBy, action.Status, *action.RejectedBy)
	_, err = ledger.Claim(ctx, "db-1")
	fmt.Println(err)
	// Output:
	// approved by alice, rejected by bob
	// claim for server "db-1": nothing to claim
}

// During maintenance no action runs unless a person approved it, even if it was approved automatically before the
// maintenance.
func ExampleLedger_Pause() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "apt-get upgrade")

	if err := ledger.Pause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	_, err := ledger.Claim(ctx, "web-1")
	fmt.Println("in maintenance:", err)

	if err := ledger.Unpause(ctx, "web-1"); err != nil {
		log.Fatal(err)
	}
	action, err := ledger.Claim(ctx, "web-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("after it:", action.Status)
	// Output:
	// in maintenance: claim for server "web-1": nothing to claim
	// after it: executing
}

// An agent claims one action after another, oldest first, until there is nothing to claim. A real agent then waits and
// claims again.
func ExampleLedger_Claim() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "uptime")
	exampleQueue(ledger, "web-1", "df -h")

	for {
		action, err := ledger.Claim(ctx, "web-1")
		if errors.Is(err, remediation.ErrNothingToClaim) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(action.Command)
		result := remediation.Result{ExitCode: 0} // the result of the command
		if _, err := ledger.Finish(ctx, "web-1", action.ID, result); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// uptime
	// df -h
}

// A program that chooses the order itself starts an action by its id.
func ExampleLedger_Start() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "uptime")
	urgent := exampleQueue(ledger, "web-1", "systemctl restart nginx")

	action, err := ledger.Start(ctx, urgent)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.Status, action.Command)
	// Output: executing systemctl restart nginx
}

// The first result is final. An agent that reports a second one gets an error with the status of the action.
func ExampleLedger_Finish() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	exampleQueue(ledger, "web-1", "systemctl restart nginx")
	action, err := ledger.Claim(ctx, "web-1")
	if err != nil {
		log.Fatal(err)
	}

	failed := remediation.Result{ExitCode: 5, Stderr: "Unit nginx.service not found.\n"}
	action, err = ledger.Finish(ctx, "web-1", action.ID, failed)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, exit code %d: %s", action.Status, *action.ExitCode, *action.Stderr)

	_, err = ledger.Finish(ctx, "web-1", action.ID, remediation.Result{})
	if again := (*remediation.TransitionError)(nil); errors.As(err, &again) {
		fmt.Println("it was over already:", again.From)
	}
	// Output:
	// failed, exit code 5: Unit nginx.service not found.
	// it was over already: failed
}

// Get loads an action with its outputs.
func ExampleLedger_Get() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	id := exampleQueue(ledger, "web-1", "uptime")

	action, err := ledger.Get(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s by %s\n", action.Command, action.Status, *action.ApprovedBy)

	_, err = ledger.Get(ctx, id+1)
	fmt.Println(err, errors.Is(err, remediation.ErrNotFound))
	// Output:
	// uptime: approved by auto
	// get action 2: no such action true
}

// The next page begins after the last id of a page, so actions that are created in between do not shift the pages.
func ExampleLedger_List() {
	ctx := context.Background()
	ledger, done := exampleLedger("web-1")
	defer done()
	for range 5 {
		exampleQueue(ledger, "web-1", "uptime")
	}

	// region: list
	filter := remediation.Filter{ServerID: "web-1", Status: remediation.Approved, Limit: 2}
	for {
		page, err := ledger.List(ctx, filter) // newest first, without outputs
		if err != nil {
			log.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, action := range page {
			fmt.Print(" #", action.ID)
		}
		fmt.Println()
		filter.Before = page[len(page)-1].ID // where the next page begins
	}
	// endregion
	// Output:
	//  #5 #4
	//  #3 #2
	//  #1
}

// If several people decide one action, the first decision counts. The error tells the others the status of the action.
func ExampleTransitionError() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")
	if _, err := ledger.Reject(ctx, id, "alice", "the backup still runs"); err != nil {
		log.Fatal(err)
	}

	// region: refused
	_, err := ledger.Approve(ctx, id, "bob")
	var refused *remediation.TransitionError
	switch {
	case errors.As(err, &refused) && refused.From == remediation.Rejected:
		fmt.Println("too late:", err)
	case errors.Is(err, remediation.ErrNotFound):
		fmt.Println("there is no such action")
	case err != nil:
		log.Fatal(err)
	}
	// endregion
	// Output: too late: approve: action 1 is rejected and can't become approved
}

// An HTTP API can answer with the JSON of the action, or of the error with its details.
func ExampleTransitionError_json() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")
	if _, err := ledger.Reject(ctx, id, "alice", "the backup still runs"); err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()

	// region: json
	action, err := ledger.Approve(ctx, id, "bob")
	var refused *remediation.TransitionError
	switch {
	case errors.As(err, &refused):
		w.WriteHeader(http.StatusConflict)
		err = json.NewEncoder(w).Encode(refused)
	case err == nil:
		err = json.NewEncoder(w).Encode(action)
	}
	// endregion
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Code, w.Body)
	// Output: 409 {"error":"action 1 is rejected and can't become approved","id":1,"from":"rejected","to":"approved"}
}

// A form can show Problem next to the input named by Field.
func ExampleInputError() {
	ctx := context.Background()
	ledger, done := exampleLedger("db-1")
	defer done()
	id := examplePending(ledger, "db-1", "vacuumdb --all")

	_, err := ledger.Reject(ctx, id, "alice", "")
	if wrong := (*remediation.InputError)(nil); errors.As(err, &wrong) {
		fmt.Println(wrong.Field, "-", wrong.Problem)
	}
	_, err = ledger.Approve(ctx, id, remediation.AutoApprover)
	fmt.Println(err)
	// Output:
	// reason - is empty
	// approve action 1: by is "auto", which is reserved for automatic approval
}

// A test can set the time.
func ExampleWithClock() {
	ctx := context.Background()
	noon := time.Date(2026, 1, 19, 12, 0, 0, 0, time.UTC)
	ledger, done := exampleLedger("web-1", remediation.WithClock(func() time.Time { return noon }))
	defer done()

	action, err := ledger.Get(ctx, exampleQueue(ledger, "web-1", "uptime"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(action.CreatedAt)
	// Output: 2026-01-19 12:00:00 +0000 UTC
}

// exampleLedger returns a ledger in a new file, with one server. done deletes the file.
func exampleLedger(server string, opts ...remediation.Option) (ledger *remediation.Ledger, done func()) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "actionledger-example-")
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlite.Open(ctx, filepath.Join(dir, "ledger.db"))
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	ledger = remediation.New(store, opts...)
	if err := ledger.AddServer(ctx, server); err != nil {
		log.Fatal(err)
	}
	return ledger, func() {
		if err := errors.Join(store.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// exampleQueue creates an action and returns its id.
func exampleQueue(ledger *remediation.Ledger, server, command string) int64 {
	action, err := ledger.Create(context.Background(), remediation.NewAction{
		ServerID: server, ActionType: "maintenance", Command: command, CreatedBy: "dashboard",
	})
	if err != nil {
		log.Fatal(err)
	}
	return action.ID
}

// examplePending puts the server into maintenance and creates an action that waits for a person.
func examplePending(ledger *remediation.Ledger, server, command string) int64 {
	if err := ledger.Pause(context.Background(), server); err != nil {
		log.Fatal(err)
	}
	return exampleQueue(ledger, server, command)
}
