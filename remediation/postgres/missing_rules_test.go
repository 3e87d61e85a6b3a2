package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/schema"
)

// wantMissing expects a call of a new store, on the pool and in a transaction, to fail with an error that names the
// rule.
func wantMissing(t *testing.T, pool *pgxpool.Pool, rule string) {
	t.Helper()
	tx := begin(t, pool)
	for name, store := range map[string]remediation.Store{"pool": postgres.New(pool), "tx": postgres.New(tx)} {
		err := newLedger(store).AddServer(t.Context(), "web-1")
		named := err != nil && strings.Contains(err.Error(), rule) && strings.Contains(err.Error(), "call Migrate")
		if !errors.Is(err, remediation.ErrSchemaVersion) || !named {
			t.Errorf("%s without %s: %v, want ErrSchemaVersion that names it and says to call Migrate", name, rule, err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateRestoresEveryMissingOrDisabledRule(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	if err := newLedger(postgres.New(pool)).AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	const views = "SELECT concat_ws(' ', relname, relacl, pg_get_viewdef(oid)) FROM pg_class WHERE relname = 'remediation_unreadable'"
	schemaBefore, viewBefore := schemaOf(t, pool), one[string](t, pool, views)
	var names []string
	for _, rule := range must[[]migration.Rule](t)(migration.Rules(schema.Postgres)) {
		names = append(names, rule.Name)
		ways := []string{
			"DROP TRIGGER " + rule.Name + " ON " + rule.Table,
			"ALTER TABLE " + rule.Table + " DISABLE TRIGGER " + rule.Name,
			"ALTER TABLE " + rule.Table + " ENABLE REPLICA TRIGGER " + rule.Name,
		}
		switch {
		case rule.Table != "":
		case strings.HasPrefix(rule.SQL, "CREATE VIEW"):
			ways = []string{"DROP VIEW " + rule.Name}
		default:
			ways = []string{"DROP INDEX " + rule.Name}
		}
		for _, way := range ways {
			run(t, pool, way)
			wantMissing(t, pool, rule.Name)
			migrate(t, pool)
			same(t, "schema after "+way+" and Migrate", schemaOf(t, pool), schemaBefore)
			same(t, "view after "+way+" and Migrate", one[string](t, pool, views), viewBefore)
			if err := newLedger(postgres.New(pool)).AddServer(t.Context(), "web-1"); err != nil {
				t.Errorf("AddServer after %s and Migrate: %v", way, err)
			}
		}
	}
	slices.Sort(names)
	same(t, "the rules in the migrations compared with those in the database", names, column[string](t, pool, `
		SELECT name FROM (
			SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
			UNION ALL SELECT viewname::text FROM pg_views WHERE schemaname = 'public' AND viewname NOT LIKE 'remediation\_step\_%'
			UNION ALL SELECT indexname::text FROM pg_indexes
			WHERE schemaname = 'public' AND (indexdef LIKE 'CREATE UNIQUE%' AND indexname NOT LIKE '%\_pkey'
				OR indexname LIKE 'remediation\_actions\_claim%')
		) AS rules (name) ORDER BY name COLLATE "C"`))
}

// Triggers that are set to ENABLE ALWAYS count as enabled, and Migrate does not change them.
func TestTriggersThatAlwaysFireAreNotMissing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	run(t, pool, "ALTER TABLE servers ENABLE ALWAYS TRIGGER servers_types")
	before := schemaOf(t, pool)
	migrate(t, pool)
	same(t, "schema", schemaOf(t, pool), before)
	if err := newLedger(postgres.New(pool)).AddServer(t.Context(), "web-1"); err != nil {
		t.Error(err)
	}
}

// A database at an older version may lack rules that the later migrations do not create.
func TestMigrateFromAnOlderVersionRestoresItsRules(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	before := schemaOf(t, pool)
	step(t, pool, newest(t), "down")
	run(t, pool, "DROP TRIGGER servers_types ON servers; ALTER TABLE remediation_actions DISABLE TRIGGER USER")
	migrate(t, pool)
	same(t, "schema", schemaOf(t, pool), before)
}

// A unique index can't be restored if duplicates were written while it was missing.
func TestMigrateChangesNothingIfARuleCannotBeRestored(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	run(t, pool, `DROP TRIGGER servers_types ON servers; DROP INDEX remediation_actions_open_key; INSERT INTO servers (id) VALUES ('web-1');
		INSERT INTO remediation_actions (server_id, action_type, command, created_at, created_by, dedupe_key)
		SELECT 'web-1', 'reboot', 'reboot', now(), 'ann', 'reboot' FROM generate_series(1, 2)`)
	before := schemaOf(t, pool)
	err := postgres.Migrate(t.Context(), pool)
	if sqlState(err) != "23505" || !strings.Contains(err.Error(), "restore the rule remediation_actions_open_key") {
		t.Errorf("Migrate: %v, want an error that names the rule", err)
	}
	same(t, "schema", schemaOf(t, pool), before)
	wantIdlePool(t, pool)
}

// Only the rules in the search path count, even if another ledger in the same database has all rules.
func TestRulesAreThoseOfTheSearchPath(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	public := pgtest.Pool(t, url)
	run(t, public, "CREATE SCHEMA ledger")
	pool := pgtest.Pool(t, with(t, url, "search_path", "ledger"))
	migrate(t, pool)
	before := schemaOf(t, pool)
	run(t, pool, "DROP TRIGGER servers_types ON servers")
	wantMissing(t, pool, "servers_types")
	if err := newLedger(postgres.New(public)).AddServer(t.Context(), "web-1"); err != nil {
		t.Errorf("AddServer in the ledger with all rules: %v", err)
	}
	migrate(t, pool)
	same(t, "schema", schemaOf(t, pool), before)
}

// Any role can take the advisory lock of the migrations, even one that may only read. It must not block a program that
// calls Migrate when it starts.
func TestMigrateWithNothingToDoDoesNotWait(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	lock := must[string](t)(database.GenerateAdvisoryLockId("/"+one[string](t, r.owner, "SELECT current_database()::text"),
		"public", "schema_migrations"))
	reader := begin(t, r.pool(t, "ledger_reader"))
	run(t, reader, "SELECT pg_advisory_xact_lock($1)", lock)
	for name, pool := range map[string]*pgxpool.Pool{"owner": pgtest.Pool(t, r.url), "hub": r.pool(t, "ledger_hub")} {
		if err := postgres.Migrate(bounded(t), pool); err != nil {
			t.Errorf("Migrate by the %s: %v", name, err)
		}
	}
}
