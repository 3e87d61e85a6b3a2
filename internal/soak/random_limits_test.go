package soak

import (
	"time"

	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random steps about limits, keys, heartbeats and requests to cancel.

// addLimits sets each limit of an action with a probability of one third.
func (s *sequence) addLimits(t *rapid.T, a *remediation.NewAction) {
	if rapid.IntRange(0, 2).Draw(t, "not before") == 0 {
		a.NotBefore = new(s.now.Add(pick(t, "due in", []time.Duration{
			-time.Hour, 0, time.Nanosecond, time.Second, 10 * time.Minute})))
	}
	if rapid.IntRange(0, 2).Draw(t, "expires") == 0 {
		a.ExpiresAt = new(s.now.Add(pick(t, "expires in", []time.Duration{
			-time.Second, time.Nanosecond, time.Microsecond, time.Second, 10 * time.Minute, time.Hour, 24 * time.Hour})))
	}
	if rapid.IntRange(0, 2).Draw(t, "runtime") == 0 {
		a.MaxRuntimeSeconds = new(pick(t, "seconds", []int64{1, 600, 3600, 1<<31 - 1}))
	}
}

// createAgain retries a Create with the same idempotency key, sometimes with different content.
func (s *sequence) createAgain(t *rapid.T) {
	if len(s.withKey) == 0 {
		t.Skip("no action with an idempotency key yet")
	}
	a := pick(t, "request", s.withKey)
	switch rapid.IntRange(0, 19).Draw(t, "changed") {
	case 0:
		a.Command += " # changed"
	case 1:
		a.ServerID = pick(t, "server", servers)
	case 2:
		a.CreatedBy = pick(t, "creator", people)
	case 3:
		a.ServiceName = pickOptional(t, "service", keys)
	case 4:
		a.DedupeKey = pickOptional(t, "key", keys)
	case 5:
		a.AlertID = nil
	case 6:
		a.AlertID = new(s.alert(t))
	case 7:
		a.NotBefore = nil
	case 8:
		a.ExpiresAt = nil
	case 9:
		s.addLimits(t, &a)
	}
	s.do(t, call{Method: "Create", New: a})
}

// createMany creates more actions that are not yet due, or about to expire, than Claim checks one by one.
func (s *sequence) createMany(t *rapid.T) {
	if len(s.modelState.actions) > 30 {
		t.Skip("there are many actions already")
	}
	a := remediation.NewAction{ServerID: pick(t, "server", servers[:2]), ActionType: types[0],
		Command: "true", CreatedBy: "ann"}
	if rapid.Bool().Draw(t, "expire") {
		a.ExpiresAt = new(s.now.Add(time.Minute))
	} else {
		a.NotBefore = new(s.now.Add(time.Minute))
	}
	for range 40 {
		s.do(t, call{Method: "Create", New: a})
	}
	if rapid.Bool().Draw(t, "a minute later") {
		s.now = s.now.Add(time.Minute)
	}
	s.claim(t)
}

func (s *sequence) expire(t *rapid.T) {
	s.do(t, call{Method: "Expire", Limit: rapid.IntRange(0, 3).Draw(t, "limit")})
}

func (s *sequence) heartbeat(t *rapid.T) {
	c := call{Method: "Heartbeat", ID: s.id(t, remediation.Executing), Server: pick(t, "server", servers)}
	if i, ok := s.modelState.find(c.ID); ok && rapid.IntRange(0, 4).Draw(t, "own") > 0 {
		c.Server = s.modelState.actions[i].ServerID
	}
	if rapid.Bool().Draw(t, "whole second") {
		s.now = s.now.Truncate(time.Second).Add(time.Second)
	}
	s.do(t, c)
}

func (s *sequence) requestCancel(t *rapid.T) {
	s.do(t, call{Method: "RequestCancel", ID: s.id(t, remediation.Executing),
		By: pick(t, "by", people), Reason: pick(t, "reason", texts)})
}

// reachLimit sets the clock to the moment at which a limit takes effect, or a microsecond later, and makes a call.
func (s *sequence) reachLimit(t *rapid.T) {
	times := s.limitTimes()
	if len(times) == 0 {
		t.Skip("no limit in the future")
	}
	s.now = pick(t, "moment", times)
	s.explain(t)
	pick(t, "then", []func(*rapid.T){s.expire, s.approve, s.approveMany, s.start, s.claim, s.failOverdue})(t)
}

// limitTimes returns the future times at which a limit of an open action takes effect, and a microsecond after each.
func (s *sequence) limitTimes() (list []time.Time) {
	add := func(at time.Time) {
		for _, t := range []time.Time{at, at.Add(time.Microsecond)} {
			if t.After(s.now) {
				list = append(list, t)
			}
		}
	}
	for _, a := range s.modelState.actions {
		if a.Status.Terminal() {
			continue
		}
		if a.NotBefore != nil {
			add(*a.NotBefore)
		}
		if a.ExpiresAt != nil {
			add(*a.ExpiresAt)
		}
		if a.MaxRuntimeSeconds != nil && a.ExecutedAt != nil && *a.MaxRuntimeSeconds < 1e6 {
			add(latest(a).Add(time.Duration(*a.MaxRuntimeSeconds) * time.Second))
		}
	}
	return list
}

// withRequiredFields sets the required fields of an action to valid values.
func withRequiredFields(a remediation.NewAction) remediation.NewAction {
	a.ServerID, a.ActionType, a.Command, a.CreatedBy = servers[0], types[0], "true", "ann"
	return a
}
