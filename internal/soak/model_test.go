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
	servers map[string]mode
	alerts  map[int64]string     // each alert's server
	actions []remediation.Action // by id
	rising  bool                 // an id is greater than all before it
}

type mode struct {
	paused  bool
	since   time.Time
	forbids bool // self-approval
}

// after is the modelState after a call, and what the call answers. What is the database's to choose is taken from the call's
// own answer, if it is one of the choices: a new action's id, and what is passed over.
func (b modelState) after(c call) (modelState, answer) {
	now := c.At.Truncate(time.Microsecond)
	switch c.Method {
	case "AddServer", "Pause", "Unpause", "ForbidSelfApproval":
		return b.withMode(c, now)
	case "Create":
		return b.create(c, now)
	case "Get":
		if i, ok := b.find(c.ID); ok {
			return b, answer{Actions: []remediation.Action{b.actions[i]}}
		}
		return b, answer{Err: remediation.ErrNotFound.Error()}
	case "Approve":
		return b.transition(c, remediation.Pending, remediation.Approved, func(a *remediation.Action) {
			a.ApprovedAt, a.ApprovedBy = &now, &c.By
		})
	case "Reject", "Withdraw":
		from := remediation.Pending
		if c.Method == "Withdraw" {
			from = remediation.Approved
		}
		return b.transition(c, from, remediation.Rejected, func(a *remediation.Action) {
			a.RejectedAt, a.RejectedBy, a.RejectionReason = &now, &c.By, &c.Reason
		})
	case "Start":
		return b.transition(c, remediation.Approved, remediation.Executing, func(a *remediation.Action) { a.ExecutedAt = &now })
	case "Finish":
		to := remediation.Completed
		if c.Result.ExitCode != 0 {
			to = remediation.Failed
		}
		return b.transition(c, remediation.Executing, to, func(a *remediation.Action) {
			a.CompletedAt, a.ExitCode = &now, &c.Result.ExitCode
			a.Stdout, a.Stderr = new(kept(c.Result.Stdout)), new(kept(c.Result.Stderr))
		})
	case "Heartbeat":
		return b.transition(c, remediation.Executing, remediation.Executing, func(a *remediation.Action) {
			if a.HeartbeatAt == nil || a.HeartbeatAt.Before(now) {
				a.HeartbeatAt = &now
			}
		})
	case "RequestCancel":
		return b.transition(c, remediation.Executing, remediation.Rejected, func(a *remediation.Action) {
			a.Status = remediation.Executing // it only asks
			a.CancelRequestedAt, a.CancelRequestedBy, a.CancelReason = &now, &c.By, &c.Reason
		})
	case "Claim":
		for _, a := range b.actions {
			if a.ServerID == c.Server && b.claimable(a, now) && !c.passesOver(a) {
				return b.after(call{Method: "Start", ID: a.ID, At: c.At})
			}
		}
		return b, answer{Err: remediation.ErrNothingToClaim.Error()}
	case "FailOverdue":
		return b.failOverdue(c, now)
	case "Expire":
		return b.expire(c, now)
	}
	panic("the model does not know " + c.Method)
}

func (b modelState) withMode(c call, now time.Time) (modelState, answer) {
	server, ok := b.servers[c.Server]
	switch {
	case c.Method == "AddServer": // a server that was added before stays as it is
	case !ok:
		return b, answer{Err: remediation.ErrServerNotFound.Error()}
	case c.Method == "ForbidSelfApproval":
		server.forbids = c.Forbid
	case c.Method == "Unpause":
		server.paused, server.since = false, time.Time{}
	case !server.paused:
		server.paused, server.since = true, now
	}
	b.servers = maps.Clone(b.servers)
	b.servers[c.Server] = server
	return b, answer{}
}

func (b modelState) transition(c call, from, to remediation.Status, fill func(*remediation.Action)) (modelState, answer) {
	i, ok := b.find(c.ID)
	if !ok || (c.Method == "Finish" || c.Method == "Heartbeat") && b.actions[i].ServerID != c.Server {
		return b, answer{Err: remediation.ErrNotFound.Error()}
	}
	a := b.actions[i]
	refused := answer{Err: remediation.ErrInvalidTransition.Error(), ID: a.ID, From: a.Status, To: to}
	if a.Status != from || c.Method == "RequestCancel" && a.CancelRequestedAt != nil {
		return b, refused
	}
	if refused.Why = b.held(a, to, c.By, c.At.Truncate(time.Microsecond)); refused.Why != "" {
		return b, refused
	}
	a.Status = to
	fill(&a)
	b.actions = slices.Clone(b.actions)
	b.actions[i] = a
	return b, answer{Actions: []remediation.Action{a}}
}

// find is where an action is, or would be.
func (b modelState) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(b.actions, id, func(a remediation.Action, id int64) int { return cmp.Compare(a.ID, id) })
}

// kept is what the ledger keeps of an output: what no engine can store becomes U+FFFD, byte by byte.
func kept(output string) string {
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
