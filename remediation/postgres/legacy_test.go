package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// legacyRows are rows that older programs may have written at version 4, before there were rules: one in every status,
// and some that the rules refuse, such as a result without approval.
const legacyRows = `
	INSERT INTO servers (id, is_paused, paused_at) VALUES ('old-1', FALSE, NULL), ('old-2', TRUE, '2026-01-18 08:00:00+00');
	INSERT INTO alerts (id, server_id, title) VALUES (7, 'old-1', 'nginx does not answer'), (8, 'old-2', 'Festplatte überfüllt');
	INSERT INTO remediation_actions (id, server_id, action_type, status, service_name, command, created_at, created_by,
		alert_id, approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code, stdout, stderr)
	SELECT id, 'old-1', 'restart_service', status, 'nginx', 'echo ''é☃'' ' || id, at, 'dashboard', 7,
		CASE WHEN how LIKE '%a%' THEN at END, CASE WHEN how LIKE '%a%' THEN 'auto' END,
		CASE WHEN how LIKE '%r%' THEN at END, CASE WHEN how LIKE '%r%' THEN 'alice' END, CASE WHEN how LIKE '%r%' THEN '' END,
		CASE WHEN how LIKE '%x%' THEN at END, CASE WHEN how LIKE '%c%' THEN at END, code, CASE WHEN how LIKE '%c%' THEN 'out' END, NULL
	FROM (VALUES
		(101, 'pending', '', NULL), (102, 'approved', 'a', NULL), (103, 'rejected', 'r', NULL), (104, 'executing', 'ax', NULL),
		(105, 'completed', 'axc', 0), (106, 'failed', 'axc', 3),
		(111, 'pending', 'a', NULL), (112, 'approved', '', NULL), (113, 'rejected', '', NULL), (114, 'executing', '', NULL),
		(115, 'executing', 'x', NULL), (116, 'completed', 'xc', 1), (117, 'completed', '', NULL), (118, 'failed', 'c', 0),
		(119, 'failed', '', NULL), (120, 'failed', 'rxc', -1), (121, 'cancelled', '', NULL), (122, '', '', NULL)
	) AS rows (id, status, how, code), (VALUES (TIMESTAMPTZ '2026-01-19 15:36:01.617957+00')) AS times (at);
	SELECT setval(pg_get_serial_sequence('remediation_actions', 'id'), 200), setval(pg_get_serial_sequence('alerts', 'id'), 8);`

// newLegacy returns a migrated ledger with legacyRows.
func newLegacy(t *testing.T) (*pgxpool.Pool, *remediation.Ledger) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	upTo(t, pool, 4)
	run(t, pool, legacyRows)
	before := contentsOf(t, pool)
	migrate(t, pool)
	same(t, "rows after Migrate", contentsOf(t, pool).within(before), before)
	return pool, newLedger(postgres.New(pool))
}

func TestLegacyRowsAreUnchangedAndReadable(t *testing.T) {
	t.Parallel()
	pool, ledger := newLegacy(t)
	listed := must[[]remediation.Action](t)(ledger.List(t.Context(), remediation.Filter{}))
	var ids []int64
	for _, a := range listed {
		ids = append(ids, a.ID)
		got := must[remediation.Action](t)(ledger.Get(t.Context(), a.ID))
		got.Stdout, got.Stderr = nil, nil
		same(t, "Get compared with List", got, a)
	}
	same(t, "ids in List", ids, column[int64](t, pool, "SELECT id FROM remediation_actions ORDER BY id DESC"))

	at := time.Date(2026, 1, 19, 15, 36, 1, 617957000, time.UTC)
	want := remediation.Action{
		ID: 118, ServerID: "old-1", ActionType: "restart_service", Status: remediation.Failed, ServiceName: new("nginx"),
		Command: "echo 'é☃' 118", CreatedAt: at, CreatedBy: "dashboard", AlertID: new(int64(7)), CompletedAt: &at,
		ExitCode: new(int64(0)), Stdout: new("out"),
	}
	same(t, "a failed action that nobody approved", must[remediation.Action](t)(ledger.Get(t.Context(), want.ID)), want)
	walk(t, ledger, "web-1")
}

func TestAlertOfLegacyRowsCanBeDeleted(t *testing.T) {
	t.Parallel()
	pool, _ := newLegacy(t)
	want := contentsOf(t, pool)
	for _, a := range want["remediation_actions"] {
		a["alert_id"] = nil
	}
	want["alerts"] = want["alerts"][1:]
	run(t, pool, "DELETE FROM alerts WHERE id = 7")
	same(t, "rows after the alert was deleted", contentsOf(t, pool), want)
}

// A row that predates the rules may violate them, but a change of it may not.
func TestChangeOfALegacyRowMustFollowTheRules(t *testing.T) {
	t.Parallel()
	pool, _ := newLegacy(t)
	before := contentsOf(t, pool)
	for id, changes := range map[int64][]string{
		111: {"status = 'approved', executed_at = now()", "approved_at = NULL, approved_by = NULL", "status = 'pending'"},
		112: {"status = 'executing', executed_at = now()", "approved_at = now(), approved_by = 'eve'", "approved_by = 'eve'"},
		113: {"rejected_by = 'eve'", "status = 'rejected'", "rejection_reason = 'because'"},
		114: {"executed_at = now()", "status = 'completed', executed_at = now(), completed_at = now(), exit_code = 0"},
		115: {"status = 'failed', completed_at = now(), approved_by = 'eve'", "approved_at = now(), approved_by = 'eve'"},
		116: {"exit_code = 0", "stderr = 'no such unit'", "status = 'failed'", "approved_by = 'eve'"},
		118: {"exit_code = 1", "approved_at = now(), approved_by = 'eve'", "completed_at = NULL"},
		119: {"completed_at = now()", "stdout = 'x'", "status = 'failed', completed_at = now()"},
		121: {"status = 'pending'", "status = 'rejected', rejected_at = now(), rejected_by = 'eve', rejection_reason = 'no'"},
		122: {"status = 'approved', approved_at = now(), approved_by = 'eve'", "command = 'true'", "alert_id = 8"},
	} {
		for _, change := range changes {
			if _, err := pool.Exec(t.Context(), fmt.Sprintf("UPDATE remediation_actions SET %s WHERE id = %d", change, id)); sqlState(err) != "23514" {
				t.Errorf("SET %s of action %d: %v, want check_violation", change, id, err)
			}
		}
	}
	same(t, "rows after the refusals", contentsOf(t, pool), before)
}

func TestLegacyRowsContinueTheLifecycle(t *testing.T) {
	t.Parallel()
	_, ledger := newLegacy(t)
	do := must[remediation.Action](t)
	ctx := t.Context()
	for name, c := range map[string]struct {
		got  remediation.Action
		want remediation.Status
	}{
		"Approve":                      {do(ledger.Approve(ctx, 101, "bob")), remediation.Approved},
		"Claim":                        {do(ledger.Claim(ctx, "old-1")), remediation.Executing},
		"Finish":                       {do(ledger.Finish(ctx, "old-1", 104, remediation.Result{})), remediation.Completed},
		"Withdraw without an approver": {do(ledger.Withdraw(ctx, 112, "bob", "who asked for this?")), remediation.Rejected},
	} {
		same(t, name, c.got.Status, c.want)
	}
	_, err := ledger.Finish(ctx, "old-1", 106, remediation.Result{})
	same(t, "whether Finish of a failed action is refused", errors.Is(err, remediation.ErrInvalidTransition), true)
}

// Version 2 has no column for the approver, so an upgrade from it has approved rows without one.
func TestLegacyRowWithoutAnApproverDoesNotBlockItsServer(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	upTo(t, pool, 2)
	run(t, pool, `INSERT INTO servers (id) VALUES ('web-1');
		INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
		VALUES ('web-1', 'restart_service', 'approved', 'true', now(), 'dashboard')`)
	migrate(t, pool)
	ledger := newLedger(postgres.New(pool))
	created := must[remediation.Action](t)(ledger.Create(t.Context(), newAction("web-1")))
	claimed, err := ledger.Claim(t.Context(), "web-1")
	if err != nil || claimed.ID != created.ID {
		t.Errorf("Claim: action %d, %v; want %d, because the older action has no approver", claimed.ID, err, created.ID)
	}
	if _, err := ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("the second Claim: %v, want ErrNothingToClaim", err)
	}
}

// PostgreSQL has times that many programs can't read. A row that predates the rules may have one. It blocks no other
// row, and it can still end unless the time is infinite, which pgx can't read.
func TestUnusualTimesOfLegacyRowsBlockNoOtherRow(t *testing.T) {
	t.Parallel()
	for _, unusual := range []string{"0044-03-15 00:00:00+00 BC", "12000-01-01 00:00:00+00", "infinity", "-infinity"} {
		pool := pgtest.Pool(t, pgtest.EmptyURL(t))
		upTo(t, pool, 4)
		const fine = "'2026-01-19 15:36:01+00'"
		run(t, pool, `INSERT INTO servers (id) VALUES ('old-1'), ('old-2')`)
		row := func(id int, server, status, created, approved, by, executed, rejected string) {
			run(t, pool, fmt.Sprintf(`INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by,
				approved_at, approved_by, executed_at, rejected_at) VALUES (%d, '%s', 'x', '%s', 'x', %s, 'ann', %s, %s, %s, %s)`,
				id, server, status, created, approved, by, executed, rejected))
		}
		unusual := "'" + unusual + "'"
		row(1, "old-1", "approved", unusual, fine, "'bob'", "NULL", "NULL")
		row(2, "old-1", "approved", fine, unusual, "'bob'", "NULL", "NULL")
		row(3, "old-1", "approved", fine, fine, "'bob'", "NULL", "NULL")
		row(4, "old-2", "executing", unusual, fine, "'bob'", fine, "NULL")
		row(5, "old-2", "executing", fine, fine, "'bob'", fine, "NULL")
		row(6, "old-2", "pending", unusual, "NULL", "NULL", "NULL", "NULL")
		row(7, "old-2", "pending", fine, "NULL", "NULL", "NULL", unusual)
		row(8, "old-2", "pending", fine, "NULL", "NULL", "NULL", "NULL")
		row(9, "old-2", "pending", unusual, "NULL", "NULL", "NULL", "NULL")
		run(t, pool, "SELECT setval(pg_get_serial_sequence('remediation_actions', 'id'), 200)")
		migrate(t, pool)
		ledger := newLedger(postgres.New(pool))
		var claimed []int64
		for {
			a, err := ledger.Claim(t.Context(), "old-1")
			if errors.Is(err, remediation.ErrNothingToClaim) {
				break
			}
			if err != nil {
				t.Fatalf("with %s: %v", unusual, err)
			}
			claimed = append(claimed, a.ID)
		}
		infinite := unusual == "'infinity'" || unusual == "'-infinity'"
		if want := map[bool]int{true: 1, false: 3}[infinite]; len(claimed) != want || claimed[len(claimed)-1] != 3 {
			t.Errorf("with %s: claimed %v, want %d actions and action 3 last", unusual, claimed, want)
		}
		outcomes := must[[]remediation.Outcome](t)(ledger.ApproveMany(t.Context(), []int64{9, 8}, "alice"))
		if outcomes[1].Err != nil || (outcomes[0].Err != nil) != infinite {
			t.Errorf("with %s: %+v", unusual, outcomes)
		}
		must[[]remediation.Outcome](t)(ledger.RejectMany(t.Context(), []int64{6, 7}, "alice", "no"))
		sweeper := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return now.AddDate(1, 0, 0) }))
		must[[]remediation.Action](t)(sweeper.FailOverdue(t.Context(), time.Hour, 100))
		same(t, "status of the action without an unusual time, with "+unusual, must[remediation.Action](t)(ledger.Get(t.Context(), 5)).Status, remediation.Failed)
		if _, err := ledger.List(t.Context(), remediation.Filter{}); err != nil {
			t.Errorf("with %s: %v", unusual, err)
		}
		for _, id := range []int64{4, 6, 7} {
			status := one[string](t, pool, "SELECT status FROM remediation_actions WHERE id = $1", id)
			if ended := status == "failed" || status == "rejected"; ended == infinite && !(id == 4 && unusual == "'12000-01-01 00:00:00+00'") {
				t.Errorf("with %s: action %d is %s, want it ended: %t", unusual, id, status, !infinite)
			}
		}
	}
}
