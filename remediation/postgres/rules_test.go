package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// A program in another language can tell from the fields of PostgreSQL's error which rule refused its statement.
func TestErrorOfRawSQLNamesTheRule(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	all := walk(t, ledger, "web-1")
	other := must[int64](t)(ledger.AddAlert(t.Context(), "web-1", "another"))
	at := map[remediation.Status]int64{}
	for _, a := range all {
		at[a.Status] = a.ID
	}

	for name, c := range map[string]struct {
		rule string
		sql  string
		args []any
	}{
		"a transition that skips a status": {"remediation_actions_transition",
			`UPDATE remediation_actions SET status = 'failed', completed_at = created_at WHERE id = $1`,
			[]any{at[remediation.Pending]}},
		"a terminal status written again": {"remediation_actions_transition",
			`UPDATE remediation_actions SET status = 'completed' WHERE id = $1`, []any{at[remediation.Completed]}},
		"approval without an approver": {"remediation_actions_consistent",
			`UPDATE remediation_actions SET status = 'approved' WHERE id = $1`, []any{at[remediation.Pending]}},
		"a result without an execution": {"remediation_actions_consistent",
			`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, approved_at, approved_by,
				completed_at, exit_code)
			VALUES ('web-1', 'restart_service', 'completed', 'true', now(), 'eve', now(), 'eve', now(), 0)`, nil},
		"an unknown status": {"remediation_actions_consistent",
			`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
			VALUES ('web-1', 'restart_service', 'paused', 'true', now(), 'eve')`, nil},
		"another command after the approval": {"remediation_actions_immutable",
			`UPDATE remediation_actions SET command = 'rm -rf /' WHERE id = $1`, []any{at[remediation.Approved]}},
		"another id": {"remediation_actions_immutable",
			`UPDATE remediation_actions SET id = 4711 WHERE id = $1`, []any{at[remediation.Completed]}},
		"another approver": {"remediation_actions_immutable_audit",
			`UPDATE remediation_actions SET approved_by = 'eve' WHERE id = $1`, []any{at[remediation.Approved]}},
		"an output after the result": {"remediation_actions_immutable_audit",
			`UPDATE remediation_actions SET stdout = 'fine' WHERE id = $1`, []any{at[remediation.Failed]}},
		"an alert removed": {"remediation_actions_immutable_alert",
			`UPDATE remediation_actions SET alert_id = NULL WHERE id = $1`, []any{at[remediation.Completed]}},
		"an alert replaced": {"remediation_actions_immutable_alert",
			`UPDATE remediation_actions SET alert_id = $2 WHERE id = $1`, []any{at[remediation.Completed], other}},
		"an infinite pause": {"servers_types", `UPDATE servers SET paused_at = 'infinity'`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Exec(t.Context(), c.sql, c.args...)
			got := (*pgconn.PgError)(nil)
			if !errors.As(err, &got) {
				t.Fatalf("error is %v, want an error of the server", err)
			}
			want := &pgconn.PgError{
				Code: "23514", SchemaName: "public", TableName: "remediation_actions", ConstraintName: c.rule, Message: got.Message,
			}
			if c.rule == "servers_types" {
				want.TableName = "servers"
			}
			shown := cmpopts.IgnoreFields(pgconn.PgError{}, "Severity", "SeverityUnlocalized", "Where", "File", "Line", "Routine")
			if diff := cmp.Diff(want, got, shown); diff != "" {
				t.Errorf("the server's error (-want +got):\n%s", diff)
			}
		})
	}
	readBack(t, ledger, all)
}

// PostgreSQL has infinite times, and Go does not. If an agent's role could write one, pages with that row could not be
// read any more.
func TestInfiniteTimeIsRefused(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	all := walk(t, ledger, "web-1")
	for _, time := range []string{"infinity", "-infinity"} {
		for _, sql := range []string{
			`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
				VALUES ('web-1', 'restart_service', 'pending', 'true', $1, 'eve')`,
			"UPDATE remediation_actions SET status = 'approved', approved_at = $1, approved_by = 'eve' WHERE status = 'pending'",
			`UPDATE remediation_actions SET status = 'rejected', rejected_at = $1, rejected_by = 'eve', rejection_reason = 'no'
				WHERE status = 'pending'`,
			"UPDATE remediation_actions SET status = 'executing', executed_at = $1 WHERE status = 'approved'",
			"UPDATE remediation_actions SET status = 'failed', completed_at = $1 WHERE status = 'executing'",
		} {
			if _, err := pool.Exec(t.Context(), strings.ReplaceAll(sql, "$1", "'"+time+"'")); sqlState(err) != "23514" {
				t.Errorf("%s with %s: %v, want check_violation", sql, time, err)
			}
		}
	}
	readBack(t, ledger, all)
}

// A trigger of the host program may skip a row, and PostgreSQL reports no error.
func TestCreateThatATriggerSkipsFails(t *testing.T) {
	t.Parallel()
	pool, ledger, _ := newFeed(t)
	run(t, pool, `CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.command <> 'skipped' THEN RETURN NEW; END IF; RETURN NULL; END $$;
		CREATE TRIGGER mine BEFORE INSERT ON remediation_actions FOR EACH ROW EXECUTE FUNCTION mine()`)
	for command, fails := range map[string]bool{"skipped": true, "kept": false} {
		a := newAction("web-1")
		a.Command = command
		created, err := ledger.Create(t.Context(), a)
		if (err != nil) != fails || (created.ID == 0) != fails {
			t.Errorf("Create of the action to be %s: %+v, %v", command, created, err)
		}
	}
}

// A row that predates the rules may have an infinite time. It stays unchanged and blocks no other row.
func TestOldRowWithAnInfiniteTimeBlocksNoOtherRow(t *testing.T) {
	t.Parallel()
	pool, ledger, _ := newFeed(t)
	run(t, pool, `UPDATE servers SET is_paused = TRUE; INSERT INTO servers (id) VALUES ('web-2');
		ALTER TABLE remediation_actions DISABLE TRIGGER USER`)
	for _, infinite := range []string{"infinity", "-infinity"} {
		run(t, pool, strings.ReplaceAll(`INSERT INTO remediation_actions (server_id, action_type, command, created_by, status,
				created_at, approved_at, executed_at, approved_by) VALUES
			('web-1', 'reboot', 'reboot', 'ann', 'pending', 'INFINITE', NULL, NULL, NULL),
			('web-1', 'reboot', 'reboot', 'ann', 'approved', 'INFINITE', now(), NULL, 'bob'),
			('web-1', 'reboot', 'reboot', 'ann', 'approved', now(), 'INFINITE', NULL, 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', 'INFINITE', now(), now(), 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', now(), 'INFINITE', now(), 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', now(), now(), 'INFINITE', 'bob')`, "INFINITE", infinite))
	}
	run(t, pool, "ALTER TABLE remediation_actions ENABLE TRIGGER USER")
	const statuses = "SELECT id || ' ' || status FROM remediation_actions WHERE id <= 12 ORDER BY id"
	before := column[string](t, pool, statuses)

	good := []int64{create(t, ledger).ID, create(t, ledger).ID}
	approved := must[[]remediation.Outcome](t)(ledger.ApproveMany(t.Context(), []int64{1, good[0]}, "bob"))
	rejected := must[[]remediation.Outcome](t)(ledger.RejectMany(t.Context(), []int64{1, good[1]}, "bob", "no"))
	for _, outcomes := range [][]remediation.Outcome{approved, rejected} {
		if outcomes[0].Err == nil || outcomes[1].Err != nil {
			t.Errorf("outcomes are %+v, want an error only for the row with an infinite time", outcomes)
		}
	}
	same(t, "the reason", must[remediation.Explanation](t)(ledger.Explain(t.Context(), good[0])).Reason, remediation.ReasonUnclaimed)
	same(t, "claimed", must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")).ID, good[0])
	if a, err := ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("the second Claim: action %d, %v; want ErrNothingToClaim", a.ID, err)
	}
	late := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return time.Now().AddDate(1, 0, 0) }))
	closed := must[[]remediation.Action](t)(late.FailOverdue(t.Context(), time.Hour, 100))
	if len(closed) != 1 || closed[0].ID != good[0] {
		t.Errorf("FailOverdue closed %v, want %d", closed, good[0])
	}
	same(t, "statuses of the rows with infinite times", column[string](t, pool, statuses), before)
}

// A login can put a schema of its own before pg_catalog in its search path. The rules must not use the operators and
// functions that it defines there.
func TestRulesDoNotUseOperatorsOfTheCaller(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	walk(t, ledger, "web-1")
	conn := connect(t, pool.Config().ConnString())
	run(t, conn, `CREATE SCHEMA mine;
		CREATE FUNCTION mine.no(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT FALSE';
		CREATE FUNCTION mine.no(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT FALSE';
		CREATE OPERATOR mine.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.no);
		CREATE OPERATOR mine.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = mine.no);
		CREATE FUNCTION mine.num_nonnulls(VARIADIC "any") RETURNS integer LANGUAGE internal AS 'pg_num_nulls';
		CREATE FUNCTION mine.has_table_privilege(regclass, text) RETURNS boolean LANGUAGE sql AS 'SELECT TRUE';
		SET search_path = mine, pg_catalog, public`)
	before := contentsOf(t, pool)
	for name, statement := range map[string]string{
		"a transition that skips the approval": "UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE status = 'pending'",
		"a new action with an exit code": `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, exit_code)
			VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann', 0)`,
		"a new action that has expired": `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, expires_at)
			VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann', '2020-01-01')`,
	} {
		if _, err := conn.Exec(t.Context(), statement); sqlState(err) != "23514" {
			t.Errorf("%s: %v, want a check_violation", name, err)
		}
	}
	same(t, "rows", contentsOf(t, pool), before)
}
