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

// book is the model of a ledger: what its calls answer when they come one after the other. It is never changed, each call
// makes another.
type book struct {
	servers map[string]mode
	alerts  map[int64]string     // each alert's server
	actions []remediation.Action // by id
	rising  bool                 // an id is greater than all before it
}

type mode struct {
	paused bool
	since  time.Time
}

// after is the book after a call, and what the call answers. What is the database's to choose is taken from the call's
// own answer, if it is one of the choices: a new action's id, and what is passed over.
func (b book) after(c call) (book, answer) {
	now := c.At.Truncate(time.Microsecond)
	switch c.Method {
	case "AddServer", "Pause", "Unpause":
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
	case "Claim":
		for _, a := range b.actions {
			if a.ServerID == c.Server && a.Status == remediation.Approved && !b.held(a) && !c.passesOver(a) {
				return b.after(call{Method: "Start", ID: a.ID, At: c.At})
			}
		}
		return b, answer{Err: remediation.ErrNothingToClaim.Error()}
	case "FailOverdue":
		return b.failOverdue(c, now)
	}
	panic("the model does not know " + c.Method)
}

func (b book) withMode(c call, now time.Time) (book, answer) {
	server, ok := b.servers[c.Server]
	switch {
	case c.Method == "AddServer": // a server that was added before stays as it is
	case !ok:
		return b, answer{Err: remediation.ErrServerNotFound.Error()}
	case c.Method == "Unpause":
		server = mode{}
	case !server.paused:
		server = mode{true, now}
	}
	b.servers = maps.Clone(b.servers)
	b.servers[c.Server] = server
	return b, answer{}
}

func (b book) create(c call, now time.Time) (book, answer) {
	server, ok := b.servers[c.New.ServerID]
	if !ok {
		return b, answer{Err: remediation.ErrServerNotFound.Error()}
	}
	if c.New.AlertID != nil && b.alerts[*c.New.AlertID] != c.New.ServerID {
		return b, answer{Err: remediation.ErrAlertNotFound.Error()}
	}
	for _, a := range b.actions {
		if a.ServerID == c.New.ServerID && !a.Status.Terminal() &&
			a.DedupeKey != nil && c.New.DedupeKey != nil && *a.DedupeKey == *c.New.DedupeKey {
			return b, answer{Err: remediation.ErrDuplicate.Error(), ID: a.ID}
		}
	}
	a := remediation.Action{ServerID: c.New.ServerID, ActionType: c.New.ActionType, Status: remediation.Approved,
		ServiceName: c.New.ServiceName, Command: c.New.Command, CreatedAt: now, CreatedBy: c.New.CreatedBy,
		AlertID: c.New.AlertID, DedupeKey: c.New.DedupeKey, ApprovedAt: &now, ApprovedBy: new(remediation.AutoApprover)}
	if server.paused {
		a.Status, a.ApprovedAt, a.ApprovedBy = remediation.Pending, nil, nil
	}
	if len(c.Answer.Actions) == 1 {
		a.ID = c.Answer.Actions[0].ID
	}
	i, taken := b.find(a.ID)
	if taken || b.rising && i < len(b.actions) {
		a.ID = -1 // any id would do but this one
	}
	b.actions = slices.Insert(slices.Clone(b.actions), i, a)
	return b, answer{Actions: []remediation.Action{a}}
}

func (b book) transition(c call, from, to remediation.Status, fill func(*remediation.Action)) (book, answer) {
	i, ok := b.find(c.ID)
	if !ok || c.Method == "Finish" && b.actions[i].ServerID != c.Server {
		return b, answer{Err: remediation.ErrNotFound.Error()}
	}
	a := b.actions[i]
	if a.Status != from || to == remediation.Executing && b.held(a) {
		return b, answer{Err: remediation.ErrInvalidTransition.Error(), ID: a.ID, From: a.Status, To: to}
	}
	a.Status = to
	fill(&a)
	b.actions = slices.Clone(b.actions)
	b.actions[i] = a
	return b, answer{Actions: []remediation.Action{a}}
}

func (b book) failOverdue(c call, now time.Time) (book, answer) {
	before := now.Add(-c.OlderThan).Truncate(time.Microsecond)
	b.actions = slices.Clone(b.actions)
	var failed []remediation.Action
	for i, a := range b.actions {
		if a.Status != remediation.Executing || !latest(a).Before(before) || c.passesOver(a) || len(failed) == c.Limit {
			continue
		}
		a.Status, a.CompletedAt, a.Stderr = remediation.Failed, &now, new("no result came within "+c.OlderThan.String())
		b.actions[i] = a
		failed = append(failed, a)
	}
	return b, answer{Actions: failed}
}

// find is where an action is, or would be.
func (b book) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(b.actions, id, func(a remediation.Action, id int64) int { return cmp.Compare(a.ID, id) })
}

// held reports whether maintenance keeps an approved action from running.
func (b book) held(a remediation.Action) bool {
	return b.servers[a.ServerID].paused && *a.ApprovedBy == remediation.AutoApprover
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
