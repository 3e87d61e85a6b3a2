package remediation

import "time"

// AutoApprover is the approved_by of an action that was approved automatically (criterion AC2). No person may use this
// name.
const AutoApprover = "auto"

// Action is one row of the ledger. Its fields are the columns, in their order, so that a generated row converts to it
// directly. Times are in UTC and whole microseconds. A nil field has not been filled yet; the comments name the
// functions that fill it.
type Action struct {
	ID          int64     `json:"id"` // never reused
	ServerID    string    `json:"server_id"`
	ActionType  string    `json:"action_type"` // the host program's own kind, such as "restart_service"
	Status      Status    `json:"status"`
	ServiceName *string   `json:"service_name,omitempty"`
	Command     string    `json:"command"` // never changes after Create: what was approved is what runs
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`

	AlertID         *int64     `json:"alert_id,omitempty"`    // becomes nil when the alert is deleted (criterion AC7)
	ApprovedAt      *time.Time `json:"approved_at,omitempty"` // Create (auto) or Approve (criterion AC5)
	ApprovedBy      *string    `json:"approved_by,omitempty"`
	RejectedAt      *time.Time `json:"rejected_at,omitempty"` // Reject, Withdraw or Expire
	RejectedBy      *string    `json:"rejected_by,omitempty"`
	RejectionReason *string    `json:"rejection_reason,omitempty"`
	ExecutedAt      *time.Time `json:"executed_at,omitempty"`  // Claim or Start (criterion AC6)
	CompletedAt     *time.Time `json:"completed_at,omitempty"` // Finish or FailOverdue
	ExitCode        *int64     `json:"exit_code,omitempty"`
	Stdout          *string    `json:"stdout,omitempty"` // never loaded by List
	Stderr          *string    `json:"stderr,omitempty"` // never loaded by List

	DedupeKey         *string    `json:"dedupe_key,omitempty"`      // released when the action ends
	IdempotencyKey    *string    `json:"idempotency_key,omitempty"` // kept as long as the action exists
	NotBefore         *time.Time `json:"not_before,omitempty"`
	ExpiresAt         *time.Time `json:"expires_at,omitempty"`
	MaxRuntimeSeconds *int64     `json:"max_runtime_seconds,omitempty"`
	HeartbeatAt       *time.Time `json:"heartbeat_at,omitempty"`        // the last Heartbeat
	CancelRequestedAt *time.Time `json:"cancel_requested_at,omitempty"` // RequestCancel
	CancelRequestedBy *string    `json:"cancel_requested_by,omitempty"`
	CancelReason      *string    `json:"cancel_reason,omitempty"`
}

// utc converts all times to UTC. Drivers may return other zones.
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

// NewAction is the input of Create. Lengths are in characters; they are the lengths of the columns.
type NewAction struct {
	ServerID    string  `json:"server_id"`              // a server that was added; at most 100
	ActionType  string  `json:"action_type"`            // at most 50
	Command     string  `json:"command"`                // at most 1 MiB; stored byte for byte
	CreatedBy   string  `json:"created_by"`             // at most 50, not "auto"
	ServiceName *string `json:"service_name,omitempty"` // optional; at most 255
	AlertID     *int64  `json:"alert_id,omitempty"`     // optional; an alert that exists

	// DedupeKey is optional, at most 255. While an action of this server with this key is open (pending, approved or
	// executing), Create refuses another one. It allows, for example, one restart of a service at a time, or one apt
	// run of any kind.
	DedupeKey *string `json:"dedupe_key,omitempty"`

	// IdempotencyKey is optional, at most 255, and unique in the ledger. It makes Create safe to repeat: see Create.
	IdempotencyKey *string `json:"idempotency_key,omitempty"`

	// An action is never claimed or started before NotBefore, and never approved, claimed or started at or after ExpiresAt.
	// Both are optional. ExpiresAt must come after the time of the Create and after NotBefore.
	NotBefore *time.Time `json:"not_before,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`

	// MaxRuntimeSeconds is optional, 1 to 2,147,483,647: the time that the command may take. The agent should then stop
	// the command, and FailOverdue closes an action that has no result by then.
	MaxRuntimeSeconds *int64 `json:"max_runtime_seconds,omitempty"`
}

// Result is the result of a command, as its agent reports it.
type Result struct {
	ExitCode int64 `json:"exit_code"` // 0 makes the action completed, any other failed

	// Stdout and Stderr are stored whole, up to the engine's limit for a value. Each byte that is not valid UTF-8 and
	// each NUL becomes U+FFFD.
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// Filter selects the actions that List returns. The zero value of a field means any.
type Filter struct {
	ServerID   string `json:"server_id,omitempty"`
	ActionType string `json:"action_type,omitempty"`
	Status     Status `json:"status,omitempty"` // one of the six, or "timed_out", which only the Python original writes
	AlertID    *int64 `json:"alert_id,omitempty"`
	Before     int64  `json:"before,omitempty"` // only ids below this one, such as the last id of the previous page
	Limit      int    `json:"limit,omitempty"`  // at most this many: 1 to 1,000, 0 means 50
}
