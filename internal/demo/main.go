//go:build unix

// Command demo shows the whole lifecycle. It queues commands for two servers, approves them automatically or as a
// person, executes them, and keeps the audit trail in an SQLite file. It does not delete the file, so that you can look
// at it.
//
//	go run ./internal/demo [path of a new file]
//
// The commands are harmless (uname, df, ls, date, echo, sleep). All of them run on this machine, for both servers.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

const (
	web = "web-1" // in normal mode
	db  = "db-1"  // goes into maintenance
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run plays the demo, then prints how to open the file.
func run(ctx context.Context, stdout io.Writer, args []string) error {
	path, err := newPath(args)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout) // keeps the first write error for Flush, so no print has to check it
	err = story(ctx, out, path)
	if err == nil {
		fmt.Fprintf(out, "\nThe file stays: %s\nOpen it with\n\n    %s\n", path, openLine(path))
	}
	return errors.Join(err, out.Flush())
}

// newPath returns the path for the ledger. It refuses a file that exists: in a real ledger, the agents of the demo
// would execute commands that were approved for real servers.
func newPath(args []string) (string, error) {
	switch {
	case len(args) == 0:
		dir, err := os.MkdirTemp("", "actionledger-demo-")
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, "ledger.db"), nil
	case len(args) > 1 || strings.HasPrefix(args[0], "-"):
		return "", errors.New("usage: go run ./internal/demo [path of a new file]")
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return "", err
	}
	_, err = os.Lstat(path)
	if err == nil {
		return "", fmt.Errorf("%s exists; the demo only writes a new file", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, nil
}

// openLine returns a shell command that prints the ledger. It quotes the path.
func openLine(path string) string {
	return fmt.Sprintf("sqlite3 '%s' 'SELECT id, server_id, status, exit_code, command FROM remediation_actions'",
		strings.ReplaceAll(path, "'", `'\''`))
}

// story runs all steps of the demo on a new ledger, and prints a title before each one.
func story(ctx context.Context, out io.Writer, path string) (err error) {
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "A new ledger: %s\n", path)
	d := &demo{out: out}
	d.ledger = remediation.New(store, remediation.WithClock(func() time.Time { return time.Now().Add(d.ahead) }))
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Two servers. db-1 gets one action, then goes into maintenance.", d.addServers},
		{"Commands for web-1, in normal mode: approved at once.", d.queueForWeb},
		{"Commands for db-1, in maintenance: they wait for a person.", d.queueForDB},
		{"People decide.", d.decide},
		{"The agents claim what was approved and run it. In maintenance, what only auto approved is held back.", d.work},
		{"db-1 leaves maintenance, and what was held back runs.", d.endMaintenance},
		{"An hour later, what nobody decided in time has expired.", d.expire},
		{"A command that runs is cancelled: its agent kills it and reports that.", d.cancel},
		{"What is over stays as it was.", d.refuse},
		{"The ledger:", d.print},
	} {
		fmt.Fprintf(out, "\n%s\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// demo is the state that the steps share.
type demo struct {
	ledger *remediation.Ledger
	out    io.Writer
	ahead  time.Duration // how far the clock of the ledger is ahead of this machine's

	// The ids of the actions that later steps need.
	held, finished                            int64
	toApprove, toReject, toWithdraw, toExpire int64
}

func (d *demo) addServers(ctx context.Context) error {
	for _, id := range []string{web, db} {
		if err := d.ledger.AddServer(ctx, id); err != nil {
			return err
		}
	}
	date, err := d.queue(ctx, remediation.NewAction{ServerID: db, ActionType: "check", Command: "date -u"})
	if err != nil {
		return err
	}
	d.held = date.ID
	return d.ledger.Pause(ctx, db)
}

func (d *demo) queueForWeb(ctx context.Context) error {
	alert, err := d.ledger.AddAlert(ctx, web, "the disk is nearly full")
	if err != nil {
		return err
	}
	uname, err := d.queue(ctx, remediation.NewAction{ServerID: web, ActionType: "check", Command: "uname -sr"})
	if err != nil {
		return err
	}
	d.finished = uname.ID
	_, err = d.queue(ctx, remediation.NewAction{
		ServerID: web, ActionType: "check_disk", Command: "df -P / | tail -n 1", AlertID: &alert,
	})
	if err != nil {
		return err
	}
	_, err = d.queue(ctx, remediation.NewAction{ServerID: web, ActionType: "check", Command: "ls /no/such/place"})
	return err
}

func (d *demo) queueForDB(ctx context.Context) error {
	for _, want := range []struct {
		action remediation.NewAction
		id     *int64
	}{
		{remediation.NewAction{ActionType: "check", Command: "ls -1 /"}, &d.toApprove},
		{remediation.NewAction{ActionType: "restart", ServiceName: new("postgresql"), Command: "echo restart"}, &d.toReject},
		{remediation.NewAction{ActionType: "cleanup", Command: "echo vacuum"}, &d.toWithdraw},
		{remediation.NewAction{ActionType: "upgrade", Command: "echo upgrade", ExpiresAt: new(time.Now().Add(time.Hour))}, &d.toExpire},
	} {
		want.action.ServerID = db
		a, err := d.queue(ctx, want.action)
		if err != nil {
			return err
		}
		*want.id = a.ID
	}
	return nil
}

func (d *demo) queue(ctx context.Context, want remediation.NewAction) (remediation.Action, error) {
	want.CreatedBy = "monitor"
	a, err := d.ledger.Create(ctx, want)
	if err != nil {
		return a, err
	}
	from := ""
	if a.AlertID != nil {
		from = fmt.Sprintf("  (from alert %d)", *a.AlertID)
	}
	d.say("#%d  %-5s  %-8s  %s%s", a.ID, a.ServerID, a.Status, a.Command, from)
	return a, nil
}

func (d *demo) decide(ctx context.Context) error {
	for _, id := range []int64{d.toApprove, d.toWithdraw} {
		a, err := d.ledger.Approve(ctx, id, "alice")
		if err != nil {
			return err
		}
		d.say("alice approves #%d: %s", a.ID, a.Command)
	}
	a, err := d.ledger.Reject(ctx, d.toReject, "alice", "the backup still runs")
	if err != nil {
		return err
	}
	d.say("alice rejects #%d: %s", a.ID, *a.RejectionReason)
	a, err = d.ledger.Withdraw(ctx, d.toWithdraw, "bob", "no longer needed")
	if err != nil {
		return err
	}
	d.say("bob withdraws #%d, which %s had approved: %s", a.ID, *a.ApprovedBy, *a.RejectionReason)
	return nil
}

func (d *demo) expire(ctx context.Context) error {
	d.ahead = time.Hour
	_, err := d.ledger.Approve(ctx, d.toExpire, "alice")
	if err := d.refused("A late approval", err); err != nil {
		return err
	}
	expired, err := d.ledger.Expire(ctx, 0)
	for _, a := range expired {
		d.say("#%d is %s by %s: %s", a.ID, a.Status, *a.RejectedBy, *a.RejectionReason)
	}
	return err
}

// cancel requests a cancel as alice as soon as a command runs, while the agent of web-1 waits for the end of the
// command.
func (d *demo) cancel(ctx context.Context) error {
	a, err := d.queue(ctx, remediation.NewAction{ServerID: web, ActionType: "cleanup", Command: "sleep 60 & wait"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requested := make(chan error, 1)
	go func() {
		for e, err := range d.ledger.Follow(ctx, 0) {
			if err == nil && (e.ActionID != a.ID || e.Kind != remediation.EventExecuting) {
				continue
			}
			if err == nil {
				_, err = d.ledger.RequestCancel(ctx, a.ID, "alice", "the wrong server")
			}
			requested <- err
			return
		}
		requested <- ctx.Err()
	}()
	if err := d.agent(ctx, web); err != nil {
		return err
	}
	return <-requested
}

func (d *demo) refuse(ctx context.Context) error {
	_, err := d.ledger.Finish(ctx, web, d.finished, remediation.Result{ExitCode: 1})
	if err := d.refused("A second result", err); err != nil {
		return err
	}
	_, err = d.ledger.Approve(ctx, d.toReject, "bob")
	return d.refused("Approving what was rejected", err)
}

// refused prints err, which must be a refused transition.
func (d *demo) refused(what string, err error) error {
	if !errors.Is(err, remediation.ErrInvalidTransition) {
		return fmt.Errorf("%s should have been refused, but the error is: %v", what, err)
	}
	d.say("%s: %v", what, err)
	return nil
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "    "+format+"\n", args...)
}
