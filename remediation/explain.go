package remediation

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Reason is why an action is not running, or that it is.
type Reason string

const (
	ReasonAwaitingApproval Reason = "awaiting_approval" // a person must approve or reject it
	ReasonMaintenance      Reason = "maintenance"       // only "auto" approved it and its server is paused: Unpause or Withdraw
	ReasonBehind           Reason = "behind"            // its server's agent has another action to run first: see Behind
	ReasonUnclaimed        Reason = "unclaimed"         // it is next, and its server's agent has not claimed it
	ReasonExecuting        Reason = "executing"         // it runs
	ReasonFinished         Reason = "finished"          // it has run
	ReasonRejected         Reason = "rejected"          // it never runs
	ReasonExpired          Reason = "expired"           // its ExpiresAt has passed, so it never runs; Expire rejects it
	ReasonNotYetDue        Reason = "not_yet_due"       // it is approved, but its NotBefore has not passed
	ReasonSelfApproval     Reason = "self_approval"     // its creator tried to approve it, and its server forbids that; only in a TransitionError
	ReasonNoApproval       Reason = "no_approval"       // it predates the rules and has no valid approval, so it never runs
)

// Explanation is the result of Explain. String returns it as a sentence.
type Explanation struct {
	ActionID int64     `json:"action_id"`
	ServerID string    `json:"server_id"`
	Status   Status    `json:"status"`
	Reason   Reason    `json:"reason"`
	Since    time.Time `json:"since,omitzero"`   // when it was created, paused, approved, executed, completed, rejected or expired, by Reason; zero if unknown
	By       string    `json:"by,omitempty"`     // who approved or rejected it
	Behind   int64     `json:"behind,omitempty"` // for ReasonBehind: the action that the server runs or claims first

	// Detail depends on Reason. ReasonRejected: the reason for the rejection. ReasonFinished: the exit code, or "".
	// ReasonNotYetDue: when the action is due. ReasonExecuting: who asked to cancel it, or what an older program left
	// in it. ReasonNoApproval: what an older program left in it, or "".
	Detail string `json:"detail,omitempty"`
}

// Conditions are an action and everything that decides whether it may run. A Backend reads them in one statement. If
// the action predates the rules and its values can't be read, every pointer is nil.
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
	Approvable          bool  // it may be approved, if its limits and its server allow it
	Startable           bool  // it may be started, if its limits and its server allow it
	BehindExecuting     int64 // the executing action of its server with the lowest id, or 0
	NextToClaim         int64 // the action that Claim would return for its server, or 0
}

// Explain returns why an action isn't running, or ErrNotFound. It is one read: all that it reports is true at one
// moment.
func (l *Ledger) Explain(ctx context.Context, id int64) (Explanation, error) {
	now := clampYear(l.clock()) // Explain changes nothing, so a wrong clock is no error
	s, err := l.store.ExplainAction(ctx, id, now)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain action %d: %w", id, err)
	}
	return s.explain(now), nil
}

// heldFrom returns what keeps the action from a status that the lifecycle allows, or "".
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

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
