package soak

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the worker process of the linearizability test.

func init() { workers["concurrent calls"] = callConcurrently }

// historyConfig is the argument of a worker process. It runs until its standard input ends.
type historyConfig struct {
	Database database
	Seed     uint64
	Worker   int
	Callers  int
}

// historyRound is one line of the worker's standard input. The worker answers with one line of recorded calls.
type historyRound struct {
	Servers []string
	After   int64     // IDs up to this one belong to earlier rounds
	Calls   int       // number of calls by each caller
	At      time.Time // start of the two hours from which callers draw their times
}

// recorded is a call with its begin and end on CLOCK_MONOTONIC, in nanoseconds. All processes share that clock.
type recorded struct {
	call
	Caller     int
	Begin, End int64
}

// monotonic reads CLOCK_MONOTONIC, in nanoseconds.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // Linux always has this clock
	}
	return now.Nano()
}

// callConcurrently is the worker: in each round, all callers make their calls concurrently.
func callConcurrently(ctx context.Context, text []byte, in io.Reader, out io.Writer) error {
	var config historyConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	store, closeStore, err := config.Database.open(ctx)
	if err != nil {
		return err
	}
	callers := make([]*caller, config.Callers)
	for i := range callers {
		number := config.Worker*config.Callers + i
		callers[i] = newCaller(store, number, rand.New(rand.NewPCG(config.Seed, uint64(number)+1)))
	}
	rounds, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var round historyRound
		if err := rounds.Decode(&round); errors.Is(err, io.EOF) {
			return closeStore()
		} else if err != nil {
			return err
		}
		seen := &seenActions{last: round.After, server: map[int64]string{}}
		var wait sync.WaitGroup
		made := make([][]recorded, len(callers))
		for i, c := range callers {
			wait.Go(func() {
				for range round.Calls {
					made[i] = append(made[i], c.call(ctx, round, seen))
				}
			})
		}
		wait.Wait()
		var all []recorded
		for _, calls := range made {
			all = append(all, calls...)
		}
		if err := answers.Encode(all); err != nil {
			return err
		}
	}
}

// seenActions records the actions of a round that a process has seen.
type seenActions struct {
	mu     sync.Mutex
	last   int64
	server map[int64]string
}

func (s *seenActions) add(actions []remediation.Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range actions {
		s.server[a.ID] = a.ServerID
		s.last = max(s.last, a.ID)
	}
}

// caller makes random calls, one after the other.
type caller struct {
	*rand.Rand
	number int
	made   int
	ledger *remediation.Ledger
	clock  time.Time
}

func newCaller(store remediation.Store, number int, from *rand.Rand) *caller {
	c := &caller{Rand: from, number: number}
	c.ledger = remediation.New(store, remediation.WithClock(func() time.Time {
		now := c.clock
		c.clock = now.Add(time.Minute) // shows a call that reads the clock twice
		return now
	}))
	return c
}

func (c *caller) call(ctx context.Context, round historyRound, seen *seenActions) recorded {
	r := recorded{call: c.choose(round, seen), Caller: c.number}
	c.clock = r.At
	r.Begin = monotonic()
	r.Answer = r.make(ctx, c.ledger)
	r.End = monotonic()
	seen.add(r.Answer.Actions)
	return r
}

// methods are drawn at random. A method that is listed twice is called twice as often.
var methods = []string{"Create", "Create", "Create", "Create", "Approve", "Approve", "Reject", "Withdraw", "Claim", "Claim",
	"Claim", "Start", "Finish", "Finish", "Heartbeat", "Heartbeat", "RequestCancel", "FailOverdue", "Expire", "Get", "Get", "Get",
	"Pause", "Unpause"}

// choose picks a random call.
func (c *caller) choose(round historyRound, seen *seenActions) call {
	c.made++
	name := fmt.Sprintf("%d of %d", c.made, c.number)
	chosen := call{
		Method: methods[c.IntN(len(methods))],
		At:     round.At.Add(time.Duration(c.Int64N(int64(2 * time.Hour)))).UTC(),
	}
	server := round.Servers[c.IntN(len(round.Servers))]
	seen.mu.Lock()
	id := round.After + 1 + c.Int64N(seen.last-round.After+2) // also IDs that other processes may have created
	owner := cmp.Or(seen.server[id], server)
	seen.mu.Unlock()
	switch chosen.Method {
	case "Create":
		chosen.New = remediation.NewAction{ServerID: server, ActionType: "restart_service",
			Command: "true # " + name, CreatedBy: name}
		if c.IntN(3) == 0 {
			chosen.New.DedupeKey = new("nginx")
		}
		if c.IntN(3) == 0 { // several callers share this key, usually with the same content
			key := c.IntN(3)
			chosen.New.IdempotencyKey = new(fmt.Sprintf("key %d of %s", key, server))
			chosen.New.Command, chosen.New.CreatedBy = fmt.Sprint("true # ", key), "ann"
			if c.IntN(8) == 0 {
				chosen.New.Command = "false"
			}
			break // random limits would be different content
		}
		moment := func() *time.Time {
			return new(round.At.Add(time.Duration(c.Int64N(int64(2 * time.Hour)))).UTC())
		}
		switch c.IntN(4) {
		case 0:
			chosen.New.ExpiresAt = moment()
		case 1:
			chosen.New.NotBefore = moment()
		case 2:
			chosen.New.MaxRuntimeSeconds = new(1 + c.Int64N(3600))
		}
	case "Claim", "Pause", "Unpause":
		chosen.Server = server
	case "FailOverdue":
		chosen.OlderThan, chosen.Limit = time.Duration(c.Int64N(int64(time.Hour)))+1, sweepLimit
	case "Expire":
		chosen.Limit = sweepLimit
	case "Finish", "Heartbeat":
		chosen.ID, chosen.Server = id, owner
		if c.IntN(8) == 0 {
			chosen.Server = server
		}
		if chosen.Method == "Finish" {
			chosen.Result = remediation.Result{ExitCode: c.Int64N(2), Stdout: "out " + name, Stderr: "err " + name}
		}
	case "Approve":
		chosen.ID, chosen.By = id, name
	case "Reject", "Withdraw", "RequestCancel":
		chosen.ID, chosen.By, chosen.Reason = id, name, "because of "+name
	default:
		chosen.ID = id
	}
	return chosen
}

// sweepLimit is more than the actions of all servers, because the history of one server can't show which actions a
// limit left out.
const sweepLimit = 1000
