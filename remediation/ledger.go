// Package remediation is the lifecycle of remediation actions: commands queued against servers, approved by a person or
// automatically, executed by an agent, and kept as an audit trail.
//
// A Ledger works on a Store, which an engine provides: see the packages sqlite and postgres. This package depends on no
// engine and imports only the standard library.
//
// Every method is safe for concurrent use, also from several processes on one database. Each change is one atomic
// statement. When a method returns no error its change is durable; when it returns an error of this package nothing was
// written. If a context ends during a call, or a connection is lost, the change may or may not have been made. Get
// tells which; on PostgreSQL only after the server has noticed the lost connection. Repeating a transition is always
// safe: it is made once.
//
// A limit, of List and of every other method, is 1 to 1,000, and 0 means 50. Any other limit is an *InputError.
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

// WithClock makes the ledger read the time from clock instead of time.Now, once for each change. If the time is outside
// the years 1 to 9999 in UTC, the change fails with an *InputError.
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

// now returns the time in microseconds, and an error if an engine could not store it.
func (l *Ledger) now() (time.Time, error) {
	now := micros(l.clock())
	return now, checkYear("clock", "says", now)
}

// Create queues an action. In normal mode it is approved immediately, by "auto" and at its created_at (criterion AC2).
// In maintenance it is pending (criterion AC3). One statement reads the mode and writes the action, so a concurrent
// Pause comes either before the Create or after it.
//
// The error is ErrServerNotFound or ErrAlertNotFound if the server or the alert doesn't exist, and an *InputError for
// invalid text or an ExpiresAt that is not in the future. It is a *DuplicateError if an open action of the server has
// the same DedupeKey. Of concurrent callers with one DedupeKey exactly one succeeds, and the others get its id.
//
// An IdempotencyKey makes Create safe to repeat: after a timeout, a lost connection or a restart, call it again with
// the same key and the same other fields. The first call that reaches the database creates the action. Later calls
// write nothing and return that action in its current state, even if it has ended. If another field differs, the error
// is a *DuplicateError. Deleting an action releases its key, so keep actions for longer than callers may repeat a
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

// create retries if ExplainCreate finds no reason, for example because a key was released in the meantime.
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

// Approve allows a pending action to run. It fills approved_at and approved_by (criterion AC5). by is the person: 1 to
// 50 characters and not "auto".
//
// The error is ErrNotFound, or a *TransitionError if the action is not pending, has expired (ReasonExpired), or was
// created by the same person on a server that forbids self-approval (ReasonSelfApproval). Of concurrent callers that
// decide one action, exactly one succeeds and the others get the *TransitionError.
func (l *Ledger) Approve(ctx context.Context, id int64, by string) (Action, error) {
	if err := checkActor("by", by); err != nil {
		return Action{}, fmt.Errorf("approve action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "approve", id: id, from: Pending, to: Approved, by: by}, func(now time.Time) (Action, error) {
		return l.store.ApproveAction(ctx, id, by, now)
	})
}

// Reject ends a pending action without running it. It fills rejected_at, rejected_by and rejection_reason; the action
// is then terminal (criterion AC4). by is the person: 1 to 50 characters and not "auto". reason is 1 byte to 1 MiB.
//
// The error is ErrNotFound, or a *TransitionError if the action is not pending. Use Withdraw for an approved action. If
// an older program recorded part of an end, then Reject, Withdraw, Finish and FailOverdue keep it and fill only the
// missing fields.
func (l *Ledger) Reject(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("reject action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "reject", id: id, from: Pending, to: Rejected}, func(now time.Time) (Action, error) {
		return l.store.RejectAction(ctx, id, by, reason, now)
	})
}

// Withdraw rejects an approved action before it runs. It fills the same fields as Reject and keeps who approved the
// action. The arguments are those of Reject.
//
// The error is ErrNotFound, or a *TransitionError if the action is not approved. Of a concurrent Withdraw and Claim
// exactly one succeeds. If Withdraw succeeds, the command has not run and never will.
func (l *Ledger) Withdraw(ctx context.Context, id int64, by, reason string) (Action, error) {
	if err := checkDecision(by, reason); err != nil {
		return Action{}, fmt.Errorf("withdraw action %d: %w", id, err)
	}
	return l.transition(ctx, step{verb: "withdraw", id: id, from: Approved, to: Rejected}, func(now time.Time) (Action, error) {
		return l.store.WithdrawAction(ctx, id, by, reason, now)
	})
}

// Claim returns the approved action of a server with the lowest id and makes it executing. It fills executed_at. It
// skips actions that are not yet due or have expired. In maintenance it also skips actions that only "auto" approved.
//
// The error is ErrNothingToClaim if no action may run. Concurrent agents never get the same action. A claim whose
// answer was lost is not repeated: the action stays executing. On PostgreSQL a claim skips an action that another call
// has locked, even if that call is then refused. The next claim finds it.
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

// Start makes the approved action with this id executing, for programs that choose the order themselves. It fills
// executed_at.
//
// The error is ErrNotFound, or a *TransitionError if the action is not approved. If it is approved but may not run yet,
// Why is ReasonMaintenance, ReasonNotYetDue or ReasonExpired. Of concurrent callers exactly one succeeds.
func (l *Ledger) Start(ctx context.Context, id int64) (Action, error) {
	return l.transition(ctx, step{verb: "start", id: id, from: Approved, to: Executing}, func(now time.Time) (Action, error) {
		return l.store.StartAction(ctx, id, now)
	})
}

// Finish records the result of an executing action, which becomes completed if the exit code is 0 and failed otherwise.
// It fills completed_at, exit_code, stdout and stderr (criterion AC6).
//
// serverID is the agent's server: an action of another server is ErrNotFound. A second result changes nothing and gets
// a *TransitionError whose From is the status after the first one. If the output exceeds the engine's limit for a
// value, the error is the engine's and the action stays executing.
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

// List returns actions, newest first, without stdout and stderr. For the next page set Filter.Before to the last id of
// this page; actions that are created in the meantime do not shift it. An empty page is not an error.
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

// All returns every action that List would return, newest first. It reads pages of Filter.Limit actions and ends at the
// first error. It does not return actions that are created in the meantime. An action that changes is returned once, as
// it is when its page is read.
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

// step is a requested transition. Heartbeat and RequestCancel are checked like steps, although they keep the status.
type step struct {
	verb     string
	id       int64
	serverID string // "" for any
	from, to Status
	by       string // who approves
}

// transition runs one guarded statement. Only if it returns no row, transition reads the action to explain why. It
// retries if the re-read finds no reason.
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

// refuse returns the error that explains why the action does not take the step.
func (a Conditions) refuse(s step, now time.Time) *TransitionError {
	refused := &TransitionError{ID: a.ID, From: a.Status, To: s.to}
	if a.Status == s.from {
		refused.Why = a.heldFrom(s.to, s.by, now)
	}
	return refused
}
