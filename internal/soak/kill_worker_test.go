package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the load: many concurrent callers that the kill and fail-over tests interrupt.

// loadCallers is the number of concurrent callers on one ledger.
const loadCallers = 64

var (
	normalServers = []string{"web-1", "web-2", "web-3", "web-4"}
	pausedServers = []string{"db-1", "db-2"}
	loadServers   = slices.Concat(normalServers, pausedServers)
)

// addServers adds the servers that a load works on, and pauses some of them.
func addServers(t *testing.T, d database) {
	t.Helper()
	ledger := d.ledger(t)
	for _, id := range loadServers {
		if err := ledger.AddServer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range pausedServers {
		if err := ledger.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// loadAnswer is the result of a call that returned no error, or a Create request that is about to be sent.
type loadAnswer struct {
	Delivered bool // by Claim or Start: an agent would run the command now
	Action    remediation.Action

	// Request is set, and Action is not, just before a call of Create. Its outcome is unknown until an answer follows.
	Request *remediation.NewAction `json:",omitempty"`
}

// load is a set of callers that take actions through their lifecycle. Several callers often work on the same action.
type load struct {
	ledger   *remediation.Ledger
	onAnswer func(loadAnswer)
	onError  func(error) // not called for a refusal: then another caller was faster

	slots [2 * loadCallers]atomic.Pointer[remediation.Action] // the last answer about each action
}

// run works until ctx ends.
func (l *load) run(ctx context.Context, seed uint64) error {
	if err := l.resume(ctx); err != nil {
		return err
	}
	var all sync.WaitGroup
	for n := range loadCallers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for ctx.Err() == nil {
				l.step(ctx, r)
			}
		})
	}
	all.Wait()
	return nil
}

// resume continues with the open actions of an earlier load.
func (l *load) resume(ctx context.Context) error {
	n := 0
	for _, s := range []remediation.Status{remediation.Executing, remediation.Approved, remediation.Pending} {
		open, err := l.ledger.List(ctx, remediation.Filter{Status: s, Limit: len(l.slots) / 3})
		if err != nil {
			return err
		}
		for _, a := range open {
			l.slots[n].Store(&a)
			n++
		}
	}
	return nil
}

func (l *load) step(ctx context.Context, r *rand.Rand) {
	slot := &l.slots[r.IntN(len(l.slots))]
	known := slot.Load()
	got, err := l.advance(ctx, r, known)
	switch {
	case err == nil:
		l.onAnswer(got)
		slot.CompareAndSwap(known, &got.Action)
	case ctx.Err() != nil:
	case errors.Is(err, remediation.ErrInvalidTransition) || errors.Is(err, remediation.ErrNothingToClaim):
		slot.CompareAndSwap(known, nil)
	default:
		l.onError(err)
	}
}

// advance takes an open action one step further. If there is none, it creates a new one.
func (l *load) advance(ctx context.Context, r *rand.Rand, known *remediation.Action) (loadAnswer, error) {
	person := fmt.Sprintf("person-%d", r.IntN(1000))
	reason := fmt.Sprintf("reason %d", r.Uint64())
	if known == nil || known.Status.Terminal() {
		server := loadServers[r.IntN(len(loadServers))]
		return l.create(ctx, remediation.NewAction{ServerID: server, ActionType: "run_command",
			Command: fmt.Sprintf("echo %d", r.Uint64()), CreatedBy: person,
			IdempotencyKey: new(fmt.Sprintf("%016x", r.Uint64()))})
	}
	var a remediation.Action
	var err error
	switch choice := r.IntN(5); {
	case known.Status == remediation.Pending && choice == 0:
		a, err = l.ledger.Reject(ctx, known.ID, person, reason)
	case known.Status == remediation.Pending:
		a, err = l.ledger.Approve(ctx, known.ID, person)
	case known.Status == remediation.Executing && choice == 0:
		a, err = l.ledger.Heartbeat(ctx, known.ServerID, known.ID)
	case known.Status == remediation.Executing && choice == 1 && known.CancelRequestedAt == nil:
		a, err = l.ledger.RequestCancel(ctx, known.ID, person, reason)
	case known.Status == remediation.Executing:
		a, err = l.ledger.Finish(ctx, known.ServerID, known.ID, remediation.Result{
			ExitCode: int64(r.IntN(2)), Stdout: strings.Repeat(reason+"\n", r.IntN(8)), Stderr: person})
	case choice == 0:
		a, err = l.ledger.Withdraw(ctx, known.ID, person, reason)
	case choice == 1:
		a, err = l.ledger.Start(ctx, known.ID)
	default:
		a, err = l.ledger.Claim(ctx, known.ServerID)
	}
	return loadAnswer{Delivered: known.Status == remediation.Approved && a.Status == remediation.Executing, Action: a}, err
}

// create retries until it gets an answer. The idempotency key makes that safe.
func (l *load) create(ctx context.Context, a remediation.NewAction) (loadAnswer, error) {
	for {
		l.onAnswer(loadAnswer{Request: &a})
		made, err := l.ledger.Create(ctx, a)
		if err == nil || ctx.Err() != nil {
			return loadAnswer{Action: made}, err
		}
		l.onError(err)
	}
}

// loadConfig is the argument of loadWorker.
type loadConfig struct {
	Database database
	Seed     uint64
}

func init() { workers["load"] = loadWorker }

// loadWorker runs a load and writes each answer as a line of JSON, after the call has returned. A complete line means
// that the change was acknowledged.
func loadWorker(ctx context.Context, text []byte, done io.Reader, out io.Writer) error {
	var config loadConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	store, closeStore, err := config.Database.open(ctx)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	go func() {
		io.Copy(io.Discard, done)
		fail(nil)
	}()
	l := &load{ledger: remediation.New(store), onError: fail, onAnswer: func(a loadAnswer) {
		line, err := json.Marshal(a)
		if err == nil {
			_, err = out.Write(append(line, '\n')) // atomic: the line is short enough for a pipe
		}
		if err != nil {
			fail(err)
		}
	}}
	err = l.run(ctx, config.Seed)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return errors.Join(err, closeStore())
}
