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

// feedRoles is a ledger with one server, and a reader's view of its feed.
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

// session is a role's own connection.
func (r *roles) session(t *testing.T, role string) *pgx.Conn {
	t.Helper()
	at := must[*url.URL](t)(url.Parse(r.url))
	at.User = url.UserPassword(role, "secret")
	return connect(t, at.String())
}

// stranger is a login that was granted nothing.
func (r *roles) stranger(t *testing.T) string {
	t.Helper()
	name := r.name("ledger_stranger")
	run(t, r.owner, "CREATE ROLE "+name+" LOGIN PASSWORD 'secret'")
	t.Cleanup(func() {
		if _, err := r.owner.Exec(context.Background(), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// triggerFunctions are all trigger functions of the ledger.
func triggerFunctions(t *testing.T, owner *pgx.Conn) []string {
	t.Helper()
	names := column[string](t, owner, "SELECT proname::text FROM pg_proc "+
		"WHERE pronamespace = current_schema()::regnamespace AND prorettype = 'trigger'::regtype ORDER BY proname")
	if len(names) < 7 {
		t.Fatalf("only %d trigger functions: %v", len(names), names)
	}
	return names
}

// A temporary table with the columns of ours and one of our functions as its trigger must write no event of ours.
func TestNoLoginForgesEvents(t *testing.T) {
	t.Parallel()
	r, hub, reader, pool := feedRoles(t)
	create(t, hub)
	before := contentsOf(t, r.owner)
	logins := map[string]*pgx.Conn{}
	for _, role := range []string{r.login("ledger_hub"), r.login("ledger_agent"), r.login("ledger_reader"), r.stranger(t)} {
		logins[role] = r.session(t, role)
	}
	for role, conn := range logins {
		for i, function := range triggerFunctions(t, r.owner) {
			for _, like := range []string{"remediation_actions", "remediation_events"} {
				table := fmt.Sprintf("pg_temp.t%d_%s", i, like)
				if _, err := conn.Exec(t.Context(), "CREATE TABLE "+table+" (LIKE "+like+")"); err != nil {
					if sqlState(err) == denied { // who may not read the table writes the columns down
						continue
					}
					t.Fatal(err)
				}
				_, err := conn.Exec(t.Context(), "CREATE TRIGGER forged AFTER INSERT ON "+table+
					" FOR EACH ROW EXECUTE FUNCTION "+function+"('forged')")
				if sqlState(err) != denied {
					t.Errorf("%s makes %s the trigger of a table: %v, want permission denied", role, function, err)
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
	reader.sawAll(t, pool)
}

// Where somebody has granted EXECUTE on all functions, and whoever has the right, the functions keep to their own tables.
func TestTriggerFunctionsWorkOnTheirOwnTablesAlone(t *testing.T) {
	t.Parallel()
	r, hub, _, _ := feedRoles(t)
	create(t, hub)
	run(t, r.owner, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC")
	before := contentsOf(t, r.owner)
	conn := r.session(t, r.login("ledger_reader"))
	for _, function := range triggerFunctions(t, r.owner) {
		if !strings.HasPrefix(function, "remediation_events_") {
			continue // those have the rights of their caller alone
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
				t.Errorf("%s %s of another table: %v, want it refused", function, when, err)
			}
			end(t, tx.Rollback)
		}
	}
	same(t, "rows", contentsOf(t, r.owner), before)
}

// Locks of every kind that a reader may take, and an id of its own, stop no writer. The id delays the feed.
func TestReaderStopsNoWriterAndLosesNoEvent(t *testing.T) {
	t.Parallel()
	r, hub, reader, pool := feedRoles(t)
	create(t, hub)
	reader.poll(t)
	// The keys that once marked writers have 0x5245 in the upper 16 bits, and an event's id. Odd ones are locked
	// exclusively and even ones shared, then the other way round.
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
			t.Error("the feed gives nothing while a reader holds locks")
		}
		run(t, tx, "SELECT pg_current_xact_id()")
		create(t, hub)
		same(t, "while the reader has an id", reader.poll(t), 0)
		end(t, tx.Rollback)
		same(t, "after it has ended", reader.poll(t), 2)
		reader.sawAll(t, pool)
		locks.Close(t.Context())
	}
}

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
	same(t, "while the agent's transaction is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "after its commit", reader.poll(t), 3)
	reader.sawAll(t, pool)
}

// A role without pg_monitor may not see what other sessions do, but it sees their databases and transaction ids.
func TestReaderIsNotDelayedByAnotherDatabase(t *testing.T) {
	t.Parallel()
	otherPool, _, _ := newFeed(t)
	_, insideOther := openTx(t, otherPool)
	create(t, insideOther)
	_, hub, reader, pool := feedRoles(t)
	create(t, hub)
	same(t, "beside another database", reader.poll(t), 2)
	reader.sawAll(t, pool)
}

// The README says how to find what delays the feed.
func TestReadmeNamesWhatDelaysTheFeed(t *testing.T) {
	t.Parallel()
	text := must[[]byte](t)(os.ReadFile("README.md"))
	block := regexp.MustCompile("```sql\n([^`]*pg_prepared_xacts[^`]*)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("README.md has no query for what delays Events")
	}
	_, _, _, pool := feedRoles(t)
	other, _, _ := newFeed(t)
	insideOther, _ := openTx(t, other)
	run(t, insideOther, "SELECT pg_current_xact_id()")
	query := strings.TrimSuffix(strings.TrimSpace(string(block[1])), ";")
	delays := func() []string { return column[string](t, pool, "SELECT holder FROM ("+query+") AS readme") }
	same(t, "with nothing open", delays(), []string{})
	oldest, _ := openTx(t, pool)
	run(t, oldest, "SELECT pg_current_xact_id()")
	younger, _ := openTx(t, pool)
	run(t, younger, "SELECT pg_current_xact_id()")
	same(t, "the oldest", delays(), []string{fmt.Sprintf("session %d", one[uint32](t, oldest, "SELECT pg_backend_pid()"))})
	end(t, oldest.Rollback)
	same(t, "the next", delays(), []string{fmt.Sprintf("session %d", one[uint32](t, younger, "SELECT pg_backend_pid()"))})
}
