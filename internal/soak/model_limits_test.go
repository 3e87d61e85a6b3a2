package soak

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file is the part of the model that applies limits and sweeps.

// blockedBy returns the reason why an action can't change to a status that the lifecycle allows, or "".
func (m modelState) blockedBy(a remediation.Action, to remediation.Status, by string, now time.Time) remediation.Reason {
	server := m.servers[a.ServerID]
	approves := to == remediation.Approved
	starts := a.Status == remediation.Approved && to == remediation.Executing
	switch {
	case (approves || starts) && expired(a, now):
		return remediation.ReasonExpired
	case approves && server.forbids && by == a.CreatedBy:
		return remediation.ReasonSelfApproval
	case starts && a.NotBefore != nil && now.Before(*a.NotBefore):
		return remediation.ReasonNotYetDue
	case starts && server.paused && *a.ApprovedBy == remediation.AutoApprover:
		return remediation.ReasonMaintenance
	}
	return ""
}

// claimable reports whether Claim may take an action.
func (m modelState) claimable(a remediation.Action, now time.Time) bool {
	return a.Status == remediation.Approved && m.blockedBy(a, remediation.Executing, "", now) == ""
}

// expired reports whether an action has expired at now.
func expired(a remediation.Action, now time.Time) bool {
	return a.ExpiresAt != nil && !now.Before(*a.ExpiresAt)
}

// failOverdue is FailOverdue in the model.
func (m modelState) failOverdue(c call, now time.Time) (modelState, answer) {
	before := now.Add(-c.OlderThan).Truncate(time.Microsecond)
	m.actions = slices.Clone(m.actions)
	var failed []remediation.Action
	for i, a := range m.actions {
		started := latest(a)
		alive := started
		if a.HeartbeatAt != nil && a.HeartbeatAt.After(alive) {
			alive = *a.HeartbeatAt
		}
		reason := ""
		if alive.Before(before) {
			reason = "no result came within " + c.OlderThan.String()
		} else if n := a.MaxRuntimeSeconds; n != nil && started.Add(time.Duration(*n)*time.Second).Before(now) {
			reason = fmt.Sprintf("no result came within its %d seconds", *n)
		}
		if a.Status != remediation.Executing || reason == "" || c.skips(a) || len(failed) == cmp.Or(c.Limit, 50) {
			continue
		}
		a.Status, a.CompletedAt, a.Stderr = remediation.Failed, &now, &reason
		m.actions[i] = a
		failed = append(failed, a)
	}
	return m, answer{Actions: failed}
}

// expire is Expire in the model. It rejects the actions that expired first, and returns them in the order of their IDs.
func (m modelState) expire(c call, now time.Time) (modelState, answer) {
	m.actions = slices.Clone(m.actions)
	var due []int
	for i, a := range m.actions {
		open := a.Status == remediation.Pending || a.Status == remediation.Approved
		if open && expired(a, now) && !c.skips(a) {
			due = append(due, i)
		}
	}
	slices.SortStableFunc(due, func(i, j int) int { return m.actions[i].ExpiresAt.Compare(*m.actions[j].ExpiresAt) })
	due = due[:min(len(due), cmp.Or(c.Limit, 50))]
	slices.Sort(due)
	var settled []remediation.Action
	for _, i := range due {
		a := &m.actions[i]
		a.Status, a.RejectedAt, a.RejectedBy = remediation.Rejected, &now, new(remediation.AutoApprover)
		a.RejectionReason = new("expired at " + a.ExpiresAt.Format(time.DateTime) + " UTC")
		settled = append(settled, *a)
	}
	return m, answer{Actions: settled}
}
