package remediation

import (
	"errors"
	"fmt"
)

// The sentinels, for errors.Is. The text of an error that a Ledger returns is one sentence and begins with the
// operation that failed.
var (
	// ErrNotFound says that the action doesn't exist, or belongs to another server than the one named.
	ErrNotFound = errors.New("no such action")

	// ErrServerNotFound says that the server doesn't exist; nothing was written.
	ErrServerNotFound = errors.New("no such server")

	// ErrAlertNotFound says that the server has no such alert; nothing was written.
	ErrAlertNotFound = errors.New("no such alert")

	// ErrNothingToClaim says that the server has no approved action that may run now. This is the normal result of a
	// claim on an idle server.
	ErrNothingToClaim = errors.New("nothing to claim")

	// ErrInvalidTransition says that the action can't make this transition now; nothing was written. errors.As finds a
	// *TransitionError.
	ErrInvalidTransition = errors.New("invalid transition")

	// ErrInvalidInput says that an argument is not valid; nothing was written. errors.As finds an *InputError.
	ErrInvalidInput = errors.New("invalid input")

	// ErrDuplicate says that an open action of the server has the same DedupeKey, or that an action with different
	// content has the same IdempotencyKey; nothing was written. errors.As finds a *DuplicateError.
	ErrDuplicate = errors.New("duplicate action")

	// ErrBusy says that the call timed out waiting for a lock: the write lock of an SQLite file, or a lock on
	// PostgreSQL. It also covers a deadlock, a serialization failure and too many connections on PostgreSQL.
	// Nothing was written, and a retry may succeed.
	ErrBusy = errors.New("the database is busy")

	// ErrSchemaVersion says that the schema is older or newer than the code, that some of the lifecycle's rules
	// (triggers, indexes, views) were dropped or disabled, or that another tool left a migration half done.
	// Migrate upgrades an older schema and restores rules. Events and Follow return it also for events from another
	// PostgreSQL cluster.
	ErrSchemaVersion = errors.New("schema version does not fit")
)

// TransitionError says which transition was refused. It matches ErrInvalidTransition.
type TransitionError struct {
	ID   int64
	From Status // the status that the action has
	To   Status // the status that the call asked for; Heartbeat has Executing here, RequestCancel has Rejected

	// Why is "" if the lifecycle forbids the transition. If the lifecycle allows it, Why is what prevents it now:
	// ReasonMaintenance, ReasonExpired, ReasonNotYetDue, ReasonSelfApproval or ReasonNoApproval.
	Why Reason
}

// Error returns one sentence with the status of the action and, where another method applies to that status, its name.
func (e *TransitionError) Error() string {
	switch e.Why {
	case ReasonMaintenance:
		return fmt.Sprintf("action %d is held: its server is in maintenance and only %q approved it", e.ID, AutoApprover)
	case ReasonExpired:
		return fmt.Sprintf("action %d has expired", e.ID)
	case ReasonNotYetDue:
		return fmt.Sprintf("action %d is not due yet", e.ID)
	case ReasonSelfApproval:
		return fmt.Sprintf("action %d can't be approved by the one who created it: its server forbids that", e.ID)
	case ReasonNoApproval:
		return fmt.Sprintf("action %d is %s, but predates the rules: its audit fields keep it from becoming %s", e.ID, e.From, e.To)
	}
	switch {
	case e.From == e.To:
		return fmt.Sprintf("action %d is %s already", e.ID, e.From)
	case e.From == Approved && e.To == Executing:
		return fmt.Sprintf("action %d is approved and not executing yet", e.ID)
	case e.From == Approved && e.To == Rejected:
		return fmt.Sprintf("action %d is approved already: Withdraw takes it back", e.ID)
	case e.From == Executing && e.To == Rejected:
		return fmt.Sprintf("action %d is executing, and only its agent can end it: RequestCancel asks for that, once", e.ID)
	case e.From == Pending && e.To == Rejected:
		return fmt.Sprintf("action %d is still pending: Reject decides it", e.ID)
	}
	return fmt.Sprintf("action %d is %s and can't become %s", e.ID, e.From, e.To)
}

// Unwrap returns ErrInvalidTransition.
func (e *TransitionError) Unwrap() error { return ErrInvalidTransition }

// InputError says which argument is not valid and why. It matches ErrInvalidInput.
type InputError struct {
	Field   string // a column, such as "command", or another argument, such as "by", "reason" or "limit"
	Problem string // completes the sentence that Field begins: "is empty"
}

// Error returns the field and its problem: "command is empty".
func (e *InputError) Error() string { return e.Field + " " + e.Problem }

// Unwrap returns ErrInvalidInput.
func (e *InputError) Unwrap() error { return ErrInvalidInput }

// DuplicateError says which action has the key already: an open action with the same DedupeKey, or an action with the
// same IdempotencyKey and different content. It matches ErrDuplicate.
type DuplicateError struct {
	ExistingID int64
}

// Error returns a sentence that names the action that has the key.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("action %d has this key already", e.ExistingID)
}

// Unwrap returns ErrDuplicate.
func (e *DuplicateError) Unwrap() error { return ErrDuplicate }
