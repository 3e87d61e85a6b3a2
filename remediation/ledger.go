// Package remediation implements the lifecycle of remediation actions. An action is a command for a server. It is
// queued, approved by a person or automatically, executed by an agent, and kept as an audit trail.
//
// A Ledger works on a Store. The packages sqlite and postgres provide one each. This package imports only the standard
// library and does not depend on an engine.
//
// Every method is safe for concurrent use, even from several processes on one database. Each change is one atomic
// statement. When a method returns without an error, the change is durable. When it returns an error of this package,
// nothing was written. If the context ends during a call or the connection is lost, the change may or may not have
// happened: Get shows which, on PostgreSQL as soon as the server has noticed. Retrying a transition is always safe,
// because it happens at most once.
//
// Every method with a limit, and Filter.Limit, accepts 1 to 1,000. 0 means 50. Any other limit is an *InputError.
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

// Ledger manages the actions in one Store.
type Ledger struct {
	store Backend
	clock func() time.Time
}

// Option changes how a Ledger works.
type Option func(*Ledger)

// WithClock makes the ledger read the time from clock instead of time.Now. It is read once for each change. If it
// returns a time outside the years 1 to 9999 in UTC, the change returns an *InputError.
func WithClock(clock func() time.Time) Option {
	return func(l *Ledger) { l.clock = clock }
}

// New returns a Ledger that works on store.
func New(store Store, opts ...Option) *Ledger {
	l := &Ledger{store: store.Backend(), clock: time.Now}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// now returns the time of a change, in whole microseconds. A time that not every engine can store is an *InputError.
func (l *Ledger) now() (time.Time, error) {
	now := micros(l.clock())
	return now, checkYear("clock", "says", now)
}

// Create queues an action. If its server is in normal mode, the action is approved at once: approved_by is "auto" and
// approved_at equals created_at (criterion AC2). If its server is in maintenance, the action is pending (criterion
// AC3). The statement that writes the action also reads the mode, so a concurrent Pause takes effect either before or
// after it.
//
// ErrServerNotFound if the server doesn't exist, and ErrAlertNotFound if the server has no such alert. *InputError if a
// field is not valid (see NewAction) or ExpiresAt is not in the future. Names must not contain control characters or
// invisible characters, and no text may be blank, contain a NUL or be invalid UTF-8. *DuplicateError if an open action
// of the server has the same DedupeKey. If several calls use the same DedupeKey at once, exactly one succeeds and the
// others get the id of its action.
//
// An IdempotencyKey makes a retry of Create safe. After a timeout, a lost connection or a restart, call Create again
// with the same key and the same other fields. The first call that reaches the database creates the action. Every later
// call writes nothing and returns that action in its current state, even if it has ended. If another field differs, the
// error is a *DuplicateError. Deleting an action releases its key, so keep actions for longer than callers may retry a
// Create.
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

// create inserts the action. If the insert writes no row, it reads the reason. It retries if the reason is gone by
// then, for example because the other action with the same key was closed.
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
	// This happens if a trigger of the host program skips the row without an error.
	return Action{}, errors.New("the database did not store the action and gave no reason")
}

// Approve allows a pending action to run. It sets approved_at and approved_by (criterion AC5). by is the person who
// approves, with 1 to 50 characters, and not "auto".
//
// ErrNotFound if the action doesn't exist. *TransitionError if it is not pending, has expired (ReasonExpired), was
// created by the same person on a server that forbids self-approval (ReasonSelfApproval), or predates the rules and
// can't be approved (ReasonNoApproval). If several calls decide one action at once, exactly one succeeds and the others
// get the *TransitionError.
func (l *Ledger) Approve(ctx context.Context, id int64, by string) (Action, error) {
	if err := checkActor("by", by); err != nil {
		return Action{}, fmt.Errorf("approve action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "approve", id: id, from: Pending, to: Approved, by: by}, func(now time.Time) (Action, error) {
		return l.store.ApproveAction(ctx, id, by, now)
	})
}

// Reject ends a pending action, so that it never runs. It sets rejected_at, rejected_by and rejection_reason. The new
// status is terminal (criterion AC4). by is the person who rejects, with 1 to 50 characters, and not "auto". reason is
// not empty and has at most 1 MiB.
//
// ErrNotFound if the action doesn't exist. *TransitionError if it is not pending; use Withdraw for an approved action.
// If an older program has already set some of the fields of an end, Reject, Withdraw, Finish and FailOverdue keep those
// values and set only the missing ones.
func (l *Ledger) Reject(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("reject action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "reject", id: id, from: Pending, to: Rejected}, func(now time.Time) (Action, error) {
		return l.store.RejectAction(ctx, id, by, reason, now)
	})
}

// Withdraw rejects an approved action before it runs. It sets the same fields as Reject, and keeps approved_at and
// approved_by. The arguments are those of Reject.
//
// ErrNotFound if the action doesn't exist. *TransitionError if it is not approved. If a Withdraw and a Claim compete
// for an action, exactly one of them succeeds. When Withdraw succeeds, the command has not run and never will.
func (l *Ledger) Withdraw(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("withdraw action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "withdraw", id: id, from: Approved, to: Rejected}, func(now time.Time) (Action, error) {
		return l.store.WithdrawAction(ctx, id, by, reason, now)
	})
}

// Claim returns the approved action of a server with the lowest id, and makes it executing. It sets executed_at. It
// skips actions that are not due yet or have expired. While the server is in maintenance, it also skips actions that
// only "auto" approved.
//
// ErrNothingToClaim if no action may run. If several agents claim at once, each action is delivered to one of them. If
// the result of a Claim is lost, the action stays executing and is not delivered again. On PostgreSQL Claim skips an
// action that another call has locked, even if that call then fails; the next Claim finds the action.
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

// Start makes the approved action with this id executing. It is for programs that choose the order themselves. It sets
// executed_at.
//
// ErrNotFound if the action doesn't exist. *TransitionError if it is not approved, or is approved and must not run now:
// then Why is ReasonMaintenance, ReasonNotYetDue, ReasonExpired or ReasonNoApproval. If several calls start one action
// at once, exactly one succeeds.
func (l *Ledger) Start(ctx context.Context, id int64) (Action, error) {
	return l.transition(ctx, step{verb: "start", id: id, from: Approved, to: Executing}, func(now time.Time) (Action, error) {
		return l.store.StartAction(ctx, id, now)
	})
}

// Finish records the result of an executing action. The action becomes completed if the exit code is 0, otherwise
// failed. It sets completed_at, exit_code, stdout and stderr (criterion AC6).
//
// serverID is the server of the agent; for an action of another server the error is ErrNotFound. A second result
// changes nothing and returns a *TransitionError, whose From is the status that the first result set. If an output is
// larger than the engine's limit on the size of a value, the engine's error is returned and the action stays executing.
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

// Get returns one action with its stdout and stderr, or ErrNotFound.
func (l *Ledger) Get(ctx context.Context, id int64) (Action, error) {
	a, err := l.store.GetAction(ctx, id)
	if err != nil {
		return Action{}, fmt.Errorf("get action %d: %w", id, err)
	}
	return a.utc(), nil
}

// List returns one page of actions, newest first, without stdout and stderr. To get the next page, set Filter.Before to
// the last id of this page; actions that are created in between do not shift it. An empty page is not an error.
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

// All returns all actions that match the filter, newest first. It reads them with List, one page of Filter.Limit
// actions at a time, and ends with the first error. Actions that are created during the iteration are not returned. An
// action that changes during the iteration is returned once, in the state that it has when its page is read.
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
			if len(page) == 0 || page[len(page)-1].ID <= 1 { // Before = 0 would start again
				return
			}
			f.Before = page[len(page)-1].ID
		}
	}
}

// step is one transition that a caller asks for. Heartbeat and RequestCancel are checked like transitions, although
// they do not change the status.
type step struct {
	verb     string
	id       int64
	serverID string // "" for any
	from, to Status
	by       string // the person who approves
}

// transition runs one guarded statement. If the statement returns no row, it reads the action to find the reason. It
// retries if the reason is gone by then.
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

// refuse returns the error that says why the action can't make the transition.
func (a Conditions) refuse(s step, now time.Time) *TransitionError {
	refused := &TransitionError{ID: a.ID, From: a.Status, To: s.to}
	if a.Status == s.from {
		refused.Why = a.heldFrom(s.to, s.by, now)
	}
	return refused
}
