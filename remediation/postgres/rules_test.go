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

// A program in another language tells the rules apart by what PostgreSQL reports beside the message.
func TestRefusalOfRawSQLNamesTheRule(t *testing.T) {
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
		"a step that leaves one out": {"remediation_actions_transition",
			`UPDATE remediation_actions SET status = 'failed', completed_at = created_at WHERE id = $1`,
			[]any{at[remediation.Pending]}},
		"a terminal status written again": {"remediation_actions_transition",
			`UPDATE remediation_actions SET status = 'completed' WHERE id = $1`, []any{at[remediation.Completed]}},
		"approval by nobody": {"remediation_actions_consistent",
			`UPDATE remediation_actions SET status = 'approved' WHERE id = $1`, []any{at[remediation.Pending]}},
		"a result without an execution": {"remediation_actions_consistent",
			`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, approved_at, approved_by,
				completed_at, exit_code)
			VALUES ('web-1', 'restart_service', 'completed', 'true', now(), 'eve', now(), 'eve', now(), 0)`, nil},
		"no such status": {"remediation_actions_consistent",
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
		"an alert forgotten": {"remediation_actions_immutable_alert",
			`UPDATE remediation_actions SET alert_id = NULL WHERE id = $1`, []any{at[remediation.Completed]}},
		"an alert exchanged": {"remediation_actions_immutable_alert",
			`UPDATE remediation_actions SET alert_id = $2 WHERE id = $1`, []any{at[remediation.Completed], other}},
		"an infinite pause": {"servers_types", `UPDATE servers SET paused_at = 'infinity'`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Exec(t.Context(), c.sql, c.args...)
			got := (*pgconn.PgError)(nil)
			if !errors.As(err, &got) {
				t.Fatalf("error is %v, want a refusal by the server", err)
			}
			want := &pgconn.PgError{
				Code: "23514", SchemaName: "public", TableName: "remediation_actions", ConstraintName: c.rule, Message: got.Message,
			}
			if c.rule == "servers_types" {
				want.TableName = "servers"
			}
			shown := cmpopts.IgnoreFields(pgconn.PgError{}, "Severity", "SeverityUnlocalized", "Where", "File", "Line", "Routine")
			if diff := cmp.Diff(want, got, shown); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
	readBack(t, ledger, all)
}

// PostgreSQL has times that Go has not. One of them in one row, which an agent's role could write, and no page that holds
// the row can be read any more.
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

// A trigger of the host program's own may skip a row, and nothing says so.
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
			t.Errorf("Create of the one to be %s: %+v, %v", command, created, err)
		}
	}
}

// A row from before the rules may hold one: it stays as it is, and stops no others.
func TestOldRowWithAnInfiniteTimeStopsNoOther(t *testing.T) {
	t.Parallel()
	pool, ledger, _ := newFeed(t)
	run(t, pool, `UPDATE servers SET is_paused = TRUE; INSERT INTO servers (id) VALUES ('web-2');
		ALTER TABLE remediation_actions DISABLE TRIGGER USER`)
	for _, odd := range []string{"infinity", "-infinity"} {
		run(t, pool, strings.ReplaceAll(`INSERT INTO remediation_actions (server_id, action_type, command, created_by, status,
				created_at, approved_at, executed_at, approved_by) VALUES
			('web-1', 'reboot', 'reboot', 'ann', 'pending', 'ODD', NULL, NULL, NULL),
			('web-1', 'reboot', 'reboot', 'ann', 'approved', 'ODD', now(), NULL, 'bob'),
			('web-1', 'reboot', 'reboot', 'ann', 'approved', now(), 'ODD', NULL, 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', 'ODD', now(), now(), 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', now(), 'ODD', now(), 'bob'),
			('web-2', 'reboot', 'reboot', 'ann', 'executing', now(), now(), 'ODD', 'bob')`, "ODD", odd))
	}
	run(t, pool, "ALTER TABLE remediation_actions ENABLE TRIGGER USER")
	const statuses = "SELECT id || ' ' || status FROM remediation_actions WHERE id <= 12 ORDER BY id"
	before := column[string](t, pool, statuses)

	good := []int64{create(t, ledger).ID, create(t, ledger).ID}
	approved := must[[]remediation.Outcome](t)(ledger.ApproveMany(t.Context(), []int64{1, good[0]}, "bob"))
	rejected := must[[]remediation.Outcome](t)(ledger.RejectMany(t.Context(), []int64{1, good[1]}, "bob", "no"))
	for _, outcomes := range [][]remediation.Outcome{approved, rejected} {
		if outcomes[0].Err == nil || outcomes[1].Err != nil {
			t.Errorf("a decision beside an odd row: %+v", outcomes)
		}
	}
	same(t, "the reason", must[remediation.Explanation](t)(ledger.Explain(t.Context(), good[0])).Reason, remediation.ReasonUnclaimed)
	same(t, "claimed", must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")).ID, good[0])
	if a, err := ledger.Claim(t.Context(), "web-1"); !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("claimed %d, %v", a.ID, err)
	}
	late := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return time.Now().AddDate(1, 0, 0) }))
	closed := must[[]remediation.Action](t)(late.FailOverdue(t.Context(), time.Hour, 100))
	if len(closed) != 1 || closed[0].ID != good[0] {
		t.Errorf("closed %v, want %d", closed, good[0])
	}
	same(t, "the odd rows", column[string](t, pool, statuses), before)
}

// A login may put a schema of its own before pg_catalog. What it defines there must not stand in for what the rules use.
func TestOperatorsOfTheCallersOwnDoNotStandInForThoseOfTheRules(t *testing.T) {
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
		"a step that skips the approval": "UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE status = 'pending'",
		"a creation out of nothing": `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, exit_code)
			VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann', 0)`,
		"a creation that has expired": `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, expires_at)
			VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann', '2020-01-01')`,
	} {
		if _, err := conn.Exec(t.Context(), statement); sqlState(err) != "23514" {
			t.Errorf("%s: %v, want a check_violation", name, err)
		}
	}
	same(t, "rows", contentsOf(t, pool), before)
}
