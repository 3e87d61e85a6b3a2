package remediation

import "time"

// AutoApprover is the approved_by of an action that its server's normal mode approved (criterion AC2). No person may
// act under this name.
const AutoApprover = "auto"

// Action is one row of the ledger. Its fields are the columns, in their order, so that an engine's generated row
// converts to it as it is. Times are in UTC, whole microseconds. A nil field was not filled yet; which function fills
// which is said there.
type Action struct {
	ID          int64 // never used twice
	ServerID    string
	ActionType  string // the host program's own kind, such as "restart_service"
	Status      Status
	ServiceName *string
	Command     string // never changes after Create: what was approved is what runs
	CreatedAt   time.Time
	CreatedBy   string

	AlertID         *int64     // becomes nil when the alert is deleted (criterion AC7)
	ApprovedAt      *time.Time // Create (auto) or Approve (criterion AC5)
	ApprovedBy      *string
	RejectedAt      *time.Time // Reject or Withdraw
	RejectedBy      *string
	RejectionReason *string
	ExecutedAt      *time.Time // Claim or Start (criterion AC6)
	CompletedAt     *time.Time // Finish
	ExitCode        *int64
	Stdout          *string // never loaded by List
	Stderr          *string // never loaded by List

	DedupeKey *string // Create; once the action has ended, the key holds nothing any more
}

// utc puts every time of a into UTC, whatever zone the driver read it in.
func (a Action) utc() Action {
	a.CreatedAt = a.CreatedAt.UTC()
	for _, t := range []*time.Time{a.ApprovedAt, a.RejectedAt, a.ExecutedAt, a.CompletedAt} {
		if t != nil {
			*t = t.UTC()
		}
	}
	return a
}

// NewAction is what Create needs. The lengths are in characters and are the columns' own.
type NewAction struct {
	ServerID    string  // a server that was added; at most 100
	ActionType  string  // at most 50
	Command     string  // at most 1 MiB; kept to the byte
	CreatedBy   string  // at most 50, not "auto"
	ServiceName *string // optional; at most 255
	AlertID     *int64  // optional; an alert that exists

	// DedupeKey is optional, at most 255. While an action with this key is open on this server (pending, approved or
	// executing), Create makes no other: one restart of a service at a time, say, or one apt run of any kind.
	DedupeKey *string
}

// Result is what an agent reports of a command that ran.
type Result struct {
	ExitCode int64 // 0 makes the action completed, any other failed

	// Stdout and Stderr are evidence and kept whole, up to the engine's own limit on a value. Each byte that is not
	// UTF-8 and each NUL becomes U+FFFD.
	Stdout, Stderr string
}

// Filter says which actions List returns; the zero value of a field means any.
type Filter struct {
	ServerID   string
	ActionType string
	Status     Status // one of the six, or "timed_out", which only the Python original writes
	AlertID    *int64
	Before     int64 // only ids below this one: the last id of the page before
	Limit      int   // how many at most: 1 to 1,000, 0 means 50
}
