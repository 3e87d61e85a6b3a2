package sqlite_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// These tests drop rules of the schema. Every store must notice that, and Migrate must restore the rules.

// wantMissing expects that new stores on the database return ErrSchemaVersion and name each of these rules.
func wantMissing(t *testing.T, path string, names ...string) {
	t.Helper()
	db := rawPool(t, path, goodPool)
	tx := beginRaw(t, db)
	for name, store := range map[string]remediation.Store{
		"Open": openLedger(t, path), "New": storeOn(t, db), "Tx": sqlite.Tx(tx),
	} {
		err := remediation.New(store).AddServer(t.Context(), "web-9")
		if !errors.Is(err, remediation.ErrSchemaVersion) || !strings.Contains(err.Error(), "call Migrate") {
			t.Errorf("%s: %v, want ErrSchemaVersion that says to call Migrate", name, err)
		}
		for _, rule := range names {
			if err != nil && !strings.Contains(err.Error(), rule) {
				t.Errorf("%s: %v, want it to name %s", name, err, rule)
			}
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryDroppedRuleIsNoticedAndRestored(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	schemaBefore := rawSchema(t, db)
	rules, err := migration.Rules(schema.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, rule := range rules {
		names = append(names, rule.Name)
		rawExec(t, db, rawColumn(t, db, "SELECT 'DROP ' || type || ' ' || name FROM sqlite_master WHERE name = ?", rule.Name)[0])
		wantMissing(t, path, rule.Name)
		if err := sqlite.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(schemaBefore, rawSchema(t, db)); diff != "" {
			t.Errorf("schema after %s was restored (-before +after):\n%s", rule.Name, diff)
		}
		if err := remediation.New(storeOn(t, db)).AddServer(t.Context(), "web-1"); err != nil {
			t.Errorf("AddServer after %s was restored: %v", rule.Name, err)
		}
	}
	slices.Sort(names)
	inDatabase := rawColumn(t, db, `SELECT name FROM sqlite_master
		WHERE type = 'trigger' OR type = 'view' AND name NOT LIKE 'remediation_step_%' OR sql LIKE 'CREATE UNIQUE INDEX remediation_%'
			OR name LIKE 'remediation_actions_claim%'
		ORDER BY name`)
	if diff := cmp.Diff(inDatabase, names); diff != "" {
		t.Errorf("rules (-in the database +known):\n%s", diff)
	}
}

// A database at an older version may lack rules that the later steps do not create.
func TestMigrateFromAnOlderVersionRestoresItsRules(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	before := rawSchema(t, db)
	stepAPI(t, path, -1)
	rawExec(t, db, "DROP TRIGGER servers_types_insert; DROP VIEW remediation_unreadable")
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, rawSchema(t, db)); diff != "" {
		t.Errorf("schema (-before +after):\n%s", diff)
	}
}

// The unique index can't be restored because duplicates were written after it was dropped.
func TestRuleThatCannotBeRestoredLeavesTheDatabaseUnchanged(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	serverStore(t, path)
	db := rawPool(t, path, goodPool)
	rawExec(t, db, "DROP TRIGGER servers_types_insert; DROP INDEX remediation_actions_open_key; DROP TRIGGER remediation_actions_limits_insert")
	rawExec(t, db, `INSERT INTO remediation_actions (server_id, action_type, command, created_at, created_by, dedupe_key)
		SELECT 'web-1', 'reboot', 'reboot', '2026-01-19 15:36:01', 'ann', 'reboot' FROM (VALUES (1), (2))`)
	before := rawSchema(t, db)
	if err := sqlite.Migrate(t.Context(), db); err == nil || !strings.Contains(err.Error(), "restore the rule remediation_actions_open_key") {
		t.Errorf("Migrate: %v, want an error that names the rule", err)
	}
	if diff := cmp.Diff(before, rawSchema(t, db)); diff != "" {
		t.Errorf("schema (-before +after):\n%s", diff)
	}
}

// recreate has the statements that Alembic's batch mode executes to add a column to servers.
const recreate = `
	BEGIN;
	CREATE TABLE _alembic_tmp_servers (id VARCHAR(100) NOT NULL, hostname VARCHAR(255) NOT NULL, display_name VARCHAR(255) NOT NULL,
		status VARCHAR(20) NOT NULL, is_paused BOOLEAN DEFAULT 0 NOT NULL, paused_at DATETIME, created_at DATETIME NOT NULL,
		site VARCHAR(50), PRIMARY KEY (id));
	INSERT INTO _alembic_tmp_servers (id, hostname, display_name, status, is_paused, paused_at, created_at)
	SELECT id, hostname, display_name, status, is_paused, paused_at, created_at FROM servers;
	DROP TABLE servers;
	ALTER TABLE _alembic_tmp_servers RENAME TO servers;
	COMMIT;`

func TestMigrateRestoresTheRulesOfARecreatedTable(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	host := rawPool(t, path, "") // with foreign keys off
	rawExec(t, host, hostTables(4))
	runCLI(t, path, "force", "4")
	store := openMigrated(t, path)
	walkLifecycle(t, remediation.New(store), "nas", nil)
	rows := rawContents(t, host)
	rules := func() []string {
		return rawColumn(t, host, "SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
	}
	before := rules()

	rawExec(t, host, recreate)
	wantMissing(t, path, "servers_types_insert", "servers_types_update")
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, rules()); diff != "" {
		t.Errorf("triggers after Migrate (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(rows.within(rows), rawContents(t, host).within(rows)); diff != "" {
		t.Errorf("rows after Migrate (-before +after):\n%s", diff)
	}
	if err := remediation.New(openLedger(t, path)).Pause(t.Context(), "nas"); err != nil {
		t.Error(err)
	}
	if _, err := host.Exec("UPDATE servers SET paused_at = 'yesterday'"); err == nil {
		t.Error("the restored rule accepted an invalid time")
	}
}

func TestMigrateWithNothingToDoWaitsForNoLock(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	store := openMigrated(t, path)
	db := rawPool(t, path, goodPool)
	writer := holdWriteLock(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // ends a call that waits
	defer cancel()
	if err := store.Migrate(ctx); err != nil {
		t.Errorf("Migrate of the store: %v", err)
	}
	if err := sqlite.Migrate(ctx, db); err != nil {
		t.Errorf("Migrate: %v", err)
	}
	writer.release(t)
}
