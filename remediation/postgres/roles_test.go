package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// denied is the SQLSTATE of a statement that needs a right which the role does not have.
const denied = "42501" // insufficient_privilege

// roles is a database with the roles and grants of the README.
type roles struct {
	url   string
	owner *pgx.Conn
	// name returns this test's name for a role of the README, because roles belong to the whole server.
	name func(role string) string
}

// newRoles runs the README's statements with this test's names for the roles, and creates a login for each role.
func newRoles(t *testing.T) *roles {
	t.Helper()
	r := &roles{url: pgtest.URL(t)}
	r.owner = connect(t, r.url)
	suffix := "_" + one[string](t, r.owner, "SELECT current_database()::text")
	ledgerRole := regexp.MustCompile(`\bledger_\w+`)
	r.name = func(role string) string { return role + suffix }
	grants := rolesInReadme(t)
	created := map[string]bool{}
	for _, role := range ledgerRole.FindAllString(grants, -1) {
		created[r.name(role)], created[r.login(role)] = true, true
	}
	t.Cleanup(func() {
		for role := range created {
			if _, err := r.owner.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
				t.Errorf("drop the role: %v", err)
			}
		}
	})
	run(t, r.owner, ledgerRole.ReplaceAllStringFunc(grants, r.name))
	for role := range maps.Keys(created) {
		if login, found := strings.CutSuffix(role, "_login"); found {
			run(t, r.owner, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret' IN ROLE "+login)
		}
	}
	return r
}

// login returns the name of the login that is a member of a role of the README.
func (r *roles) login(role string) string { return r.name(role) + "_login" }

// rolesInReadme returns the sql block of the README's section about roles.
func rolesInReadme(t *testing.T) string {
	t.Helper()
	text := must[[]byte](t)(os.ReadFile("README.md"))
	block := regexp.MustCompile("(?m)^#+ .*Roles.*\n(?:[^#].*\n|\n)*?```sql\n((?:.*\n)*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal(`README.md has no section about "Roles" with a sql block`)
	}
	return string(block[1])
}

// pool returns a pool of a role's login.
func (r *roles) pool(t *testing.T, role string) *pgxpool.Pool {
	t.Helper()
	at := must[*url.URL](t)(url.Parse(r.url))
	at.User = url.UserPassword(r.login(role), "secret")
	return pgtest.Pool(t, at.String())
}

// wantDenied expects permission denied for every method of the ledger that is not in allowed, and for every one of
// statements. It expects each statement in refusals to fail with the SQLSTATE there, because the role has the right but
// a rule refuses the change. Nothing may change.
func (r *roles) wantDenied(t *testing.T, role string, allowed []string, statements []string, refusals map[string]string) {
	t.Helper()
	pool := r.pool(t, role)
	schema, rows := schemaOf(t, r.owner), contentsOf(t, r.owner)
	version := stateOf(t, r.owner)
	methods := calls(newLedger(postgres.New(pool)))
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		if slices.Contains(allowed, name) {
			continue
		}
		if err := methods[name](t.Context()); sqlState(err) != denied {
			t.Errorf("%s calls %s: %v, want permission denied", role, name, err)
		}
	}
	expected := maps.Clone(refusals)
	for _, statement := range statements {
		expected[statement] = denied
	}
	for _, statement := range slices.Sorted(maps.Keys(expected)) {
		tx := begin(t, pool)
		_, err := tx.Exec(t.Context(), statement)
		if sqlState(err) != expected[statement] {
			t.Errorf("%s runs %s: %v, want SQLSTATE %s", role, statement, err, expected[statement])
		}
		if err == nil {
			if err := tx.Commit(t.Context()); err != nil { // so that the comparison below finds the change
				t.Errorf("commit %s: %v", statement, err)
			}
		}
		tx.Rollback(t.Context())
	}
	same(t, "schema", schemaOf(t, r.owner), schema)
	same(t, "rows", contentsOf(t, r.owner), rows)
	same(t, "version", stateOf(t, r.owner), version)
}

// ownerOnly are statements that only the owner of the tables may run.
var ownerOnly = []string{
	"DROP TABLE remediation_actions",
	"DROP TRIGGER remediation_actions_transition ON remediation_actions",
	"DROP TRIGGER remediation_actions_limits_update ON remediation_actions",
	"DROP TRIGGER remediation_actions_self_approval_update ON remediation_actions",
	"DROP FUNCTION remediation_actions_refuse() CASCADE",
	"CREATE OR REPLACE FUNCTION remediation_actions_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
	"CREATE OR REPLACE FUNCTION remediation_actions_keep_alert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
	"CREATE TRIGGER a BEFORE UPDATE ON remediation_actions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
	"CREATE RULE a AS ON INSERT TO remediation_actions DO INSTEAD NOTHING",
	"CREATE INDEX a ON remediation_actions (command)",
	"ALTER TABLE remediation_actions DISABLE TRIGGER USER",
	"ALTER TABLE remediation_actions DISABLE TRIGGER remediation_actions_transition",
	"ALTER TABLE remediation_actions ADD COLUMN note TEXT",
	"ALTER TABLE servers DROP COLUMN is_paused",
	"SET session_replication_role = 'replica'",
	"TRUNCATE remediation_actions",
	"DELETE FROM remediation_events",
	"UPDATE remediation_events SET actor = 'eve'",
	"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'approved', now())",
	"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'approved', 'infinity')",
	"TRUNCATE remediation_events",
	"SELECT * FROM remediation_events_gone",
	"INSERT INTO remediation_events_gone VALUES (1, 1)",
	"UPDATE remediation_events_gone SET feed_position = 1",
	"DELETE FROM remediation_events_gone",
	"UPDATE remediation_events SET feed_position = 1",
	"CREATE OR REPLACE FUNCTION remediation_events_position(xid8) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint'",
	"DELETE FROM alerts",
	"DELETE FROM servers",
	"DELETE FROM remediation_servers",
	"TRUNCATE remediation_servers",
	"ALTER TABLE remediation_servers ADD COLUMN note TEXT",
	"TRUNCATE servers CASCADE",
	"INSERT INTO schema_migrations VALUES (999, FALSE)",
	"UPDATE schema_migrations SET dirty = TRUE",
	"DELETE FROM schema_migrations",
	"SELECT setval('remediation_actions_id_seq', 1, FALSE)",
	"SELECT nextval('remediation_actions_id_seq')",
	"ALTER TABLE remediation_events DISABLE TRIGGER USER",
	"ALTER TABLE remediation_actions OWNER TO CURRENT_USER",
	"ALTER FUNCTION remediation_actions_refuse() RENAME TO a",
	"CREATE FUNCTION a() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
	"CREATE TABLE a (id INT)",
	"CREATE SCHEMA a",
	"LOCK TABLE remediation_events IN ACCESS EXCLUSIVE MODE",
	"COPY remediation_events FROM '/dev/null'",
	"COPY remediation_actions TO PROGRAM 'cat'",
	"SET ROLE postgres",
}

// readMethods are the methods that every role of the README may call.
var readMethods = []string{"Get", "List", "Counts", "Explain", "Events", "Follow", "History", "Servers", "Server"}

// hubOnly are statements that the hub's role may run, if the rules allow them, and the other roles may not.
var hubOnly = []string{
	"DELETE FROM remediation_actions",
	"INSERT INTO servers (id) VALUES ('web-2')",
	"INSERT INTO alerts (server_id, title) VALUES ('web-1', 'down')",
	`INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, approved_at, approved_by)
		VALUES ('web-1', 'restart_service', 'approved', 'rm -rf /', now(), 'eve', now(), 'auto')`,
	"UPDATE remediation_actions SET status = 'approved', approved_at = now(), approved_by = 'eve' WHERE status = 'pending'",
	"UPDATE remediation_actions SET status = 'rejected', rejected_at = now(), rejected_by = 'eve', rejection_reason = 'no'",
	"UPDATE servers SET is_paused = TRUE, paused_at = now()",
	"UPDATE servers SET is_paused = FALSE",
	"UPDATE servers SET id = 'web-2'",
	"UPDATE alerts SET title = 'up'",
	"UPDATE alerts SET server_id = 'web-2'",
	"INSERT INTO servers (id) VALUES ('web-1') ON CONFLICT (id) DO UPDATE SET is_paused = FALSE",
	"INSERT INTO remediation_servers (server_id, forbids_self_approval) VALUES ('web-1', FALSE)",
	"UPDATE remediation_servers SET forbids_self_approval = FALSE",
	"UPDATE remediation_servers SET server_id = 'web-2'",
	"UPDATE remediation_actions SET cancel_requested_at = now(), cancel_requested_by = 'eve', cancel_reason = 'no'",
}

func TestHubRoleDoesTheLifecycleAndChangesNoSchema(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	walk(t, newLedger(postgres.New(r.pool(t, "ledger_hub"))), "web-1")
	hub := newLedger(postgres.New(r.pool(t, "ledger_hub")))
	if events, err := hub.Events(t.Context(), 0, 1000); err != nil || len(events) == 0 {
		t.Errorf("the hub reads %d events: %v", len(events), err)
	}
	if _, err := hub.ClearOutput(t.Context(), now, 1); err != nil {
		t.Errorf("the hub clears outputs: %v", err)
	}
	if _, err := hub.Prune(t.Context(), now, 1); err != nil {
		t.Errorf("the hub prunes: %v", err)
	}
	if err := postgres.Migrate(t.Context(), r.pool(t, "ledger_hub")); err != nil {
		t.Errorf("the hub calls Migrate with nothing to do: %v", err)
	}
	everything := slices.Collect(maps.Keys(calls(nil)))
	r.wantDenied(t, "ledger_hub", everything, ownerOnly, map[string]string{
		"UPDATE remediation_actions SET command = 'rm -rf /'":                 "23514",
		"UPDATE remediation_actions SET approved_by = 'eve', stdout = 'fine'": "23514",
	})
}

func TestAgentRoleExecutesAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	hub, agent := newLedger(postgres.New(r.pool(t, "ledger_hub"))), newLedger(postgres.New(r.pool(t, "ledger_agent")))
	readBack(t, agent, walk(t, hub, "web-1"))
	do := must[remediation.Action](t)
	claimed := do(agent.Claim(t.Context(), "web-1"))
	do(agent.Finish(t.Context(), "web-1", claimed.ID, remediation.Result{Stdout: "up"}))
	started := do(agent.Start(t.Context(), do(hub.Create(t.Context(), newAction("web-1"))).ID))
	do(agent.Finish(t.Context(), "web-1", started.ID, remediation.Result{ExitCode: 1}))
	same(t, "what the hub reads", do(hub.Get(t.Context(), started.ID)).Status, remediation.Failed)

	do(hub.Create(t.Context(), newAction("web-1"))) // approved; there is an action in every other status too
	forbidden := slices.Concat(ownerOnly, hubOnly)
	for column, value := range map[string]string{
		"id": "id + 1000", "server_id": "'web-2'", "action_type": "'x'", "service_name": "'x'", "command": "'rm -rf /'",
		"created_at": "now()", "created_by": "'eve'", "alert_id": "NULL", "approved_at": "now()", "approved_by": "'eve'",
		"rejected_at": "now()", "rejected_by": "'eve'", "rejection_reason": "'no'", "dedupe_key": "'x'", "idempotency_key": "'x'",
		"not_before": "NULL", "expires_at": "expires_at + INTERVAL '1 hour'", "max_runtime_seconds": "NULL",
		"cancel_requested_at": "now()", "cancel_requested_by": "'eve'", "cancel_reason": "'no'",
	} {
		forbidden = append(forbidden, fmt.Sprintf("UPDATE remediation_actions SET %s = %s", column, value))
	}
	// ClearOutput is allowed here because it finds nothing to clear at this time. Below it finds something and is
	// refused.
	allowed := append([]string{"Claim", "Start", "Heartbeat", "Finish", "FailOverdue", "ClearOutput"}, readMethods...)
	r.wantDenied(t, "ledger_agent", allowed, forbidden, map[string]string{
		"UPDATE remediation_actions SET status = 'approved' WHERE status = 'pending'":                       "23514",
		"UPDATE remediation_actions SET status = 'rejected' WHERE status = 'approved'":                      "23514",
		"UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE status = 'pending'": "23514",
		"UPDATE remediation_actions SET status = 'pending'":                                                 "23514",
		"UPDATE remediation_actions SET stdout = 'fine'":                                                    "23514",
		"UPDATE remediation_actions SET stdout = NULL, stderr = NULL":                                       "23514",
		"UPDATE remediation_actions SET exit_code = 0":                                                      "23514",
		"UPDATE remediation_actions SET completed_at = now()":                                               "23514",
	})
	if _, err := agent.ClearOutput(t.Context(), now.AddDate(1, 0, 0), 1000); sqlState(err) != "23514" {
		t.Errorf("the agent clears outputs: %v", err)
	}
	calls := calls(agent)
	for _, name := range append([]string{"FailOverdue"}, readMethods...) {
		if err := calls[name](t.Context()); err != nil {
			t.Errorf("the agent calls %s: %v", name, err)
		}
	}
}

// In a session's search path its temporary tables come before the schema's tables. The triggers do not use that path.
func TestTemporaryTableOfTheAgentHidesNoEvents(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	hub := newLedger(postgres.New(r.pool(t, "ledger_hub")))
	if err := hub.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	id := must[remediation.Action](t)(hub.Create(t.Context(), newAction("web-1"))).ID
	at := must[*url.URL](t)(url.Parse(r.url))
	at.User = url.UserPassword(r.login("ledger_agent"), "secret")
	conn := connect(t, at.String())
	run(t, conn, "CREATE TEMPORARY TABLE remediation_events (LIKE public.remediation_events)")
	run(t, conn, "UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE id = $1", id)
	same(t, "events", column[string](t, r.owner, "SELECT kind FROM remediation_events ORDER BY id"),
		[]string{"created", "approved", "executing"})
}

func TestAgentRoleCannotChangeWhenAServerWasPaused(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	hub := newLedger(postgres.New(r.pool(t, "ledger_hub")))
	if err := hub.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := hub.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	before := contentsOf(t, r.owner)
	if _, err := r.pool(t, "ledger_agent").Exec(t.Context(), "UPDATE servers SET paused_at = NULL"); err == nil {
		t.Error("the agent can write paused_at")
	}
	same(t, "rows", contentsOf(t, r.owner), before)
}

func TestReaderRoleOnlyReads(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	all := walk(t, newLedger(postgres.New(r.pool(t, "ledger_hub"))), "web-1")
	reader := r.pool(t, "ledger_reader")
	readBack(t, newLedger(postgres.New(reader)), all)
	visible := contentsOf(t, r.owner)
	delete(visible, "remediation_events_gone") // only the functions of the feed read it
	same(t, "rows that the reader can read", contentsOf(t, reader), visible)
	for _, name := range readMethods {
		if err := calls(newLedger(postgres.New(reader)))[name](t.Context()); err != nil {
			t.Errorf("the reader calls %s: %v", name, err)
		}
	}
	r.wantDenied(t, "ledger_reader", readMethods, slices.Concat(ownerOnly, hubOnly, []string{
		"UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE status = 'approved'",
		"UPDATE remediation_actions SET stdout = 'fine'",
		"UPDATE remediation_actions SET heartbeat_at = now()",
		"SELECT 1 FROM servers FOR SHARE",
	}), map[string]string{})
}
