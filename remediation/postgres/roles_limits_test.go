package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// ledger returns a ledger on a login's pool, and the pool. The ledger's clock is later than now by after.
func (r *roles) ledger(t *testing.T, role string, after time.Duration) (*remediation.Ledger, *pgxpool.Pool) {
	t.Helper()
	pool := r.pool(t, role)
	clock := remediation.WithClock(func() time.Time { return now.Add(after) })
	return remediation.New(postgres.New(pool), clock), pool
}

// limited returns an action that expires in an hour and may run for a minute.
func limited() remediation.NewAction {
	a := newAction("web-1")
	a.ExpiresAt, a.MaxRuntimeSeconds = new(now.Add(time.Hour)), new(int64(60))
	return a
}

func TestRolesCancelAndExpireActions(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	hub, _ := r.ledger(t, "ledger_hub", 0)
	agent, agentPool := r.ledger(t, "ledger_agent", time.Second)
	reader, _ := r.ledger(t, "ledger_reader", time.Second)
	do := must[remediation.Action](t)
	if err := hub.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := hub.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	for _, forbid := range []bool{true, false, true} {
		if err := hub.ForbidSelfApproval(t.Context(), "web-1", forbid); err != nil {
			t.Fatal(err)
		}
		server := remediation.Server{ID: "web-1", Paused: true, PausedAt: &now, ForbidsSelfApproval: forbid}
		same(t, "Server", must[remediation.Server](t)(reader.Server(t.Context(), "web-1")), server)
		same(t, "Servers", must[[]remediation.Server](t)(reader.Servers(t.Context(), "", 0)), []remediation.Server{server})
	}

	a := limited()
	a.IdempotencyKey = new("request 4711")
	cancelled := do(hub.Create(t.Context(), a))
	same(t, "a repeated Create", do(hub.Create(t.Context(), a)), cancelled)
	if _, err := hub.Approve(t.Context(), cancelled.ID, a.CreatedBy); err == nil {
		t.Error("the creator of the action can approve it")
	}
	do(hub.Approve(t.Context(), cancelled.ID, "bob"))
	do(agent.Claim(t.Context(), "web-1"))
	do(hub.RequestCancel(t.Context(), cancelled.ID, "bob", "the wrong server"))
	seen := do(agent.Heartbeat(t.Context(), "web-1", cancelled.ID))
	same(t, "who requested the cancellation", seen.CancelRequestedBy, new("bob"))
	do(agent.Finish(t.Context(), "web-1", cancelled.ID, remediation.Result{ExitCode: -1}))

	expiring := do(hub.Create(t.Context(), limited()))
	do(hub.Approve(t.Context(), expiring.ID, "bob"))
	late, _ := r.ledger(t, "ledger_hub", time.Hour)
	expired := must[[]remediation.Action](t)(late.Expire(t.Context(), 0))
	same(t, "expired", []int64{expired[0].ID}, []int64{expiring.ID})

	before := contentsOf(t, r.owner)
	for _, statement := range []string{
		"UPDATE remediation_actions SET status = 'approved' WHERE rejected_by = 'auto'",
		"UPDATE remediation_actions SET status = 'executing', executed_at = '2026-11-23 13:30+00' WHERE rejected_by = 'auto'",
		"UPDATE remediation_actions SET heartbeat_at = '2026-11-23 13:30+00' WHERE status = 'failed'",
	} {
		if _, err := agentPool.Exec(t.Context(), statement); sqlState(err) != "23514" {
			t.Errorf("the agent runs %s: %v, want it refused by a rule", statement, err)
		}
	}
	same(t, "rows", contentsOf(t, r.owner), before)
	var kinds []remediation.EventKind
	for _, e := range must[[]remediation.Event](t)(reader.History(t.Context(), cancelled.ID)) {
		kinds = append(kinds, e.Kind)
	}
	same(t, "the kinds of events that the reader sees", kinds, []remediation.EventKind{"created", "approved", "executing", "cancel_requested", "failed"})
}

// The README says what an agent can do with false times, and what ends its action in spite of them.
func TestAgentRoleCanWriteFalseTimes(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	hub, _ := r.ledger(t, "ledger_hub", 0)
	late, _ := r.ledger(t, "ledger_hub", time.Hour+time.Minute)
	agent := r.pool(t, "ledger_agent")
	do := must[remediation.Action](t)
	if err := hub.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	overdue := func(at *remediation.Ledger) (ids []int64) {
		t.Helper()
		for _, a := range must[[]remediation.Action](t)(at.FailOverdue(t.Context(), time.Second, 0)) {
			ids = append(ids, a.ID)
		}
		return ids
	}

	expired, early, unlimited := limited(), newAction("web-1"), newAction("web-1")
	early.NotBefore, early.ExpiresAt, early.MaxRuntimeSeconds = new(now.Add(30*time.Minute)), expired.ExpiresAt, expired.MaxRuntimeSeconds
	ids := []int64{}
	for _, a := range []remediation.NewAction{expired, early, unlimited} {
		ids = append(ids, do(hub.Create(t.Context(), a)).ID)
	}
	last := expired.ExpiresAt.Add(-time.Microsecond) // the latest start that the rules allow
	for i, at := range []time.Time{last, last, now.AddDate(1000, 0, 0)} {
		run(t, agent, "UPDATE remediation_actions SET status = 'executing', executed_at = $1 WHERE id = $2", at, ids[i])
	}
	run(t, agent, "UPDATE remediation_actions SET heartbeat_at = $1", now.AddDate(1000, 0, 0))
	same(t, "overdue before the end of ExpiresAt and MaxRuntimeSeconds", overdue(hub), []int64(nil))
	same(t, "overdue at that time", overdue(late), ids[:2])
	same(t, "status of the action without limits", do(hub.Get(t.Context(), ids[2])).Status, remediation.Executing)
	do(hub.Finish(t.Context(), "web-1", ids[2], remediation.Result{ExitCode: -1}))
}
