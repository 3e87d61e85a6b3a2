package soak

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random steps that change the ledger. They use few values, so that calls often concern the same
// action.

var (
	servers = []string{"web-1", "web-2", "db-1"} // the first two are added when a sequence begins
	people  = []string{"ann", "bob", "Zoë"}
	types   = []string{"restart_service", "apt_upgrade"}
	texts   = []string{"systemctl restart nginx", "echo 'it''s'; rm -f \"$x\"",
		"naïve ✓\n\ttwo lines", "'); DROP TABLE servers; --"}
	outputs = []string{"", "active (running)", "\x00\x00", "not \xff\xfe UTF-8", "✓\r\n"}
	keys    = []string{"nginx", "apt"}
)

// pick draws one of the values.
func pick[T any](t *rapid.T, what string, of []T) T { return rapid.SampledFrom(of).Draw(t, what) }

// pickOptional draws one of the values, or nil half of the time.
func pickOptional[T any](t *rapid.T, what string, of []T) *T {
	if len(of) == 0 || rapid.Bool().Draw(t, "no "+what) {
		return nil
	}
	return new(pick(t, what, of))
}

// id draws the ID of an action, usually of one with the status. Sometimes the action was deleted or does not exist yet.
func (s *sequence) id(t *rapid.T, status remediation.Status) int64 {
	chance := rapid.IntRange(0, 9).Draw(t, "which")
	var ids []int64
	for _, a := range s.modelState.actions {
		if chance < 6 && a.Status == status || chance == 6 || chance == 7 {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) > 0 {
		return pick(t, "id", ids)
	}
	return rapid.Int64Range(0, s.maxID+2).Draw(t, "any id")
}

// alert draws the ID of an alert, usually of one that exists.
func (s *sequence) alert(t *rapid.T) int64 {
	if len(s.modelState.alerts) > 0 && rapid.IntRange(0, 9).Draw(t, "alert exists") < 9 {
		return pick(t, "alert", slices.Sorted(maps.Keys(s.modelState.alerts)))
	}
	return rapid.Int64Range(1, 9).Draw(t, "alert id")
}

func (s *sequence) addServer(t *rapid.T) {
	s.do(t, call{Method: "AddServer", Server: pick(t, "server", servers)})
}

func (s *sequence) pause(t *rapid.T) {
	s.do(t, call{Method: "Pause", Server: pick(t, "server", servers)})
}

func (s *sequence) unpause(t *rapid.T) {
	s.do(t, call{Method: "Unpause", Server: pick(t, "server", servers)})
}

func (s *sequence) create(t *rapid.T) {
	a := remediation.NewAction{
		ServerID:    pick(t, "server", slices.Concat(servers, servers[:2], servers[:2])),
		ActionType:  pick(t, "type", types),
		Command:     pick(t, "command", texts),
		CreatedBy:   pick(t, "creator", people),
		ServiceName: pickOptional(t, "service", keys),
		DedupeKey:   pickOptional(t, "key", keys),
	}
	s.addLimits(t, &a)
	if rapid.Bool().Draw(t, "idempotent") {
		a.IdempotencyKey = new(fmt.Sprint("key ", rapid.IntRange(1, 50).Draw(t, "idempotency key")))
	}
	if rapid.IntRange(0, 6).Draw(t, "with alert") == 0 {
		a.AlertID = new(s.alert(t))
	}
	s.do(t, call{Method: "Create", New: a})
}

func (s *sequence) approve(t *rapid.T) {
	c := call{Method: "Approve", ID: s.id(t, remediation.Pending), By: pick(t, "by", people)}
	if i, ok := s.modelState.find(c.ID); ok && rapid.IntRange(0, 2).Draw(t, "own") == 0 {
		c.By = s.modelState.actions[i].CreatedBy
	}
	s.do(t, c)
}

func (s *sequence) reject(t *rapid.T) {
	s.do(t, call{Method: "Reject", ID: s.id(t, remediation.Pending),
		By: pick(t, "by", people), Reason: pick(t, "reason", texts)})
}

func (s *sequence) withdraw(t *rapid.T) {
	s.do(t, call{Method: "Withdraw", ID: s.id(t, remediation.Approved),
		By: pick(t, "by", people), Reason: pick(t, "reason", texts)})
}

func (s *sequence) claim(t *rapid.T) {
	s.do(t, call{Method: "Claim", Server: pick(t, "server", slices.Concat(servers, servers[:2], servers[:2]))})
}

func (s *sequence) start(t *rapid.T) {
	s.do(t, call{Method: "Start", ID: s.id(t, remediation.Approved)})
}

func (s *sequence) get(t *rapid.T) { s.do(t, call{Method: "Get", ID: s.id(t, remediation.Completed)}) }

func (s *sequence) finish(t *rapid.T) {
	c := call{Method: "Finish", ID: s.id(t, remediation.Executing), Server: pick(t, "server", servers)}
	if i, ok := s.modelState.find(c.ID); ok && rapid.IntRange(0, 4).Draw(t, "own") > 0 {
		c.Server = s.modelState.actions[i].ServerID
	}
	c.Result = remediation.Result{
		ExitCode: rapid.SampledFrom([]int64{0, 0, 1, -1, 137, 1 << 40}).Draw(t, "exit code"),
		Stdout:   pick(t, "stdout", outputs), Stderr: pick(t, "stderr", outputs),
	}
	s.do(t, c)
}

func (s *sequence) failOverdue(t *rapid.T) {
	ages := []time.Duration{time.Nanosecond, time.Microsecond, time.Second, 10 * time.Minute, time.Hour, 100 * time.Hour}
	s.do(t, call{Method: "FailOverdue", OlderThan: pick(t, "age", ages), Limit: rapid.IntRange(0, 3).Draw(t, "limit")})
}

// badInput makes a call with invalid input. The ledger refuses it, whether or not the action exists.
func (s *sequence) badInput(t *rapid.T) {
	id := s.id(t, remediation.Pending)
	c := pick(t, "input", []call{
		{Method: "AddServer", Server: " "},
		{Method: "Create", New: remediation.NewAction{ServerID: servers[0], ActionType: "x", Command: "a\x00b", CreatedBy: "ann"}},
		{Method: "Create", New: remediation.NewAction{ServerID: servers[0], ActionType: "x", Command: "true", CreatedBy: "auto"}},
		{Method: "Create", New: withRequiredFields(remediation.NewAction{IdempotencyKey: new("")})},
		{Method: "Create", New: withRequiredFields(remediation.NewAction{MaxRuntimeSeconds: new(int64(0))})},
		{Method: "Create", New: withRequiredFields(remediation.NewAction{MaxRuntimeSeconds: new(int64(1 << 31))})},
		{Method: "Create", New: withRequiredFields(remediation.NewAction{ExpiresAt: new(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))})},
		{Method: "Create", New: withRequiredFields(remediation.NewAction{NotBefore: &s.now, ExpiresAt: &s.now})},
		{Method: "Approve", ID: id, By: "AUTO"},
		{Method: "Approve", ID: id, By: "\xff"},
		{Method: "Approve", ID: id, By: "ann\u200b"},
		{Method: "Reject", ID: id, By: "ann"},
		{Method: "Withdraw", ID: id, Reason: "nobody said so"},
		{Method: "Claim"},
		{Method: "Claim", Server: servers[0] + "\n"},
		{Method: "Finish", ID: id},
		{Method: "FailOverdue", OlderThan: 0, Limit: 1},
		{Method: "FailOverdue", OlderThan: time.Second, Limit: -1},
		{Method: "Expire", Limit: -1},
		{Method: "Heartbeat", ID: id},
		{Method: "RequestCancel", ID: id, By: "Auto", Reason: "it hangs"},
		{Method: "RequestCancel", ID: id, By: "ann"},
		{Method: "ForbidSelfApproval", Forbid: true},
	})
	if got := c.make(s.ctx, s.ledger); got.Err != remediation.ErrInvalidInput.Error() {
		t.Fatalf("%s: %+v", c, got)
	}
}

func (s *sequence) addAlert(t *rapid.T) {
	server := pick(t, "server", servers)
	id, err := s.ledger.AddAlert(s.ctx, server, pick(t, "title", texts))
	if _, ok := s.modelState.servers[server]; !ok {
		if got := answerOf(err); got.Err != remediation.ErrServerNotFound.Error() {
			t.Fatalf("AddAlert for a server that does not exist: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s.modelState.alerts = maps.Clone(s.modelState.alerts)
	if s.modelState.alerts == nil {
		s.modelState.alerts = map[int64]string{}
	}
	s.modelState.alerts[id] = server
}

// tick advances the clock, sometimes to a whole second, because SQLite stores such times without a fraction.
func (s *sequence) tick(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "whole second") == 0 {
		s.now = s.now.Truncate(time.Second).Add(time.Second)
		return
	}
	s.now = s.now.Add(pick(t, "passed", []time.Duration{
		time.Nanosecond, time.Microsecond, time.Second, 10 * time.Minute, time.Hour, 24 * time.Hour}))
}

func (s *sequence) setBack(*rapid.T) { s.now = s.now.Add(-time.Hour) }
