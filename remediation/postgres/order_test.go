package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// newHeap returns a ledger whose queries read rows in the order in which they are stored, because they can't use an
// index.
func newHeap(t *testing.T) (*pgxpool.Pool, *remediation.Ledger) {
	t.Helper()
	url := pgtest.URL(t)
	for _, path := range []string{"indexscan", "indexonlyscan", "bitmapscan"} {
		url = with(t, url, "enable_"+path, "off")
	}
	pool := pgtest.Pool(t, url)
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	return pool, ledger
}

// fill adds three actions of a status, which are stored in the reverse order of their ids. It returns the ids in
// ascending order.
func fill(t *testing.T, pool *pgxpool.Pool, status string) []int64 {
	t.Helper()
	ids := column[int64](t, pool, `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at,
			created_by, approved_at, approved_by, executed_at, completed_at, exit_code, stdout)
		SELECT 'web-1', 'reboot', $1::text, 'reboot', $2::timestamptz, 'ann',
			CASE WHEN $1 <> 'pending' THEN $2::timestamptz END, CASE WHEN $1 <> 'pending' THEN 'bob' END,
			CASE WHEN $1 IN ('executing', 'completed') THEN $2::timestamptz END,
			CASE WHEN $1 = 'completed' THEN $2::timestamptz END, CASE WHEN $1 = 'completed' THEN 0 END,
			CASE WHEN $1 = 'completed' THEN 'done' END
		FROM generate_series(1, 3) RETURNING id`, status, now)
	for _, id := range []int64{ids[2], ids[1], ids[0]} {
		run(t, pool, "UPDATE remediation_actions SET command = command WHERE id = $1", id)
	}
	same(t, "the order in which the rows are stored", column[int64](t, pool, "SELECT id FROM remediation_actions WHERE id = ANY($1)", ids),
		[]int64{ids[2], ids[1], ids[0]})
	return ids
}

// The order of rows must come from the query, not from the order in which they are stored or from the plan.
func TestOrderIsThatOfTheIDs(t *testing.T) {
	t.Parallel()
	pool, ledger := newHeap(t)
	approved := fill(t, pool, "approved")
	if e := must[remediation.Explanation](t)(ledger.Explain(t.Context(), approved[2])); e.Behind != approved[0] {
		t.Errorf("Explain: behind %d, want %d: %s", e.Behind, approved[0], e)
	}
	for _, id := range approved[:2] {
		same(t, "claimed", must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")).ID, id)
	}

	executing := fill(t, pool, "executing")
	run(t, pool, "UPDATE remediation_actions SET command = command WHERE id = $1", approved[0])
	if e := must[remediation.Explanation](t)(ledger.Explain(t.Context(), approved[2])); e.Behind != approved[0] {
		t.Errorf("Explain: behind %d, want %d: %s", e.Behind, approved[0], e)
	}
	run(t, pool, "DELETE FROM remediation_actions WHERE id = ANY($1)", approved)
	late := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return now.Add(2 * time.Hour) }))
	for _, id := range executing {
		closed := must[[]remediation.Action](t)(late.FailOverdue(t.Context(), time.Hour, 1))
		if len(closed) != 1 || closed[0].ID != id {
			t.Errorf("FailOverdue closed %v, want %d", closed, id)
		}
	}
	run(t, pool, "DELETE FROM remediation_actions")

	completed := fill(t, pool, "completed")
	for i := range completed {
		same(t, "cleared", must[int64](t)(ledger.ClearOutput(t.Context(), now.Add(time.Hour), 1)), int64(1))
		same(t, "actions without an output", column[int64](t, pool,
			"SELECT id FROM remediation_actions WHERE stdout IS NULL ORDER BY id"), completed[:i+1])
	}
	run(t, pool, "DELETE FROM remediation_actions")
	completed = fill(t, pool, "completed")
	for i := range completed {
		same(t, "deleted", must[int64](t)(ledger.Prune(t.Context(), now.Add(time.Hour), 1)), int64(1))
		same(t, "actions left", column[int64](t, pool, "SELECT id FROM remediation_actions ORDER BY id"), completed[i+1:])
	}

	run(t, pool, "DELETE FROM remediation_events")
	run(t, pool, "ALTER TABLE remediation_events DISABLE TRIGGER USER")
	run(t, pool, `INSERT INTO remediation_events (id, action_id, server_id, kind, occurred_at)
		SELECT i, i, 'web-1', 'created', now() FROM generate_series(3000, 1000, -1000) AS i`)
	var ids []int64
	for _, e := range must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 10)) {
		ids = append(ids, e.ID)
	}
	same(t, "events", ids, []int64{1000, 2000, 3000})
}
