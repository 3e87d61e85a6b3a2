package remediation

// Status is the state of an action in its lifecycle:
//
//	pending -> approved -> executing -> completed | failed
//	pending -> rejected
//	approved -> rejected (withdrawn before it ran)
//
// The ledger writes only these six statuses (criterion AC1), and the database enforces the same transitions. A row that
// another program wrote may have a different status. One is "timed_out", which is terminal: the newest version of the
// Python program that the schema comes from (the Python original) writes it when a result does not come in time.
type Status string

const (
	Pending   Status = "pending"   // waits for a person to approve or reject it
	Approved  Status = "approved"  // may be claimed by its server's agent
	Rejected  Status = "rejected"  // never runs; terminal
	Executing Status = "executing" // delivered to an agent, has no result yet
	Completed Status = "completed" // ran and exited with 0; terminal
	Failed    Status = "failed"    // ran and exited with another code, or its agent reported no result; terminal
)

// timedOut is a status that the ledger reads and never writes: see Status.
const timedOut Status = "timed_out"

// Statuses returns the six statuses in lifecycle order.
func Statuses() []Status {
	return []Status{Pending, Approved, Rejected, Executing, Completed, Failed}
}

// Valid reports whether s is one of the six statuses.
func (s Status) Valid() bool {
	switch s {
	case Pending, Approved, Rejected, Executing, Completed, Failed:
		return true
	}
	return false
}

// Terminal reports whether s is a final status (criterion AC4): rejected, completed, failed or "timed_out".
func (s Status) Terminal() bool {
	return s == Rejected || s == Completed || s == Failed || s == timedOut
}

// CanTransition reports whether the lifecycle allows an action to go from status s to status to. It is false if both
// are the same.
func (s Status) CanTransition(to Status) bool {
	switch s {
	case Pending:
		return to == Approved || to == Rejected
	case Approved:
		return to == Executing || to == Rejected
	case Executing:
		return to == Completed || to == Failed
	}
	return false
}
