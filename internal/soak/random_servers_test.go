package soak

import (
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file has the random steps about servers.

func (s *sequence) forbidSelfApproval(t *rapid.T) {
	s.do(t, call{Method: "ForbidSelfApproval", Server: pick(t, "server", servers), Forbid: rapid.Bool().Draw(t, "forbid")})
}

func (s *sequence) readServers(t *rapid.T) {
	id := pick(t, "server", servers)
	got, err := s.ledger.Server(s.ctx, id)
	if _, ok := s.modelState.servers[id]; !ok {
		if got := answerOf(err); got.Err != remediation.ErrServerNotFound.Error() {
			t.Fatalf("Server(%s): %v", id, err)
		}
	} else if diff := cmp.Diff(s.modelState.server(id), got); diff != "" || err != nil {
		t.Fatalf("Server(%s): %v (-model +ledger):\n%s", id, err, diff)
	}

	after, limit := pick(t, "after", []string{"", "a", "db-1", "web-1", "web-2"}), rapid.IntRange(0, 2).Draw(t, "limit")
	page, err := s.ledger.Servers(s.ctx, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var want []remediation.Server
	for _, id := range slices.Sorted(maps.Keys(s.modelState.servers)) {
		if id > after && (limit == 0 || len(want) < limit) {
			want = append(want, s.modelState.server(id))
		}
	}
	if diff := cmp.Diff(want, page, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("Servers(%q, %d) (-model +ledger):\n%s", after, limit, diff)
	}
}

// server is Ledger.Server in the model.
func (m modelState) server(id string) remediation.Server {
	mode := m.servers[id]
	s := remediation.Server{ID: id, Paused: mode.paused, ForbidsSelfApproval: mode.forbids}
	if mode.paused {
		s.PausedAt = &mode.since
	}
	return s
}
