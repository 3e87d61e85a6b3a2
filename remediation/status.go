package remediation

// Status is where an action stands in its lifecycle:
//
//	pending -> approved -> executing -> completed | failed
//	pending -> rejected
//	approved -> rejected (withdrawn before it ran)
//
// The database enforces the same transitions, so the ledger only writes these six (criterion AC1). Rows that another program
// wrote may have a different status, such as "timed_out".
type Status string

const (
	Pending   Status = "pending"   // waits for a person
	Approved  Status = "approved"  // may be claimed by its server's agent
	Rejected  Status = "rejected"  // never runs; terminal
	Executing Status = "executing" // delivered to an agent, no result yet
	Completed Status = "completed" // ran and exited with 0; terminal
	Failed    Status = "failed"    // ran and exited with another code, or gave no result; terminal
)

// timedOut is the status with which the newest version of the Python original ends an action that had no result in
// time. It is terminal. The ledger never writes it.
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

// Terminal reports whether an action in status s never changes again (criterion AC4). "timed_out", which only the Python
// original writes, is terminal too.
func (s Status) Terminal() bool {
	return s == Rejected || s == Completed || s == Failed || s == timedOut
}

// CanTransition reports whether the lifecycle allows an action to go from s to the status to. Staying where it is is no
// transition.
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
