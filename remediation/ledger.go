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
	store Backend
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
	l := &Ledger{store: store.Backend(), clock: time.Now}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// now is the time in the resolution, and within the limits, that every engine can keep.
func (l *Ledger) now() (time.Time, error) {
	now := micros(l.clock())
	return now, checkYear("clock", "says", now)
}

// Create queues an action. On a server in normal mode it is approved at once, by "auto" and at its created_at
// (criterion AC2); on one in maintenance it is pending (criterion AC3). The mode is read in the statement that writes
// the action, so a Pause falls wholly before or wholly after it.
//
// ErrServerNotFound or ErrAlertNotFound if what it refers to doesn't exist, *InputError for text that is not clean or an
// ExpiresAt that is not in the future, and *DuplicateError if an open action of that server has the same DedupeKey. Of
// several callers that create with one DedupeKey at once exactly one succeeds, and the others learn its id.
//
// An IdempotencyKey makes Create safe to repeat: after a timeout, a lost connection or a restart, call it again with the same
// key and the same other fields. The first call that reaches the database creates the action. Every later one writes nothing
// and returns that action in its present state, even if it has ended. If another field differs, the error is a
// *DuplicateError. Deleting an action releases its key, so keep actions for longer than callers may repeat a Create.
func (l *Ledger) Create(ctx context.Context, a NewAction) (Action, error) {
	a = a.truncate()
	if err := a.check(); err != nil {
		return Action{}, fmt.Errorf("create action: %w", err)
	}
	now, err := l.now()
	if err != nil {
		return Action{}, fmt.Errorf("create action: %w", err)
	}
	created, err := l.create(ctx, a, now)
	if err != nil {
		return Action{}, fmt.Errorf("create action for server %q: %w", a.ServerID, err)
	}
	return created.utc(), nil
}

// create retries if ExplainCreate finds no reason any more, such as a key that was released meanwhile.
func (l *Ledger) create(ctx context.Context, a NewAction, now time.Time) (Action, error) {
	for range 100 {
		created, err := l.store.CreateAction(ctx, a, now)
		if !errors.Is(err, ErrNotFound) {
			return created, err
		}
		found, err := l.store.ExplainCreate(ctx, a)
		switch {
		case err != nil:
			return Action{}, err
		case found.FirstID != 0:
			first, err := l.store.GetAction(ctx, found.FirstID)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if first = first.utc(); err == nil && !a.matches(first, found.Alerts == 0) {
				err = fmt.Errorf("idempotency_key %q with other content: %w", *a.IdempotencyKey, &DuplicateError{first.ID})
			}
			return first, err
		case found.Servers == 0:
			return Action{}, ErrServerNotFound
		case a.AlertID != nil && found.Alerts == 0:
			return Action{}, ErrAlertNotFound
		case a.ExpiresAt != nil && !a.ExpiresAt.After(now):
			return Action{}, &InputError{"expires_at", "is not after the clock, which says " + now.Format(time.DateTime)}
		case found.DuplicateOf != 0:
			return Action{}, fmt.Errorf("dedupe_key %q: %w", *a.DedupeKey, &DuplicateError{found.DuplicateOf})
		}
	}
	// A trigger of the host program may skip the row without an error.
	return Action{}, errors.New("the database did not store the action and gave no reason")
}

// Approve lets a pending action run; it fills approved_at and approved_by (criterion AC5). by is the person, 1 to 50
// characters and not "auto".
//
// ErrNotFound, or a *TransitionError if the action is not pending, has expired (ReasonExpired), or was created by the same
// person on a server that forbids that (ReasonSelfApproval). Of several callers that decide one action at once, exactly one
// succeeds and the others get the *TransitionError.
func (l *Ledger) Approve(ctx context.Context, id int64, by string) (Action, error) {
	if err := checkActor("by", by); err != nil {
		return Action{}, fmt.Errorf("approve action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "approve", id: id, from: Pending, to: Approved, by: by}, func(now time.Time) (Action, error) {
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
	return l.transition(ctx, step{verb: "reject", id: id, from: Pending, to: Rejected}, func(now time.Time) (Action, error) {
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
	return l.transition(ctx, step{verb: "withdraw", id: id, from: Approved, to: Rejected}, func(now time.Time) (Action, error) {
		return l.store.WithdrawAction(ctx, id, by, reason, now)
	})
}

// Claim delivers the oldest approved action of a server, by id, and makes it executing; it fills executed_at. It passes over
// what is not due yet and what has expired. While the server is in maintenance, what only "auto" approved is held back.
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
// ErrNotFound, or a *TransitionError if the action is not approved. If it is approved and held, Why says by what:
// ReasonMaintenance, ReasonNotYetDue or ReasonExpired. Of several callers exactly one succeeds.
func (l *Ledger) Start(ctx context.Context, id int64) (Action, error) {
	return l.transition(ctx, step{verb: "start", id: id, from: Approved, to: Executing}, func(now time.Time) (Action, error) {
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
	r.Stdout, r.Stderr = sanitize(r.Stdout), sanitize(r.Stderr)
	return l.transition(ctx, step{verb: "finish", id: id, serverID: serverID, from: Executing, to: to}, func(now time.Time) (Action, error) {
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

// step is one edge of the lifecycle, as a caller asked for it. Heartbeat and RequestCancel are checked like steps, although
// the status stays.
type step struct {
	verb     string
	id       int64
	serverID string // "" for any
	from, to Status
	by       string // who approves
}

// transition runs one guarded statement and, only if no row answered, reads the action to say why. It retries if the re-read
// finds no reason any more.
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
		current, err := l.store.ExplainAction(ctx, s.id, now)
		if err == nil && s.serverID != "" && current.ServerID != s.serverID {
			err = ErrNotFound
		}
		if err != nil {
			return Action{}, fmt.Errorf("%s action %d: %w", s.verb, s.id, err)
		}
		refused := current.refuse(s, now)
		switch {
		case s.from == Executing && s.to == Rejected && current.CancelRequestedAt != nil: // RequestCancel succeeds once
			return Action{}, fmt.Errorf("%s: %s has already asked for it: %w", s.verb, value(current.CancelRequestedBy), refused)
		case current.Status != s.from || refused.Why != "" || attempt == 100:
			return Action{}, fmt.Errorf("%s: %w", s.verb, refused)
		}
	}
}

// refuse says why the action does not take the step.
func (a Conditions) refuse(s step, now time.Time) *TransitionError {
	refused := &TransitionError{ID: a.ID, From: a.Status, To: s.to}
	if a.Status == s.from {
		refused.Why = a.heldFrom(s.to, s.by, now)
	}
	return refused
}
