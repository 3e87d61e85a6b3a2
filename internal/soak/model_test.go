package soak

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/homelab-cmd/actionledger/remediation"
)

// modelState is the model of a ledger without concurrency. It is immutable: each call returns a new modelState.
type modelState struct {
	servers   map[string]mode
	alerts    map[int64]string     // by alert ID, the alert's server
	actions   []remediation.Action // sorted by ID
	risingIDs bool                 // each new ID is greater than all earlier ones
}

// mode is the state of a server.
type mode struct {
	paused  bool
	since   time.Time
	forbids bool // self-approval
}

// apply returns the state after a call, and the answer that the call must have. The database may choose a new action's
// ID, and which locked actions a call skips. The model takes these from the call's own answer, if they are allowed.
func (m modelState) apply(c call) (modelState, answer) {
	now := c.At.Truncate(time.Microsecond)
	switch c.Method {
	case "AddServer", "Pause", "Unpause", "ForbidSelfApproval":
		return m.setMode(c, now)
	case "Create":
		return m.create(c, now)
	case "Get":
		if i, ok := m.find(c.ID); ok {
			return m, answer{Actions: []remediation.Action{m.actions[i]}}
		}
		return m, answer{Err: remediation.ErrNotFound.Error()}
	case "Approve":
		return m.transition(c, remediation.Pending, remediation.Approved, func(a *remediation.Action) {
			a.ApprovedAt, a.ApprovedBy = &now, &c.By
		})
	case "Reject", "Withdraw":
		from := remediation.Pending
		if c.Method == "Withdraw" {
			from = remediation.Approved
		}
		return m.transition(c, from, remediation.Rejected, func(a *remediation.Action) {
			a.RejectedAt, a.RejectedBy, a.RejectionReason = &now, &c.By, &c.Reason
		})
	case "Start":
		return m.transition(c, remediation.Approved, remediation.Executing, func(a *remediation.Action) {
			a.ExecutedAt = &now
		})
	case "Finish":
		to := remediation.Completed
		if c.Result.ExitCode != 0 {
			to = remediation.Failed
		}
		return m.transition(c, remediation.Executing, to, func(a *remediation.Action) {
			a.CompletedAt, a.ExitCode = &now, &c.Result.ExitCode
			a.Stdout, a.Stderr = new(sanitized(c.Result.Stdout)), new(sanitized(c.Result.Stderr))
		})
	case "Heartbeat":
		return m.transition(c, remediation.Executing, remediation.Executing, func(a *remediation.Action) {
			if a.HeartbeatAt == nil || a.HeartbeatAt.Before(now) {
				a.HeartbeatAt = &now
			}
		})
	case "RequestCancel":
		return m.transition(c, remediation.Executing, remediation.Rejected, func(a *remediation.Action) {
			a.Status = remediation.Executing // a request to cancel does not change the status
			a.CancelRequestedAt, a.CancelRequestedBy, a.CancelReason = &now, &c.By, &c.Reason
		})
	case "Claim":
		for _, a := range m.actions {
			if a.ServerID == c.Server && m.claimable(a, now) && !c.skips(a) {
				return m.apply(call{Method: "Start", ID: a.ID, At: c.At})
			}
		}
		return m, answer{Err: remediation.ErrNothingToClaim.Error()}
	case "FailOverdue":
		return m.failOverdue(c, now)
	case "Expire":
		return m.expire(c, now)
	}
	panic("the model does not know " + c.Method)
}

// setMode is AddServer, Pause, Unpause and ForbidSelfApproval in the model.
func (m modelState) setMode(c call, now time.Time) (modelState, answer) {
	server, ok := m.servers[c.Server]
	switch {
	case c.Method == "AddServer": // a no-op if the server exists
	case !ok:
		return m, answer{Err: remediation.ErrServerNotFound.Error()}
	case c.Method == "ForbidSelfApproval":
		server.forbids = c.Forbid
	case c.Method == "Unpause":
		server.paused, server.since = false, time.Time{}
	case !server.paused:
		server.paused, server.since = true, now
	}
	m.servers = maps.Clone(m.servers)
	m.servers[c.Server] = server
	return m, answer{}
}

// transition changes one action from one status to another, or returns the refusal.
func (m modelState) transition(c call, from, to remediation.Status, fill func(*remediation.Action)) (modelState, answer) {
	i, ok := m.find(c.ID)
	if !ok || (c.Method == "Finish" || c.Method == "Heartbeat") && m.actions[i].ServerID != c.Server {
		return m, answer{Err: remediation.ErrNotFound.Error()}
	}
	a := m.actions[i]
	refused := answer{Err: remediation.ErrInvalidTransition.Error(), ID: a.ID, From: a.Status, To: to}
	if a.Status != from || c.Method == "RequestCancel" && a.CancelRequestedAt != nil {
		return m, refused
	}
	if refused.Why = m.blockedBy(a, to, c.By, c.At.Truncate(time.Microsecond)); refused.Why != "" {
		return m, refused
	}
	a.Status = to
	fill(&a)
	m.actions = slices.Clone(m.actions)
	m.actions[i] = a
	return m, answer{Actions: []remediation.Action{a}}
}

// find returns the index of an action, or the index at which it would be inserted and false.
func (m modelState) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(m.actions, id, func(a remediation.Action, id int64) int { return cmp.Compare(a.ID, id) })
}

// sanitized returns an output as the ledger stores it. Each zero byte and each byte that is not UTF-8 becomes U+FFFD.
func sanitized(output string) string {
	var text strings.Builder
	for _, r := range output {
		if r == 0 {
			r = utf8.RuneError
		}
		text.WriteRune(r)
	}
	return text.String()
}

// latest returns the latest time of an action. If a clock was wrong, it may not be the time of the last step.
func latest(a remediation.Action) time.Time {
	last := a.CreatedAt
	for _, t := range []*time.Time{a.ApprovedAt, a.RejectedAt, a.ExecutedAt, a.CompletedAt} {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}
