package conformance

import (
	"fmt"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of a server's settings: reading them, and forbidding self-approval.

func (l *ledger) mustForbidSelfApproval(t *testing.T, serverID string, forbid bool) {
	t.Helper()
	if err := l.ForbidSelfApproval(t.Context(), serverID, forbid); err != nil {
		t.Fatal(err)
	}
}

func (l *ledger) TestSelfApprovalIsRefusedWhereItIsForbidden(t *testing.T) {
	l.mustForbidSelfApproval(t, paused, true)
	for range 2 {
		own, others := l.mustCreate(t, newAction(paused)), l.mustCreate(t, newAction(paused))
		last := l.lastEvent(t)
		_, err := l.Approve(t.Context(), own.ID, "ann")
		refusedFor(t, err, own.ID, approve, remediation.ReasonSelfApproval)
		outcomes, err := l.ApproveMany(t.Context(), []int64{own.ID, 4711}, "ann")
		if err != nil {
			t.Fatal(err)
		}
		refusedFor(t, outcomes[0].Err, own.ID, approve, remediation.ReasonSelfApproval)
		wantError(t, "ApproveMany of an unknown action", outcomes[1].Err, remediation.ErrNotFound)
		same(t, "the row", l.mustGet(t, own.ID), own)
		same(t, "events", len(l.mustEvents(t, last)), 0)
		l.mustStep(t, own, approve) // as bob
		outcomes, err = l.ApproveMany(t.Context(), []int64{others.ID}, "bob")
		if err != nil || outcomes[0].Err != nil {
			t.Fatal(err, outcomes)
		}
		// The setting does not refuse new actions, and the setting of one server does not affect another.
		l.mustForbidSelfApproval(t, normal, true)
		l.mustPause(t, normal)
		onNormal := l.mustCreate(t, newAction(normal))
		l.mustForbidSelfApproval(t, normal, false)
		if _, err := l.Approve(t.Context(), onNormal.ID, "ann"); err != nil {
			t.Error(err)
		}
		l.mustForbidSelfApproval(t, paused, true) // repeating the call changes nothing
	}
	rejected := l.mustCreate(t, newAction(paused))
	if _, err := l.Reject(t.Context(), rejected.ID, "ann", "my mistake"); err != nil {
		t.Errorf("Reject by the creator: %v", err)
	}
}

func (l *ledger) TestForbidSelfApprovalKeepsEarlierApprovals(t *testing.T) {
	decided, err := l.Approve(t.Context(), l.mustCreate(t, newAction(paused)).ID, "ann")
	if err != nil {
		t.Fatal(err)
	}
	pending := l.mustCreate(t, newAction(paused))
	l.mustForbidSelfApproval(t, paused, true)
	same(t, "the earlier approval", l.mustGet(t, decided.ID), decided)
	for _, s := range []step{start, complete} {
		decided = l.mustStep(t, decided, s)
	}
	_, err = l.Approve(t.Context(), pending.ID, "ann")
	refusedFor(t, err, pending.ID, approve, remediation.ReasonSelfApproval)
	l.mustForbidSelfApproval(t, paused, false)
	if _, err := l.Approve(t.Context(), pending.ID, "ann"); err != nil {
		t.Error(err)
	}
}

func (l *ledger) TestForbidSelfApprovalAllowsAutomaticApproval(t *testing.T) {
	l.mustForbidSelfApproval(t, normal, true)
	a := l.mustCreate(t, newAction(normal))
	same(t, "status", a.Status, remediation.Approved)
	same(t, "claimed", l.mustClaim(t, normal).ID, a.ID)
}

func (l *ledger) TestDatabaseRefusesForbiddenSelfApproval(t *testing.T) {
	l.mustForbidSelfApproval(t, paused, true)
	approvedBy := func(name string) string {
		return "status = 'approved', approved_by = " + quote(name) + ", approved_at = " + literal(at(1))
	}
	pending := l.mustCreate(t, newAction(paused))
	l.wontUpdate(t, pending, approvedBy("ann"))
	for _, status := range remediation.Statuses() {
		a := example(status)
		a.ServerID = paused
		r := rowOf(a)
		if a.ApprovedBy == nil {
			continue
		}
		r["approved_by"] = "'ann'"
		if _, err := l.insert(t, r); err == nil {
			t.Errorf("a %s row approved by its creator was accepted", status)
		}
		r["server_id"] = quote(normal)
		if _, err := l.insert(t, r); err != nil {
			t.Errorf("a %s row approved by its creator, on a server that allows it: %v", status, err)
		}
	}
	if err := l.update(t, pending.ID, approvedBy("bob")); err != nil {
		t.Error(err)
	}
	for _, value := range []string{"NULL", "2"} {
		query := "UPDATE remediation_servers SET forbids_self_approval = " + value
		if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
			t.Errorf("forbids_self_approval = %s was accepted", value)
		}
	}
}

func (l *ledger) TestServersAreListedInPages(t *testing.T) {
	want := []string{paused}
	for i := range 60 {
		id := fmt.Sprintf("host-%02d", i)
		want = append(want, id)
		if err := l.AddServer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	want = append(want, normal)
	for limit, size := range map[int]int{1: 1, 7: 7, 0: 50, 1000: 1000} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := l.Servers(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page {
				got = append(got, s.ID)
			}
			if len(page) == 0 {
				break
			}
			same(t, "the size of a page", len(page), min(size, len(want)-len(got)+len(page)))
		}
		same(t, "servers", got, want)
	}
	for _, limit := range []int{-1, 1001} {
		_, err := l.Servers(t.Context(), "", limit)
		badInput(t, err, "limit")
	}
	_, err := l.Servers(t.Context(), "a\x00", 0)
	badInput(t, err, "after")
}

func (l *ledger) TestServerReturnsItsModeAndSettings(t *testing.T) {
	want := map[string]remediation.Server{
		normal: {ID: normal},
		paused: {ID: paused, Paused: true, PausedAt: new(at(0))},
	}
	check := func() {
		t.Helper()
		list, err := l.Servers(t.Context(), "", 0)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "Servers", list, []remediation.Server{want[paused], want[normal]})
		for _, s := range list {
			got, err := l.Server(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Server", got, s)
		}
	}
	check()
	l.clock.tick()
	l.mustForbidSelfApproval(t, normal, true)
	l.mustPause(t, normal)
	l.mustUnpause(t, paused)
	want[normal] = remediation.Server{ID: normal, Paused: true, PausedAt: new(at(1)), ForbidsSelfApproval: true}
	want[paused] = remediation.Server{ID: paused}
	check()
	l.mustForbidSelfApproval(t, normal, false)
	l.mustUnpause(t, normal)
	want[normal] = remediation.Server{ID: normal}
	check()
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(normal))
	same(t, "settings of a deleted server", l.count(t, "remediation_servers WHERE server_id = "+quote(normal)), 0)
}

func (l *ledger) TestUnknownServerHasNoSettings(t *testing.T) {
	_, err := l.Server(t.Context(), "nowhere")
	wantError(t, "Server", err, remediation.ErrServerNotFound)
	wantError(t, "ForbidSelfApproval", l.ForbidSelfApproval(t.Context(), "nowhere", true), remediation.ErrServerNotFound)
	same(t, "settings", l.count(t, "remediation_servers"), 0)
	_, err = l.Server(t.Context(), "")
	badInput(t, err, "server_id")
	badInput(t, l.ForbidSelfApproval(t.Context(), "", true), "server_id")
}
