// Package remediation is the lifecycle of remediation actions: commands queued against servers, approved by a person or
// automatically, executed by an agent, and kept as an audit trail.
//
// A Ledger works on a Store, which an engine provides: see the packages sqlite and postgres. This package knows no
// engine and imports only the standard library.
//
// Every method is safe for concurrent use, also from several processes on one database. Each change is one atomic
// statement: when the method returns without an error the change is durable, and when it returns an error of this
// package nothing was written. After a context ends in the middle of a call, or a connection is lost, the change may or
// may not have happened; Get tells, on PostgreSQL once the server has noticed. To make the same transition again is always
// safe: it happens once.
//
// A limit, of List and of every method that takes one, is 1 to 1,000, and 0 means 50; any other is an *InputError.
package remediation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Ledger is the lifecycle of the actions in one Store.
type Ledger struct {
	store Store
	clock func() time.Time
}

// Option changes how a Ledger works.
type Option func(*Ledger)

// WithClock makes the ledger read the time from clock instead of time.Now. It is read once for each change. A time outside
// the years 1 to 9999 in UTC is an *InputError of that change.
func WithClock(clock func() time.Time) Option {
	return func(l *Ledger) { l.clock = clock }
}

// New returns a Ledger on store.
func New(store Store, opts ...Option) *Ledger {
	l := &Ledger{store: store, clock: time.Now}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// now is the time in the resolution, and within the limits, that every engine can keep.
func (l *Ledger) now() (time.Time, error) {
	now := l.clock().UTC().Truncate(time.Microsecond)
	if !now.Equal(storable(now)) {
		return now, &InputError{"clock", fmt.Sprintf("says %s, which is not in the years 1 to 9999", now.Format(time.DateTime))}
	}
	return now, nil
}

// AddServer registers a server, in normal mode. Adding one that exists changes nothing, whoever registered it. The id
// has 1 to 100 characters; otherwise the error is an *InputError.
func (l *Ledger) AddServer(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("add server: %w", err)
	}
	if err := l.store.AddServer(ctx, id); err != nil {
		return fmt.Errorf("add server %q: %w", id, err)
	}
	return nil
}

// Pause puts a server into maintenance: actions created from now on wait for a person (criterion AC3), and what only
// "auto" approved is held back from Claim and Start. What executes already is not touched. Pausing a paused server
// changes nothing, not even since when it is paused.
//
// ErrServerNotFound if the server doesn't exist. A Create or Claim that runs at the same time falls wholly before the
// pause or wholly after it.
func (l *Ledger) Pause(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("pause server: %w", err)
	}
	now, err := l.now()
	if err == nil {
		err = l.store.PauseServer(ctx, id, now)
	}
	if err != nil {
		return fmt.Errorf("pause server %q: %w", id, err)
	}
	return nil
}

// Unpause ends a server's maintenance; ErrServerNotFound if the server doesn't exist. Unpausing a server in normal mode
// changes nothing. What waits for approval goes on waiting: it was asked for under maintenance.
func (l *Ledger) Unpause(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("unpause server: %w", err)
	}
	if err := l.store.UnpauseServer(ctx, id); err != nil {
		return fmt.Errorf("unpause server %q: %w", id, err)
	}
	return nil
}

// AddAlert records an alert of a server and returns its id, for NewAction.AlertID. The title has 1 to 255 characters.
// ErrServerNotFound if the server doesn't exist.
func (l *Ledger) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return 0, fmt.Errorf("add alert: %w", err)
	}
	if err := checkTitle("title", title, maxTitle); err != nil {
		return 0, fmt.Errorf("add alert: %w", err)
	}
	id, err := l.store.AddAlert(ctx, serverID, title)
	if err != nil {
		return 0, fmt.Errorf("add alert to server %q: %w", serverID, err)
	}
	return id, nil
}

// Create queues an action. On a server in normal mode it is approved at once, by "auto" and at its created_at
// (criterion AC2); on one in maintenance it is pending (criterion AC3). The mode is read in the statement that writes
// the action, so a Pause falls wholly before or wholly after it.
//
// ErrServerNotFound or ErrAlertNotFound if what it refers to doesn't exist, *InputError for text that is not clean, and
// *DuplicateError if an open action of that server has the same DedupeKey. Of several callers that create with one key at
// once exactly one succeeds, and the others learn its id.
func (l *Ledger) Create(ctx context.Context, a NewAction) (Action, error) {
	if err := a.check(); err != nil {
		return Action{}, fmt.Errorf("create action: %w", err)
	}
	now, err := l.now()
	if err != nil {
		return Action{}, fmt.Errorf("create action: %w", err)
	}
	created, err := l.store.CreateAction(ctx, a, now)
	if err != nil {
		return Action{}, fmt.Errorf("create action for server %q: %w", a.ServerID, err)
	}
	return created.utc(), nil
}

// Approve lets a pending action run; it fills approved_at and approved_by (criterion AC5). by is the person, 1 to 50
// characters and not "auto".
//
// ErrNotFound, or a *TransitionError if the action is not pending. Of several callers that decide one action at once,
// exactly one succeeds and the others get the *TransitionError.
func (l *Ledger) Approve(ctx context.Context, id int64, by string) (Action, error) {
	if err := checkActor("by", by); err != nil {
		return Action{}, fmt.Errorf("approve action %d: %w", id, err)
	}
	return l.transition(ctx, step{"approve", id, "", Pending, Approved}, func(now time.Time) (Action, error) {
		return l.store.ApproveAction(ctx, id, by, now)
	})
}

// Reject decides that a pending action never runs; it fills rejected_at, rejected_by and rejection_reason, and is
// terminal (criterion AC4). by is the person, 1 to 50 characters and not "auto"; reason is at most 1 MiB and not empty.
//
// ErrNotFound, or a *TransitionError if the action is not pending; an approved one is taken back by Withdraw. What an older
// program recorded of an end stays, here and in Withdraw, Finish and FailOverdue; only what is missing is filled.
func (l *Ledger) Reject(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("reject action %d: %w", id, err)
	}
	return l.transition(ctx, step{"reject", id, "", Pending, Rejected}, func(now time.Time) (Action, error) {
		return l.store.RejectAction(ctx, id, by, reason, now)
	})
}

// Withdraw takes an approved action back before it runs. It fills the fields that Reject fills and keeps who approved
// it. The arguments are those of Reject.
//
// ErrNotFound, or a *TransitionError if the action is not approved. Of a Withdraw and a Claim at once exactly one gets
// the action: when Withdraw succeeds, the command did not run and never will.
func (l *Ledger) Withdraw(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("withdraw action %d: %w", id, err)
	}
	return l.transition(ctx, step{"withdraw", id, "", Approved, Rejected}, func(now time.Time) (Action, error) {
		return l.store.WithdrawAction(ctx, id, by, reason, now)
	})
}

// Claim delivers the oldest approved action of a server, by id, and makes it executing; it fills executed_at. While the
// server is in maintenance, what only "auto" approved is held back.
//
// ErrNothingToClaim if there is none that may run. However many agents claim at once, each action is delivered once. A
// claim whose answer got lost is not repeated: the action stays executing. On PostgreSQL a claim passes over an action that
// another call holds at this moment, also one that is then refused; the next claim finds it.
func (l *Ledger) Claim(ctx context.Context, serverID string) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("claim: %w", err)
	}
	now, err := l.now()
	if err != nil {
		return Action{}, fmt.Errorf("claim: %w", err)
	}
	a, err := l.store.ClaimAction(ctx, serverID, now)
	if err != nil {
		return Action{}, fmt.Errorf("claim for server %q: %w", serverID, err)
	}
	return a.utc(), nil
}

// Start makes one approved action executing, by id, for programs that choose the order themselves; it fills
// executed_at.
//
// ErrNotFound, or a *TransitionError if the action is not approved. The *TransitionError is from approved to executing
// if the action is held: its server is in maintenance and only "auto" approved it. Of several callers exactly one
// succeeds.
func (l *Ledger) Start(ctx context.Context, id int64) (Action, error) {
	return l.transition(ctx, step{"start", id, "", Approved, Executing}, func(now time.Time) (Action, error) {
		return l.store.StartAction(ctx, id, now)
	})
}

// Finish records the result of an executing action: completed if the exit code is 0, otherwise failed. It fills
// completed_at, exit_code, stdout and stderr (criterion AC6).
//
// serverID is the server that the agent speaks for: an action of another server is ErrNotFound. A second result changes
// nothing and gets a *TransitionError whose From says how the first one ended. Output past the engine's own limit on a
// value is an error of the engine, and the action stays executing.
func (l *Ledger) Finish(ctx context.Context, serverID string, id int64, r Result) (Action, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return Action{}, fmt.Errorf("finish action %d: %w", id, err)
	}
	to := Completed
	if r.ExitCode != 0 {
		to = Failed
	}
	r.Stdout, r.Stderr = evidence(r.Stdout), evidence(r.Stderr)
	return l.transition(ctx, step{"finish", id, serverID, Executing, to}, func(now time.Time) (Action, error) {
		return l.store.FinishAction(ctx, serverID, id, r, now)
	})
}

// Get returns one action with its outputs, or ErrNotFound.
func (l *Ledger) Get(ctx context.Context, id int64) (Action, error) {
	a, err := l.store.GetAction(ctx, id)
	if err != nil {
		return Action{}, fmt.Errorf("get action %d: %w", id, err)
	}
	return a.utc(), nil
}

// List returns actions newest first, without stdout and stderr. The next page is the one with Filter.Before set to the
// last id of this one; actions created meanwhile don't shift it. An empty page is not an error.
func (l *Ledger) List(ctx context.Context, f Filter) ([]Action, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("list actions: %w", err)
	}
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	f.Limit = cmp.Or(f.Limit, defaultLimit)
	actions, err := l.store.ListActions(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list actions: %w", err)
	}
	for i, a := range actions {
		actions[i] = a.utc()
	}
	return actions, nil
}

// All returns every action that List would, newest first, reading a page of Filter.Limit at a time. It ends with the
// first error. Actions created meanwhile are not returned, and those that change meanwhile are returned once, as they are
// when their page is read.
func (l *Ledger) All(ctx context.Context, f Filter) iter.Seq2[Action, error] {
	return func(yield func(Action, error) bool) {
		for f := f; ; {
			page, err := l.List(ctx, f)
			if err != nil {
				yield(Action{}, err)
				return
			}
			for _, a := range page {
				if !yield(a, nil) {
					return
				}
			}
			if len(page) == 0 || page[len(page)-1].ID <= 1 { // 0 would mean any
				return
			}
			f.Before = page[len(page)-1].ID
		}
	}
}

// step is one edge of the lifecycle, as a caller asked for it.
type step struct {
	verb     string
	id       int64
	serverID string // "" for any
	from, to Status
}

// transition runs one guarded statement and, only if no row answered, reads the action once more to say why. Should the
// action have come into the right status between the two, the statement is worth exactly one more try: a status never
// comes back.
func (l *Ledger) transition(ctx context.Context, s step, apply func(now time.Time) (Action, error)) (Action, error) {
	now, err := l.now()
	if err != nil {
		return Action{}, fmt.Errorf("%s action %d: %w", s.verb, s.id, err)
	}
	for attempt := 1; ; attempt++ {
		a, err := apply(now)
		if err == nil {
			return a.utc(), nil
		}
		if !errors.Is(err, ErrNotFound) {
			return Action{}, fmt.Errorf("%s action %d: %w", s.verb, s.id, err)
		}
		current, err := l.store.GetAction(ctx, s.id)
		if err == nil && s.serverID != "" && current.ServerID != s.serverID {
			err = ErrNotFound
		}
		if err != nil {
			return Action{}, fmt.Errorf("%s action %d: %w", s.verb, s.id, err)
		}
		if current.Status != s.from || attempt > 1 {
			return Action{}, fmt.Errorf("%s: %w", s.verb, &TransitionError{s.id, current.Status, s.to})
		}
	}
}
