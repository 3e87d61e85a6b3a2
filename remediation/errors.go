package remediation

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is. The message of every error that a Ledger returns also says what was being done.
var (
	// ErrNotFound means that the action does not exist, or belongs to another server than the given one.
	ErrNotFound = errors.New("no such action")

	// ErrServerNotFound means that the server does not exist. Nothing was written.
	ErrServerNotFound = errors.New("no such server")

	// ErrAlertNotFound means that the server has no such alert. Nothing was written.
	ErrAlertNotFound = errors.New("no such alert")

	// ErrNothingToClaim means that the server has no approved action that may run now. This is the normal result on an
	// idle server, not a failure.
	ErrNothingToClaim = errors.New("nothing to claim")

	// ErrInvalidTransition means that the transition is not allowed. Nothing was written. errors.As finds a
	// *TransitionError.
	ErrInvalidTransition = errors.New("invalid transition")

	// ErrInvalidInput means that an argument is invalid. Nothing was written. errors.As finds an *InputError.
	ErrInvalidInput = errors.New("invalid input")

	// ErrDuplicate means that an open action of the server has the same DedupeKey, or that an action with other content
	// has the same IdempotencyKey. Nothing was written. errors.As finds a *DuplicateError.
	ErrDuplicate = errors.New("duplicate action")

	// ErrBusy means that the call timed out waiting for a lock or a connection: the write lock of an SQLite file, a row
	// lock, or a connection of the pool. Nothing was written. The same call may succeed later.
	ErrBusy = errors.New("the database is busy")

	// ErrSchemaVersion means that the database is older or newer than the code, that rules were dropped or disabled, or
	// that another tool left a migration half done. Migrate upgrades an older database and restores rules.
	ErrSchemaVersion = errors.New("schema version does not fit")
)

// TransitionError describes a refused transition. It matches ErrInvalidTransition.
type TransitionError struct {
	ID   int64
	From Status // the current status
	To   Status // the requested status; Executing for Heartbeat, Rejected for RequestCancel

	// Why is "" if the lifecycle does not allow the transition. Otherwise it is the reason why this action may not make
	// it now: ReasonMaintenance, ReasonExpired, ReasonNotYetDue, ReasonSelfApproval or ReasonNoApproval.
	Why Reason
}

// Error returns one sentence: the status of the action and, if another method applies to it, which.
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

// InputError names the invalid argument and the problem. It matches ErrInvalidInput.
type InputError struct {
	Field   string // the column, such as "command", or the argument, such as "by", "reason" or "limit"
	Problem string // continues the sentence that Field begins: "is empty"
}

// Error returns the field and its problem: "command is empty".
func (e *InputError) Error() string { return e.Field + " " + e.Problem }

// Unwrap returns ErrInvalidInput.
func (e *InputError) Unwrap() error { return ErrInvalidInput }

// DuplicateError has the id of the action that already has the key: an open action with the same DedupeKey, or an
// action with the same IdempotencyKey and other content. It matches ErrDuplicate.
type DuplicateError struct {
	ExistingID int64
}

// Error names the action that already has the key.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("action %d has this key already", e.ExistingID)
}

// Unwrap returns ErrDuplicate.
func (e *DuplicateError) Unwrap() error { return ErrDuplicate }
