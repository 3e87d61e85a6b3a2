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

// modelState is the model of a ledger: what its calls answer when they come one after the other. It is never changed, each call
// makes another.
type modelState struct {
	servers   map[string]mode
	alerts    map[int64]string     // each alert's server
	actions   []remediation.Action // by id
	risingIDs bool                 // an id is greater than all before it
}

type mode struct {
	paused  bool
	since   time.Time
	forbids bool // self-approval
}

// after is the modelState after a call, and what the call answers. What is the database's to choose is taken from the call's
// own answer, if it is one of the choices: a new action's id, and what is passed over.
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
		return m.transition(c, remediation.Approved, remediation.Executing, func(a *remediation.Action) { a.ExecutedAt = &now })
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
			a.Status = remediation.Executing // it only asks
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

func (m modelState) setMode(c call, now time.Time) (modelState, answer) {
	server, ok := m.servers[c.Server]
	switch {
	case c.Method == "AddServer": // a server that was added before stays as it is
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

// find is where an action is, or would be.
func (m modelState) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(m.actions, id, func(a remediation.Action, id int64) int { return cmp.Compare(a.ID, id) })
}

// kept is what the ledger keeps of an output: what no engine can store becomes U+FFFD, byte by byte.
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

// latest is the last of an action's times, which is not that of its last step if a clock was wrong.
func latest(a remediation.Action) time.Time {
	last := a.CreatedAt
	for _, t := range []*time.Time{a.ApprovedAt, a.RejectedAt, a.ExecutedAt, a.CompletedAt} {
		if t != nil && t.After(last) {
			last = *t
		}
	}
	return last
}
