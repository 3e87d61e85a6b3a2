package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// The triggers on remediation_actions write the events. An INSERT into remediation_events by hand is refused.
func TestEventsAreWrittenOnlyByChangesOfActions(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	const columns = "INSERT INTO remediation_events (action_id, server_id, kind, occurred_at"
	for _, statement := range []string{
		columns + ") VALUES (1, 'web-1', 'failed', now())",
		columns + ", feed_position) VALUES (1, 'web-1', 'failed', now(), 1)",
		columns + ") SELECT 1, 'web-1', 'failed', now() FROM generate_series(1, 3)",
		"INSERT INTO remediation_events DEFAULT VALUES",
		"INSERT INTO remediation_events SELECT * FROM remediation_events ON CONFLICT DO NOTHING",
	} {
		_, err := pool.Exec(t.Context(), statement)
		same(t, "the rule that refuses "+statement, constraintOf(err), "remediation_events_append_only")
	}
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

func TestEventsTableRefusesInvalidRows(t *testing.T) {
	t.Parallel()
	pool, _, _ := newFeed(t)
	run(t, pool, "ALTER TABLE remediation_events DISABLE TRIGGER USER")
	good := map[string]string{"id": "7", "action_id": "1", "server_id": "'web-1'", "kind": "'created'", "actor": "'ann'",
		"occurred_at": "now()", "detail": "'x'"}
	insert := func(column, value string) error {
		r := maps.Clone(good)
		r[column] = value
		columns := slices.Sorted(maps.Keys(r))
		var values []string
		for _, c := range columns {
			values = append(values, r[c])
		}
		tx := begin(t, pool)
		defer tx.Rollback(context.Background())
		_, err := tx.Exec(t.Context(), fmt.Sprintf("INSERT INTO remediation_events (%s) VALUES (%s)",
			strings.Join(columns, ", "), strings.Join(values, ", ")))
		return err
	}
	for column, values := range map[string]map[string]string{
		"id":        {"0": "remediation_events_id_check", "-7": "remediation_events_id_check"},
		"action_id": {"0": "remediation_events_check"},
		"server_id": {"''": "remediation_events_check"},
		"kind":      {"''": "remediation_events_kind_check", "'Created'": "remediation_events_kind_check", "'pending'": "remediation_events_kind_check"},
		"occurred_at": {"'infinity'": "remediation_events_occurred_at_check", "'-infinity'": "remediation_events_occurred_at_check",
			"'0001-12-31 23:59:59.999999+00 BC'": "remediation_events_occurred_at_check", "'0001-01-01 00:00:00+00'": "",
			"'10000-01-01 00:00:00+00'": "remediation_events_occurred_at_check", "'9999-12-31 23:59:59.999999+00'": ""},
	} {
		for value, want := range values {
			same(t, "the rule that refuses "+column+" = "+value, constraintOf(insert(column, value)), want)
		}
	}
	if err := insert("feed_position", "NULL"); sqlState(err) != "23502" {
		t.Errorf("feed_position = NULL: %v, want not_null_violation", err)
	}
	for _, kind := range []remediation.EventKind{"created", "approved", "rejected", "executing", "completed", "failed",
		remediation.EventOutputCleared, "deleted"} {
		if err := insert("kind", "'"+string(kind)+"'"); err != nil {
			t.Errorf("kind %s: %v", kind, err)
		}
	}
}

// The deletion of a row that predates the rules is recorded even if its values are invalid in other kinds of events.
func TestInvalidLegacyRowsCanBeDeleted(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyURL(t))
	upTo(t, pool, 4)
	run(t, pool, legacyRows)
	run(t, pool, `INSERT INTO servers (id) VALUES ('');
		INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by)
		VALUES (0, '', '', '', '', 'infinity', ''), (-1, 'old-1', 'x', 'failed', '', '-infinity', '')`)
	actions := one[int64](t, pool, "SELECT count(*) FROM remediation_actions")
	migrate(t, pool)
	run(t, pool, "DELETE FROM servers")
	same(t, "deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events WHERE kind = 'deleted'"), actions)
}

func TestTruncateOfActionsIsRecordedAndOfEventsRefused(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"TRUNCATE remediation_actions", "TRUNCATE servers CASCADE", "TRUNCATE remediation_actions RESTART IDENTITY"} {
		pool, ledger, reader := newFeed(t)
		actions := []remediation.Action{create(t, ledger), create(t, ledger)}
		actions[0] = must[remediation.Action](t)(ledger.Claim(t.Context(), "web-1")) // moves its row after the other one
		before := reader.poll(t)
		for _, refused := range []string{"TRUNCATE remediation_events", "TRUNCATE remediation_events, remediation_actions", "TRUNCATE remediation_events CASCADE"} {
			if _, err := pool.Exec(t.Context(), refused); sqlState(err) != "23514" {
				t.Errorf("%s: %v, want it refused", refused, err)
			}
		}
		same(t, "actions after the refusals", one[int64](t, pool, "SELECT count(*) FROM remediation_actions"), int64(2))
		run(t, pool, statement)
		last := reader.after
		same(t, "new events", reader.poll(t), 2)
		reader.wantAllOnce(t, pool)
		same(t, "all events", len(reader.seen), before+2)
		for i, e := range must[[]remediation.Event](t)(ledger.Events(t.Context(), last, 10)) {
			if age := time.Since(e.OccurredAt); age < -time.Minute || age > time.Minute {
				t.Errorf("OccurredAt is %s, want about now", e.OccurredAt)
			}
			e.ID, e.OccurredAt = 0, time.Time{}
			same(t, statement, e, remediation.Event{
				ActionID: actions[i].ID, ServerID: "web-1", Kind: remediation.EventDeleted, Detail: new(string(actions[i].Status)),
			})
		}
		if _, err := pool.Exec(t.Context(), "TRUNCATE remediation_events"); sqlState(err) != "23514" {
			t.Errorf("TRUNCATE of events without actions: %v, want it refused", err)
		}
	}
}

func TestRoleWithoutRightsOnEventsStillRecordsThem(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	role := fmt.Sprintf("actionledger_clerk_%s", one[string](t, pool, "SELECT oid::text FROM pg_database WHERE datname = current_database()"))
	run(t, pool, "CREATE ROLE "+role)
	t.Cleanup(func() {
		ctx := context.Background()
		pool.Exec(ctx, "DROP OWNED BY "+role)
		if _, err := pool.Exec(ctx, "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	run(t, pool, "GRANT SELECT, INSERT, UPDATE, DELETE ON remediation_actions TO "+role)
	run(t, pool, "GRANT SELECT, UPDATE ON servers TO "+role)
	run(t, pool, "GRANT SELECT ON alerts, schema_migrations TO "+role)

	conn := connect(t, url)
	run(t, conn, "SET ROLE "+role)
	clerk := newLedger(postgres.New(conn))
	a := create(t, clerk)
	for _, call := range []func() (remediation.Action, error){
		func() (remediation.Action, error) { return clerk.Approve(t.Context(), a.ID, "bob") },
		func() (remediation.Action, error) { return clerk.Claim(t.Context(), "web-1") },
		func() (remediation.Action, error) {
			return clerk.Finish(t.Context(), "web-1", a.ID, remediation.Result{})
		},
	} {
		must[remediation.Action](t)(call())
	}
	if n := must[int64](t)(clerk.ClearOutput(t.Context(), now.Add(time.Hour), 10)); n != 1 {
		t.Errorf("ClearOutput cleared %d, want 1", n)
	}
	if n := must[int64](t)(clerk.Prune(t.Context(), now.Add(time.Hour), 10)); n != 1 {
		t.Errorf("Prune deleted %d, want 1", n)
	}
	for _, query := range []string{
		"SELECT * FROM remediation_events", "DELETE FROM remediation_events",
		"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'approved', now())",
	} {
		if _, err := conn.Exec(t.Context(), query); sqlState(err) != "42501" {
			t.Errorf("%s: %v, want permission denied", query, err)
		}
	}
	same(t, "kinds", column[string](t, pool, "SELECT kind::text FROM remediation_events ORDER BY id"),
		[]string{"created", "approved", "executing", "completed", "output_cleared", "deleted"})

	run(t, pool, "GRANT DELETE, SELECT ON remediation_events TO "+role)
	run(t, conn, "DELETE FROM remediation_events WHERE kind = 'created'")
	same(t, "stored positions of deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events_gone"), int64(1))
}

// By default a session's temporary tables come before all other tables. A caller's temporary table must neither receive
// the events nor replace a table that a rule reads.
func TestTemporaryTablesDoNotReplaceTheLedgersTables(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	alert := must[int64](t)(ledger.AddAlert(t.Context(), "web-1", "down"))
	a := newAction("web-1")
	a.AlertID = &alert
	must[remediation.Action](t)(ledger.Create(t.Context(), a))
	conn := connect(t, url)
	run(t, conn, "CREATE SCHEMA elsewhere; SET search_path = elsewhere")
	wantNewEvents := func(events int64, statement string) {
		t.Helper()
		before := one[int64](t, pool, "SELECT count(*) FROM remediation_events")
		run(t, conn, statement)
		same(t, "new events after "+statement, one[int64](t, pool, "SELECT count(*) FROM remediation_events")-before, events)
	}
	const insert = `INSERT INTO public.remediation_actions (server_id, action_type, status, command, created_at, created_by)
		VALUES ('web-1', 'reboot', 'pending', 'reboot', now(), 'ann')`
	wantNewEvents(1, insert)
	run(t, conn, "CREATE TEMPORARY TABLE remediation_events (LIKE public.remediation_events INCLUDING ALL)")
	wantNewEvents(1, insert)
	wantNewEvents(2, `UPDATE public.remediation_actions SET status = 'approved', approved_at = now(), approved_by = 'bob'
		WHERE action_type = 'reboot'`)
	wantNewEvents(2, "DELETE FROM public.remediation_actions WHERE action_type = 'reboot'")
	const ended = `INSERT INTO public.remediation_actions (server_id, action_type, status, command, created_at, created_by,
		approved_at, approved_by, executed_at, completed_at, exit_code, stdout)
		VALUES ('web-1', 'ended', 'completed', 'reboot', now(), 'ann', now(), 'bob', now(), now(), 0, 'up')`
	wantNewEvents(4, ended)
	wantNewEvents(1, "UPDATE public.remediation_actions SET stdout = NULL WHERE action_type = 'ended'")
	wantNewEvents(1, "DELETE FROM public.remediation_actions WHERE action_type = 'ended'")
	run(t, conn, `CREATE TEMPORARY TABLE remediation_actions (id bigint); CREATE TEMPORARY TABLE alerts (id bigint);
		CREATE TEMPORARY TABLE remediation_events_gone (id bigint, feed_position bigint);
		INSERT INTO remediation_events_gone VALUES (1, 7)`)
	const place = "SELECT public.remediation_events_place(1)"
	same(t, "the position of an event", one[int64](t, conn, place), one[int64](t, pool, place))
	wantNewEvents(-1, "DELETE FROM public.remediation_events WHERE kind = 'output_cleared'")
	same(t, "stored positions of deleted events", one[int64](t, pool, "SELECT count(*) FROM remediation_events_gone"), int64(1))
	for _, query := range []string{
		"DELETE FROM public.remediation_events",
		"UPDATE public.remediation_actions SET alert_id = NULL WHERE alert_id IS NOT NULL",
	} {
		if _, err := conn.Exec(t.Context(), query); sqlState(err) != "23514" {
			t.Errorf("%s: %v, want it refused", query, err)
		}
	}
}

// The triggers write events once per statement, from all rows that it changed.
func TestEveryFormOfStatementIsRecorded(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := errors.Join(ledger.AddServer(t.Context(), "web-1"), ledger.Pause(t.Context(), "web-1")); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		must[remediation.Action](t)(ledger.Create(t.Context(), newAction("web-1")))
	}
	const approval = "status = 'approved', approved_at = now(), approved_by = 'bob'"
	const pending = `(id, server_id, action_type, status, command, created_at, created_by) `
	run(t, pool, "WITH a AS (UPDATE remediation_actions SET "+approval+" WHERE id = 1 RETURNING id), b AS (UPDATE remediation_actions SET "+
		approval+" WHERE id = 2 RETURNING id), c AS (INSERT INTO remediation_actions "+pending+
		"VALUES (11, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann') RETURNING id) SELECT id FROM a UNION SELECT id FROM b UNION SELECT id FROM c")
	run(t, pool, "INSERT INTO remediation_actions AS r "+pending+`VALUES (12, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann'),
		(3, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann') ON CONFLICT (id) DO UPDATE SET `+approval)
	run(t, pool, `MERGE INTO remediation_actions AS r USING (VALUES (4), (13)) AS given (id) ON r.id = given.id
		WHEN MATCHED THEN UPDATE SET `+approval+`
		WHEN NOT MATCHED THEN INSERT `+pending+`VALUES (given.id, 'web-1', 'reboot', 'pending', 'reboot', now(), 'ann')`)
	run(t, pool, "UPDATE remediation_actions SET "+approval+" WHERE id IN (5, 6)")
	run(t, pool, "UPDATE remediation_actions SET status = CASE id WHEN 5 THEN 'executing' ELSE status END, executed_at = now() WHERE id = 5")
	same(t, "kinds by action", column[string](t, pool,
		"SELECT action_id || ' ' || string_agg(kind, ' ' ORDER BY id) FROM remediation_events GROUP BY action_id ORDER BY action_id"), []string{
		"1 created approved", "2 created approved", "3 created approved", "4 created approved",
		"5 created approved executing", "6 created approved", "11 created", "12 created", "13 created",
	})
}
