package remediation

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Reason is the reason why an action is not running, or ReasonExecuting if it is.
type Reason string

// The reasons. Unpause or Withdraw resolves ReasonMaintenance. ReasonSelfApproval occurs only in a TransitionError: the
// person who approves created the action, and its server forbids that. ReasonNoApproval is for a row that predates the
// rules and whose audit fields are not those of a pending or approved action: it never runs.
const (
	ReasonAwaitingApproval Reason = "awaiting_approval" // a person must approve or reject it
	ReasonMaintenance      Reason = "maintenance"       // its server is paused and only "auto" approved it
	ReasonBehind           Reason = "behind"            // another action of its server comes first, see Behind
	ReasonUnclaimed        Reason = "unclaimed"         // it is next, and the agent of its server has not claimed it
	ReasonExecuting        Reason = "executing"         // an agent has claimed or started it
	ReasonFinished         Reason = "finished"          // it is completed, failed or "timed_out"
	ReasonRejected         Reason = "rejected"          // it is rejected and never runs
	ReasonExpired          Reason = "expired"           // its ExpiresAt has passed, so it never runs; Expire rejects it
	ReasonNotYetDue        Reason = "not_yet_due"       // it is approved, and its NotBefore is in the future
	ReasonSelfApproval     Reason = "self_approval"     // its creator must not approve it
	ReasonNoApproval       Reason = "no_approval"       // its audit fields keep it from running
)

// Explanation is the result of Explain. String returns it as a sentence for a person.
type Explanation struct {
	ActionID int64  `json:"action_id"`
	ServerID string `json:"server_id"`
	Status   Status `json:"status"`
	Reason   Reason `json:"reason"`
	// Since is when the action was created, approved, executed, completed or rejected, when it expired, or when its
	// server was paused, depending on Reason. It is zero if that is unknown.
	Since time.Time `json:"since,omitzero"`
	By    string    `json:"by,omitempty"` // who approved it or, for ReasonRejected, rejected it; "" for none
	// Behind is set for ReasonBehind: the executing action of the server or, if none is executing, the next to be
	// claimed.
	Behind int64 `json:"behind,omitempty"`

	// Detail depends on Reason, and is "" for the reasons that are not listed here:
	//
	//   - ReasonRejected: the rejection reason.
	//   - ReasonFinished: the exit code, or "" if there is none.
	//   - ReasonNotYetDue: the time from which it may run.
	//   - ReasonExecuting: who asked to cancel it and when, or that an older program recorded its result; often "".
	//   - ReasonNoApproval: that the values can't be read; often "".
	Detail string `json:"detail,omitempty"`
}

// Conditions is an action with everything that decides whether it may run, as a Backend reads it in one statement. If
// the action predates the rules and its values can't be read, every pointer to a field of the action is nil.
type Conditions struct {
	ID                  int64
	ServerID            string
	Status              Status
	CreatedAt           *time.Time
	CreatedBy           *string
	ApprovedAt          *time.Time
	ApprovedBy          *string
	RejectedAt          *time.Time
	RejectedBy          *string
	RejectionReason     *string
	ExecutedAt          *time.Time
	CompletedAt         *time.Time
	ExitCode            *int64
	NotBefore           *time.Time
	ExpiresAt           *time.Time
	CancelRequestedAt   *time.Time
	CancelRequestedBy   *string
	IsPaused            bool
	PausedAt            *time.Time
	ForbidsSelfApproval bool
	Approvable          bool  // its audit fields are those of a pending action
	Startable           bool  // its audit fields are those of an approved action
	BehindExecuting     int64 // the oldest executing action of its server, 0 if there is none
	NextToClaim         int64 // the action of its server that Claim would return, 0 if there is none
}

// Explain says why an action is not running, so that a person knows what to do, or returns ErrNotFound. It reads
// everything in one statement, so the explanation is consistent.
func (l *Ledger) Explain(ctx context.Context, id int64) (Explanation, error) {
	now := clampYear(l.clock()) // Explain changes nothing, so it does not refuse a wrong clock
	s, err := l.store.ExplainAction(ctx, id, now)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain action %d: %w", id, err)
	}
	return s.explain(now), nil
}

// heldFrom returns the reason that keeps an action from a status that the lifecycle allows, or "".
func (s Conditions) heldFrom(to Status, by string, now time.Time) Reason {
	switch {
	case s.CreatedAt == nil, to == Approved && !s.Approvable, to == Executing && s.Status == Approved && !s.Startable:
		return ReasonNoApproval
	case to != Approved && (to != Executing || s.Status != Approved):
		return ""
	case s.ExpiresAt != nil && !s.ExpiresAt.After(now):
		return ReasonExpired
	case to == Approved && s.ForbidsSelfApproval && by == value(s.CreatedBy):
		return ReasonSelfApproval
	case to == Executing && s.NotBefore != nil && s.NotBefore.After(now):
		return ReasonNotYetDue
	case to == Executing && s.IsPaused && value(s.ApprovedBy) == AutoApprover:
		return ReasonMaintenance
	}
	return ""
}

// explain finds the Reason, and the fields that go with it.
func (s Conditions) explain(now time.Time) Explanation {
	e := Explanation{ActionID: s.ID, ServerID: s.ServerID, Status: s.Status, By: value(s.ApprovedBy)}
	if s.CreatedAt == nil && (s.Status == Pending || s.Status == Approved) {
		e.Reason, e.Detail = ReasonNoApproval, "it predates the rules and holds values that can't be read; repair them in the database"
		return e
	}
	switch s.Status {
	case Pending:
		e.Reason, e.Since = ReasonAwaitingApproval, at(s.CreatedAt)
		if held := s.heldFrom(Approved, "", now); held != "" {
			e.Reason = held
		}
	case Rejected:
		e.Reason, e.Since, e.By, e.Detail = ReasonRejected, at(s.RejectedAt), value(s.RejectedBy), value(s.RejectionReason)
	case Executing:
		e.Reason, e.Since = ReasonExecuting, at(s.ExecutedAt)
		if s.CompletedAt != nil || s.ExitCode != nil {
			e.Detail = "its result is on record already"
		} else if s.CancelRequestedAt != nil {
			e.Detail = value(s.CancelRequestedBy) + " asked to cancel it at " + s.CancelRequestedAt.UTC().Format(time.DateTime) + " UTC"
		}
	case Completed, Failed, timedOut:
		e.Reason, e.Since = ReasonFinished, at(s.CompletedAt)
		if s.ExitCode != nil {
			e.Detail = fmt.Sprint(*s.ExitCode)
		}
	case Approved:
		e.Since = at(s.ApprovedAt)
		switch e.Reason = s.heldFrom(Executing, "", now); {
		case e.Reason == ReasonMaintenance:
			e.Since = at(s.PausedAt)
		case e.Reason == ReasonNotYetDue:
			e.Detail = s.NotBefore.UTC().Format(time.DateTime) + " UTC"
		case e.Reason != "":
		case s.BehindExecuting != 0:
			e.Reason, e.Behind = ReasonBehind, s.BehindExecuting
		case s.NextToClaim != 0 && s.NextToClaim < s.ID:
			e.Reason, e.Behind = ReasonBehind, s.NextToClaim
		default:
			e.Reason = ReasonUnclaimed
		}
	}
	if e.Reason == ReasonExpired {
		e.Since = at(s.ExpiresAt)
	}
	return e
}

// String returns the explanation as one sentence.
func (e Explanation) String() string {
	since := "an unknown time"
	if !e.Since.IsZero() {
		since = e.Since.Format(time.DateTime) + " UTC"
	}
	switch e.Reason {
	case ReasonAwaitingApproval:
		return fmt.Sprintf("action %d has been waiting for a person's approval since %s", e.ActionID, since)
	case ReasonMaintenance:
		return fmt.Sprintf("action %d is held: server %q has been in maintenance since %s and only %q approved it",
			e.ActionID, e.ServerID, since, AutoApprover)
	case ReasonBehind:
		return fmt.Sprintf("action %d waits behind action %d on server %q", e.ActionID, e.Behind, e.ServerID)
	case ReasonUnclaimed:
		return fmt.Sprintf("action %d is next on server %q, whose agent has not claimed it since %s", e.ActionID, e.ServerID, since)
	case ReasonExecuting:
		if e.Detail != "" {
			return fmt.Sprintf("action %d is executing, but %s: Finish or FailOverdue ends it", e.ActionID, e.Detail)
		}
		return fmt.Sprintf("action %d has been executing on server %q since %s", e.ActionID, e.ServerID, since)
	case ReasonRejected:
		return fmt.Sprintf("action %d was rejected by %s at %s: %s", e.ActionID, e.By, since, e.Detail)
	case ReasonFinished:
		how := strings.ReplaceAll(string(e.Status), "_", " ")
		if e.Detail == "" {
			return fmt.Sprintf("action %d %s at %s without an exit code", e.ActionID, how, since)
		}
		return fmt.Sprintf("action %d %s at %s with exit code %s", e.ActionID, how, since, e.Detail)
	case ReasonExpired:
		return fmt.Sprintf("action %d expired at %s, while it was %s: it never runs", e.ActionID, since, e.Status)
	case ReasonNotYetDue:
		return fmt.Sprintf("action %d is approved and not due before %s", e.ActionID, e.Detail)
	case ReasonNoApproval:
		if e.Detail != "" {
			return fmt.Sprintf("action %d never runs: %s", e.ActionID, e.Detail)
		}
		if e.Status == Pending {
			return fmt.Sprintf("action %d can't be approved: it predates the rules and its audit fields are not empty; Reject ends it", e.ActionID)
		}
		return fmt.Sprintf("action %d is never claimed: it predates the rules and its audit fields are not those of an approval; Withdraw ends it", e.ActionID)
	}
	return fmt.Sprintf("action %d is %s", e.ActionID, e.Status)
}

// value returns *s, or "" if s is nil.
func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// at returns *t in UTC, or the zero time if t is nil.
func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
