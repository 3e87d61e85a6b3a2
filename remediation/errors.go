package remediation

import (
	"errors"
	"fmt"
)

// The sentinels, for errors.Is. Every error that a Ledger returns says in one sentence what was being done.
var (
	// ErrNotFound says that there is no such action, or none of that server.
	ErrNotFound = errors.New("no such action")

	// ErrServerNotFound says that the server was never added; nothing was written.
	ErrServerNotFound = errors.New("no such server")

	// ErrAlertNotFound says that the alert doesn't exist; nothing was written.
	ErrAlertNotFound = errors.New("no such alert")

	// ErrNothingToClaim says that the server has no approved action that may run now. It is how a claim ends on a
	// quiet server, not a failure.
	ErrNothingToClaim = errors.New("nothing to claim")

	// ErrInvalidTransition says that the lifecycle forbids the step; nothing was written. errors.As finds a
	// *TransitionError.
	ErrInvalidTransition = errors.New("invalid transition")

	// ErrInvalidInput says that an argument was refused before anything was written. errors.As finds an *InputError.
	ErrInvalidInput = errors.New("invalid input")

	// ErrDuplicate says that an open action on that server has the same DedupeKey, or that an action with other content has
	// the same IdempotencyKey; nothing was written. errors.As finds a *DuplicateError.
	ErrDuplicate = errors.New("duplicate action")

	// ErrBusy says that others held what the call needs for longer than it may wait: the write lock of an SQLite file, a
	// row, a connection. Nothing was written, and the same call may succeed later.
	ErrBusy = errors.New("the database is busy")

	// ErrSchemaVersion says that the database is older or newer than the code, that some of the lifecycle's rules were
	// dropped or disabled, or that a migration was left half done by another tool. Migrate mends an older one, and puts
	// rules back.
	ErrSchemaVersion = errors.New("schema version does not fit")
)

// TransitionError says which step was refused. It matches ErrInvalidTransition.
type TransitionError struct {
	ID   int64
	From Status // the status that the action has
	To   Status // the status that it was to get: for Heartbeat Executing, for RequestCancel Rejected

	// Why is "" if the lifecycle forbids the step. If the lifecycle allows it, Why says what holds the action:
	// ReasonMaintenance, ReasonExpired, ReasonNotYetDue, ReasonSelfApproval or ReasonNoApproval.
	Why Reason
}

// Error says in one sentence where the action stands and, if another method can go on from there, which.
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

// InputError says which argument was refused and why. It matches ErrInvalidInput.
type InputError struct {
	Field   string // the argument's name as the database spells it, such as "command", or "by", "reason", "limit"
	Problem string // reads on after the field: "is empty"
}

// Error is the field and its problem: "command is empty".
func (e *InputError) Error() string { return e.Field + " " + e.Problem }

// Unwrap returns ErrInvalidInput.
func (e *InputError) Unwrap() error { return ErrInvalidInput }

// DuplicateError says which action has the key already: an open one with the same DedupeKey, or one with the same
// IdempotencyKey and other content. It matches ErrDuplicate.
type DuplicateError struct {
	ExistingID int64
}

// Error names the action that has the key.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("action %d has this key already", e.ExistingID)
}

// Unwrap returns ErrDuplicate.
func (e *DuplicateError) Unwrap() error { return ErrDuplicate }
