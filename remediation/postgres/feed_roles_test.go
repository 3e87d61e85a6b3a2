package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// feedRoles returns a database with the README's roles and the server "web-1": a ledger of the hub's role, a feed
// reader of the reader's role, and a pool of the owner.
func feedRoles(t *testing.T) (r *roles, hub *remediation.Ledger, reader *feedReader, all *pgxpool.Pool) {
	t.Helper()
	r = newRoles(t)
	hub = newLedger(postgres.New(r.pool(t, "ledger_hub")))
	if err := hub.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	reader = &feedReader{ledger: newLedger(postgres.New(r.pool(t, "ledger_reader")))}
	return r, hub, reader, pgtest.Pool(t, r.url)
}

// session returns a connection of a login.
func (r *roles) session(t *testing.T, role string) *pgx.Conn {
	t.Helper()
	at := must[*url.URL](t)(url.Parse(r.url))
	at.User = url.UserPassword(role, "secret")
	return connect(t, at.String())
}

// unprivileged creates a login without grants and returns its name.
func (r *roles) unprivileged(t *testing.T) string {
	t.Helper()
	name := r.name("ledger_unprivileged")
	run(t, r.owner, "CREATE ROLE "+name+" LOGIN PASSWORD 'secret'")
	t.Cleanup(func() {
		if _, err := r.owner.Exec(context.Background(), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// triggerFunctions returns the names of all trigger functions of the ledger.
func triggerFunctions(t *testing.T, owner *pgx.Conn) []string {
	t.Helper()
	names := column[string](t, owner, "SELECT proname::text FROM pg_proc "+
		"WHERE pronamespace = current_schema()::regnamespace AND prorettype = 'trigger'::regtype ORDER BY proname")
	if len(names) < 7 {
		t.Fatalf("only %d trigger functions: %v", len(names), names)
	}
	return names
}

// A login can't write an event with a temporary table that has the ledger's columns and one of its functions as a
// trigger.
func TestNoLoginForgesEvents(t *testing.T) {
	t.Parallel()
	r, hub, reader, pool := feedRoles(t)
	create(t, hub)
	before := contentsOf(t, r.owner)
	logins := map[string]*pgx.Conn{}
	for _, role := range []string{r.login("ledger_hub"), r.login("ledger_agent"), r.login("ledger_reader"), r.unprivileged(t)} {
		logins[role] = r.session(t, role)
	}
	for role, conn := range logins {
		for i, function := range triggerFunctions(t, r.owner) {
			for _, like := range []string{"remediation_actions", "remediation_events"} {
				table := fmt.Sprintf("pg_temp.t%d_%s", i, like)
				if _, err := conn.Exec(t.Context(), "CREATE TABLE "+table+" (LIKE "+like+")"); err != nil {
					if sqlState(err) == denied { // LIKE needs the right to read the table
						continue
					}
					t.Fatal(err)
				}
				_, err := conn.Exec(t.Context(), "CREATE TRIGGER forged AFTER INSERT ON "+table+
					" FOR EACH ROW EXECUTE FUNCTION "+function+"('forged')")
				if sqlState(err) != denied {
					t.Errorf("%s creates a trigger with %s: %v, want permission denied", role, function, err)
				}
			}
		}
		for _, statement := range []string{
			"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'failed', now())",
			"INSERT INTO remediation_events (action_id, server_id, kind, occurred_at) VALUES (1, 'web-1', 'failed', 'infinity')",
			"COPY remediation_events (action_id, server_id, kind, occurred_at) FROM STDIN",
			"INSERT INTO remediation_events_gone VALUES (1, 1)",
		} {
			if _, err := conn.Exec(t.Context(), statement); sqlState(err) != denied {
				t.Errorf("%s runs %s: %v, want permission denied", role, statement, err)
			}
		}
	}
	same(t, "rows", contentsOf(t, r.owner), before)
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

// Even a login with EXECUTE on all functions can't use them as triggers of other tables.
func TestTriggerFunctionsWorkOnlyOnTheirOwnTables(t *testing.T) {
	t.Parallel()
	r, hub, _, _ := feedRoles(t)
	create(t, hub)
	run(t, r.owner, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC")
	before := contentsOf(t, r.owner)
	conn := r.session(t, r.login("ledger_reader"))
	for _, function := range triggerFunctions(t, r.owner) {
		if !strings.HasPrefix(function, "remediation_events_") {
			continue // these run with the rights of the caller
		}
		for _, when := range []string{"AFTER INSERT", "AFTER UPDATE", "AFTER DELETE"} {
			tx := must[pgx.Tx](t)(conn.Begin(t.Context()))
			table := "remediation_actions"
			if function == "remediation_events_keep" {
				table = "remediation_events"
			}
			run(t, tx, "CREATE TABLE pg_temp.mine AS SELECT * FROM "+table)
			run(t, tx, "CREATE TRIGGER forged "+when+" ON pg_temp.mine FOR EACH ROW EXECUTE FUNCTION "+function+"()")
			var err error
			for _, statement := range []string{"INSERT INTO pg_temp.mine SELECT * FROM pg_temp.mine", "UPDATE pg_temp.mine SET id = 7",
				"DELETE FROM pg_temp.mine"} {
				if strings.HasPrefix(statement, strings.TrimPrefix(when, "AFTER ")) {
					_, err = tx.Exec(t.Context(), statement)
				}
			}
			if sqlState(err) != "P0001" {
				t.Errorf("%s %s on another table: %v, want it refused", function, when, err)
			}
			end(t, tx.Rollback)
		}
	}
	same(t, "rows", contentsOf(t, r.owner), before)
}

// No lock that a reader may take blocks a writer, and neither does a transaction id of the reader. The id delays the
// feed.
func TestReaderBlocksNoWriterAndMissesNoEvent(t *testing.T) {
	t.Parallel()
	r, hub, reader, pool := feedRoles(t)
	create(t, hub)
	reader.poll(t)
	// An earlier version marked writers with advisory locks: 0x5245 in the upper 16 bits, and the id of an event. Lock
	// odd keys exclusively and even keys shared, then the other way round.
	for odd := range 2 {
		locks := r.session(t, r.login("ledger_reader"))
		for _, keys := range []string{"(21061::bigint << 48) | n", "n"} {
			run(t, locks, "SELECT CASE WHEN n % 2 = $1 THEN pg_advisory_lock("+keys+") ELSE pg_advisory_lock_shared("+keys+") END "+
				"FROM generate_series(0::bigint, 1000) AS n", odd)
		}
		tx := must[pgx.Tx](t)(locks.Begin(t.Context()))
		for _, table := range []string{"servers", "alerts", "remediation_actions", "remediation_events", "schema_migrations"} {
			run(t, tx, "LOCK TABLE "+table+" IN ACCESS SHARE MODE")
			for _, mode := range []string{"ROW EXCLUSIVE", "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"} {
				nested := must[pgx.Tx](t)(tx.Begin(t.Context()))
				if _, err := nested.Exec(t.Context(), "LOCK TABLE "+table+" IN "+mode+" MODE"); sqlState(err) != denied {
					t.Errorf("the reader locks %s IN %s MODE: %v, want permission denied", table, mode, err)
				}
				end(t, nested.Rollback)
			}
		}
		writer := newLedger(postgres.New(pgtest.Pool(t, with(t, r.url, "statement_timeout", "10s"))))
		walk(t, writer, fmt.Sprintf("web-1%d", odd))
		if reader.poll(t) == 0 {
			t.Error("the feed has no new events while a reader holds locks")
		}
		run(t, tx, "SELECT pg_current_xact_id()")
		create(t, hub)
		same(t, "new events while the reader has a transaction id", reader.poll(t), 0)
		end(t, tx.Rollback)
		same(t, "new events after its transaction has ended", reader.poll(t), 2)
		reader.wantAllOnce(t, pool)
		locks.Close(t.Context())
	}
}

// An earlier version of the feed trusted the setting remediation_events.holder, which any login can set.
func TestNoSettingHidesAChange(t *testing.T) {
	t.Parallel()
	r, hub, reader, pool := feedRoles(t)
	action := create(t, hub)
	reader.poll(t)
	agent := r.session(t, r.login("ledger_agent"))
	tx := must[pgx.Tx](t)(agent.Begin(t.Context()))
	run(t, tx, "SELECT set_config('remediation_events.holder', pg_current_xact_id()::text, true)")
	run(t, tx, "UPDATE remediation_actions SET status = 'executing', executed_at = now() WHERE id = $1", action.ID)
	create(t, hub)
	same(t, "new events while the agent's transaction is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 3)
	reader.wantAllOnce(t, pool)
}

// A role without pg_monitor may not see what other sessions do, but it sees their databases and transaction ids.
func TestReaderIsNotDelayedByAnotherDatabase(t *testing.T) {
	t.Parallel()
	otherPool, _, _ := newFeed(t)
	_, otherLedger := openTx(t, otherPool)
	create(t, otherLedger)
	_, hub, reader, pool := feedRoles(t)
	create(t, hub)
	same(t, "new events while a transaction of another database is open", reader.poll(t), 2)
	reader.wantAllOnce(t, pool)
}

// The README has a query that finds the transaction that delays the feed.
func TestQueryInReadmeFindsWhatDelaysTheFeed(t *testing.T) {
	t.Parallel()
	text := must[[]byte](t)(os.ReadFile("README.md"))
	block := regexp.MustCompile("```sql\n([^`]*pg_prepared_xacts[^`]*)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("README.md has no query for what delays Events")
	}
	_, _, _, pool := feedRoles(t)
	other, _, _ := newFeed(t)
	otherTx, _ := openTx(t, other)
	run(t, otherTx, "SELECT pg_current_xact_id()")
	query := strings.TrimSuffix(strings.TrimSpace(string(block[1])), ";")
	delays := func() []string { return column[string](t, pool, "SELECT holder FROM ("+query+") AS readme") }
	same(t, "what delays the feed with no open transaction", delays(), []string{})
	oldest, _ := openTx(t, pool)
	run(t, oldest, "SELECT pg_current_xact_id()")
	younger, _ := openTx(t, pool)
	run(t, younger, "SELECT pg_current_xact_id()")
	same(t, "what delays the feed: the oldest transaction", delays(), []string{fmt.Sprintf("session %d", one[uint32](t, oldest, "SELECT pg_backend_pid()"))})
	end(t, oldest.Rollback)
	same(t, "what delays the feed: the next oldest", delays(), []string{fmt.Sprintf("session %d", one[uint32](t, younger, "SELECT pg_backend_pid()"))})
}
