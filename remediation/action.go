package remediation

import "time"

// AutoApprover is the approved_by of an action that was approved automatically, on a server in normal mode (criterion
// AC2). It is also the rejected_by of an action that Expire rejected. No person can use this name.
const AutoApprover = "auto"

// Action is one row of the ledger. Its fields are the columns of the table, in the same order, so that an engine can
// convert its generated row type to an Action. Times are in UTC and in whole microseconds. A nil field is not set. The
// comment of a field, or of the method that sets it, says when it is set.
type Action struct {
	ID          int64     `json:"id"` // never reused
	ServerID    string    `json:"server_id"`
	ActionType  string    `json:"action_type"` // a kind that the program defines, such as "restart_service"
	Status      Status    `json:"status"`
	ServiceName *string   `json:"service_name,omitempty"`
	Command     string    `json:"command"` // never changes after Create, so the approved command is the one that runs
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`

	AlertID         *int64     `json:"alert_id,omitempty"`    // becomes nil when the alert is deleted (criterion AC7)
	ApprovedAt      *time.Time `json:"approved_at,omitempty"` // by Create in normal mode, or Approve (criterion AC5)
	ApprovedBy      *string    `json:"approved_by,omitempty"`
	RejectedAt      *time.Time `json:"rejected_at,omitempty"` // by Reject, Withdraw or Expire
	RejectedBy      *string    `json:"rejected_by,omitempty"`
	RejectionReason *string    `json:"rejection_reason,omitempty"`
	ExecutedAt      *time.Time `json:"executed_at,omitempty"`  // by Claim or Start (criterion AC6)
	CompletedAt     *time.Time `json:"completed_at,omitempty"` // by Finish or FailOverdue
	ExitCode        *int64     `json:"exit_code,omitempty"`
	Stdout          *string    `json:"stdout,omitempty"` // never loaded by List
	Stderr          *string    `json:"stderr,omitempty"` // never loaded by List

	DedupeKey         *string    `json:"dedupe_key,omitempty"`      // released when the action ends
	IdempotencyKey    *string    `json:"idempotency_key,omitempty"` // kept as long as the action exists
	NotBefore         *time.Time `json:"not_before,omitempty"`
	ExpiresAt         *time.Time `json:"expires_at,omitempty"`
	MaxRuntimeSeconds *int64     `json:"max_runtime_seconds,omitempty"`
	HeartbeatAt       *time.Time `json:"heartbeat_at,omitempty"`        // by the last Heartbeat
	CancelRequestedAt *time.Time `json:"cancel_requested_at,omitempty"` // by RequestCancel
	CancelRequestedBy *string    `json:"cancel_requested_by,omitempty"`
	CancelReason      *string    `json:"cancel_reason,omitempty"`
}

// utc converts all times of a to UTC: a driver may return them in another time zone.
func (a Action) utc() Action {
	a.CreatedAt = a.CreatedAt.UTC()
	for _, t := range []*time.Time{a.ApprovedAt, a.RejectedAt, a.ExecutedAt, a.CompletedAt,
		a.NotBefore, a.ExpiresAt, a.HeartbeatAt, a.CancelRequestedAt} {
		if t != nil {
			*t = t.UTC()
		}
	}
	return a
}

// NewAction is the input of Create. Lengths are in characters and equal those of the columns.
type NewAction struct {
	ServerID    string  `json:"server_id"`              // a server that exists; at most 100
	ActionType  string  `json:"action_type"`            // at most 50
	Command     string  `json:"command"`                // at most 1 MiB; stored byte for byte
	CreatedBy   string  `json:"created_by"`             // at most 50, not "auto"
	ServiceName *string `json:"service_name,omitempty"` // optional; at most 255
	AlertID     *int64  `json:"alert_id,omitempty"`     // optional; an alert that exists

	// DedupeKey is optional and has at most 255 characters. While an action of this server with this key is open
	// (pending, approved or executing), Create does not create another one. For example, a key allows one restart of a
	// service at a time, or one run of apt for any purpose.
	DedupeKey *string `json:"dedupe_key,omitempty"`

	// IdempotencyKey is optional and has at most 255 characters. It is unique in the ledger, and makes a retry of
	// Create safe: see Create.
	IdempotencyKey *string `json:"idempotency_key,omitempty"`

	// An action is never claimed or started before NotBefore, and never approved, claimed or started at or after
	// ExpiresAt. Both are optional. ExpiresAt must be after the time of the Create and after NotBefore.
	NotBefore *time.Time `json:"not_before,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`

	// MaxRuntimeSeconds is optional, from 1 to 2,147,483,647: how long the command may run. After this time the agent
	// should stop the command, and FailOverdue closes the action if it has no result.
	MaxRuntimeSeconds *int64 `json:"max_runtime_seconds,omitempty"`
}

// Result is the result of a command, as its agent reports it to Finish.
type Result struct {
	ExitCode int64 `json:"exit_code"` // 0 makes the action completed, any other code makes it failed

	// Stdout and Stderr are part of the audit trail and stored whole, up to the engine's limit on the size of a value.
	// Each NUL, and each byte that is not valid UTF-8, is replaced by U+FFFD.
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// Filter selects the actions that List and All return. A field with its zero value does not restrict the result.
type Filter struct {
	ServerID   string `json:"server_id,omitempty"`
	ActionType string `json:"action_type,omitempty"`
	Status     Status `json:"status,omitempty"` // one of the six, or "timed_out" (see Status)
	AlertID    *int64 `json:"alert_id,omitempty"`
	Before     int64  `json:"before,omitempty"` // only ids below this one: the last id of the previous page
	Limit      int    `json:"limit,omitempty"`  // the size of a page: 1 to 1,000; 0 means 50
}
