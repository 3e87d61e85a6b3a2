package sqlite_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests migrate databases that already have tables or rows: rows that older programs wrote, and the tables of a
// host program.

// legacyRows are rows that older programs may have written at each schema version. They have every status, times
// without a zone, and combinations of columns that the lifecycle refuses today.
var legacyRows = map[int]string{
	1: `INSERT INTO servers (id) VALUES ('web-1'), ('nas');
		INSERT INTO alerts (id, server_id, title) VALUES (1, 'web-1', 'nginx is down'), (2, 'nas', 'disk is full');`,
	2: `INSERT INTO remediation_actions (id, server_id, action_type, status, service_name, command, created_at, created_by) VALUES
		(1, 'web-1', 'restart_service', 'pending', 'nginx', 'systemctl restart nginx', '2026-01-19 15:36:01.617957', 'dashboard'),
		(2, 'web-1', 'restart_service', 'rejected', NULL, 'true', '2026-01-19 15:36:02', 'dashboard'),
		(3, 'nas', 'restart_service', 'executing', '', 'true', '2026-01-19 15:36:03.000001', 'dashboard'),
		(4, 'nas', 'clear_logs', 'completed', 'smbd', 'echo ''é☃''', '2026-01-19 15:36:04.5', 'dashboard'),
		(5, 'nas', 'clear_logs', 'failed', 'smbd', '', '2026-01-19 15:36:05', ''),
		(1000, 'nas', 'clear_logs', 'pending', 'smbd', 'true', '2026-01-19 15:36:05', 'dashboard');
		DELETE FROM remediation_actions WHERE id = 1000;`,
	3: `INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by, alert_id,
			approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code, stdout, stderr) VALUES
		(11, 'web-1', 'restart_service', 'approved', 'true', '2026-01-20 00:00:00.000001', 'dashboard', 1,
			'2026-01-20 00:00:00.000001', 'auto', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(12, 'web-1', 'restart_service', 'rejected', 'true', '2026-01-20 00:00:01', 'dashboard', 1,
			NULL, NULL, '2026-01-20 00:00:02', 'alice', NULL, NULL, NULL, NULL, NULL, NULL),
		(13, 'web-1', 'restart_service', 'executing', 'true', '2026-01-20 00:00:03', 'dashboard', NULL,
			NULL, NULL, NULL, NULL, NULL, '2026-01-20 00:00:04.617957', NULL, NULL, NULL, NULL),
		(14, 'web-1', 'restart_service', 'completed', 'true', '2026-01-20 00:00:05', 'dashboard', 2,
			'2026-01-20 00:00:06', 'alice', NULL, NULL, NULL, '2026-01-20 00:00:07', '2026-01-20 00:00:08', 3, 'out', ''),
		(15, 'web-1', 'restart_service', 'failed', 'true', '2026-01-20 00:00:09', 'dashboard', 1,
			NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-20 00:00:10.25', 1, NULL, 'no such unit');`,
	4: `UPDATE servers SET is_paused = TRUE, paused_at = '2026-01-21 00:00:00.5' WHERE id = 'nas';`,
}

// fillLegacy migrates the database at path step by step up to version, and adds the rows of legacyRows after each step.
func fillLegacy(t testing.TB, path string, version int) {
	t.Helper()
	db := rawPool(t, path, "_pragma=foreign_keys(1)")
	defer db.Close()
	for v := 1; v <= version; v++ {
		stepAPI(t, path, 1)
		rawExec(t, db, legacyRows[v])
	}
}

// addLegacyRows adds many actions at version 2.
func addLegacyRows(t testing.TB, path string, rows int) {
	t.Helper()
	db := rawPool(t, path, "_pragma=foreign_keys(1)")
	defer db.Close()
	rawExec(t, db, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by)
		SELECT 'web-1', 'restart_service', 'failed', 'echo ' || i, '2026-01-19 15:36:01.617957', 'dashboard' FROM n`, rows)
}

func TestMigrateKeepsLegacyRowsAndTheyCanBeRead(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	fillLegacy(t, path, 3)
	db := rawPool(t, path, goodPool)
	before := rawContents(t, db)
	ledger := remediation.New(openMigrated(t, path))
	if diff := cmp.Diff(before.within(before), rawContents(t, db).within(before)); diff != "" {
		t.Errorf("Migrate changed rows (-before +after):\n%s", diff)
	}

	listed, err := ledger.List(t.Context(), remediation.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, a := range listed {
		ids = append(ids, a.ID)
		got, err := ledger.Get(t.Context(), a.ID)
		if err != nil {
			t.Error(err)
		}
		got.Stdout, got.Stderr = nil, nil
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("action %d in List and in Get (-list +get):\n%s", a.ID, diff)
		}
	}
	if diff := cmp.Diff([]int64{15, 14, 13, 12, 11, 5, 4, 3, 2, 1}, ids); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	got, err := ledger.Get(t.Context(), 15)
	if err != nil {
		t.Fatal(err)
	}
	want := remediation.Action{
		ID: 15, ServerID: "web-1", ActionType: "restart_service", Status: remediation.Failed, Command: "true",
		CreatedAt: time.Date(2026, 1, 20, 0, 0, 9, 0, time.UTC), CreatedBy: "dashboard", AlertID: new(int64(1)),
		CompletedAt: new(time.Date(2026, 1, 20, 0, 0, 10, 250_000_000, time.UTC)), ExitCode: new(int64(1)),
		Stderr: new("no such unit"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get of a failed action without an approval (-want +got):\n%s", diff)
	}

	after := rawContents(t, db)
	rawExec(t, db, "DELETE FROM alerts WHERE id = 1")
	after["remediation_actions"]["alert_id"] = []string{
		"null NULL", "null NULL", "null NULL", "null NULL", "null NULL",
		"null NULL", "null NULL", "null NULL", "integer 2", "null NULL",
	}
	delete(after, "alerts")
	if diff := cmp.Diff(after.within(after), rawContents(t, db).within(after)); diff != "" {
		t.Errorf("actions after their alert was deleted (-want +got):\n%s", diff)
	}
}

func TestLegacyRowWithoutAFullApprovalDoesNotBlockClaim(t *testing.T) {
	t.Parallel()
	path := ledgerFile(t)
	fillLegacy(t, path, 1)
	for range 2 {
		stepAPI(t, path, 1)
	}
	rawExec(t, rawPool(t, path, ""), `INSERT INTO remediation_actions
		(server_id, action_type, status, command, created_at, created_by, approved_at, approved_by) VALUES
		('web-1', 'restart_service', 'approved', 'true', '2026-01-19 15:36:01', 'dashboard', NULL, NULL),
		('web-1', 'restart_service', 'approved', 'true', '2026-01-19 15:36:01', 'dashboard', NULL, 'alice'),
		('web-1', 'restart_service', 'approved', 'true', '2026-01-19 15:36:01', 'dashboard', '2026-01-19 15:36:01', NULL)`)
	ledger := remediation.New(openMigrated(t, path))
	want, err := ledger.Create(t.Context(), remediation.NewAction{
		ServerID: "web-1", ActionType: "restart_service", Command: "true", CreatedBy: "dashboard",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ledger.Claim(t.Context(), "web-1"); err != nil || got.ID != want.ID {
		t.Errorf("Claim after actions without a full approval: action %d, %v; want action %d", got.ID, err, want.ID)
	}
}

// hostTables returns the statements that create the database of the Python program from which the ledger was derived,
// as SQLAlchemy creates it. version is the equivalent version of the ledger's schema. The host program owns servers
// and alerts, which have more required columns than the ledger knows.
func hostTables(version int) string {
	if version == 0 {
		return ""
	}
	paused, audit, auditKey := "", "", ""
	if version >= 3 {
		audit = `alert_id INTEGER, approved_at DATETIME, approved_by VARCHAR(50), rejected_at DATETIME, rejected_by VARCHAR(50),
			rejection_reason TEXT, executed_at DATETIME, completed_at DATETIME, exit_code INTEGER, stdout TEXT, stderr TEXT,`
		auditKey = `, FOREIGN KEY(alert_id) REFERENCES alerts (id) ON DELETE SET NULL`
	}
	if version >= 4 {
		paused = `is_paused BOOLEAN DEFAULT 0 NOT NULL, paused_at DATETIME,`
	}
	tables := fmt.Sprintf(`
		CREATE TABLE servers (id VARCHAR(100) NOT NULL, hostname VARCHAR(255) NOT NULL, display_name VARCHAR(255) NOT NULL,
			status VARCHAR(20) NOT NULL, %s created_at DATETIME NOT NULL, PRIMARY KEY (id));
		CREATE TABLE alerts (id INTEGER NOT NULL, server_id VARCHAR(100) NOT NULL, alert_type VARCHAR(50) NOT NULL,
			severity VARCHAR(20) NOT NULL, status VARCHAR(20) NOT NULL, title VARCHAR(255) NOT NULL, message TEXT,
			created_at DATETIME NOT NULL, PRIMARY KEY (id), FOREIGN KEY(server_id) REFERENCES servers (id) ON DELETE CASCADE);
		CREATE INDEX idx_alerts_server_status ON alerts (server_id, status);
		INSERT INTO servers (id, hostname, display_name, status, created_at) VALUES
			('nas', 'nas.lan', 'NAS', 'online', '2026-01-18 09:00:00.000000'),
			('web-1', 'web-1.lan', 'Web', 'online', '2026-01-18 09:00:00.000000');
		INSERT INTO alerts VALUES (7, 'nas', 'disk', 'critical', 'open', 'disk is full', NULL, '2026-01-19 15:30:00.000000');`, paused)
	if version >= 2 {
		tables += fmt.Sprintf(`
		CREATE TABLE remediation_actions (id INTEGER NOT NULL, server_id VARCHAR(100) NOT NULL, action_type VARCHAR(50) NOT NULL,
			status VARCHAR(20) NOT NULL, service_name VARCHAR(255), command TEXT NOT NULL, created_at DATETIME NOT NULL,
			created_by VARCHAR(50) NOT NULL, %s PRIMARY KEY (id),
			FOREIGN KEY(server_id) REFERENCES servers (id) ON DELETE CASCADE%s);
		CREATE INDEX idx_remediation_actions_server_status ON remediation_actions (server_id, status);
		CREATE INDEX idx_remediation_actions_status ON remediation_actions (status);
		CREATE INDEX ix_remediation_actions_server_id ON remediation_actions (server_id);
		INSERT INTO remediation_actions (id, server_id, action_type, status, command, created_at, created_by) VALUES
			(1, 'web-1', 'restart_service', 'pending', 'systemctl restart nginx', '2026-01-19 15:36:01.617957', 'dashboard');`,
			audit, auditKey)
	}
	if version >= 3 {
		tables += `
		UPDATE remediation_actions SET status = 'completed', approved_at = '2026-01-19 15:36:02.000000', approved_by = 'auto',
			executed_at = '2026-01-19 15:37:00.000001', completed_at = '2026-01-19 15:37:09.500000', exit_code = 0,
			stdout = '', stderr = '';`
	}
	return tables
}

// hostAction returns the action of hostTables as the ledger reads it.
func hostAction(version int) remediation.Action {
	a := remediation.Action{
		ID: 1, ServerID: "web-1", ActionType: "restart_service", Status: remediation.Pending,
		Command: "systemctl restart nginx", CreatedAt: time.Date(2026, 1, 19, 15, 36, 1, 617_957_000, time.UTC), CreatedBy: "dashboard",
	}
	if version >= 3 {
		a.Status = remediation.Completed
		a.ApprovedAt, a.ApprovedBy = new(time.Date(2026, 1, 19, 15, 36, 2, 0, time.UTC)), new(remediation.AutoApprover)
		a.ExecutedAt = new(time.Date(2026, 1, 19, 15, 37, 0, 1_000, time.UTC))
		a.CompletedAt = new(time.Date(2026, 1, 19, 15, 37, 9, 500_000_000, time.UTC))
		a.ExitCode, a.Stdout, a.Stderr = new(int64(0)), new(""), new("")
	}
	return a
}

func TestHostDatabaseIsAdopted(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 4; version++ {
		t.Run(fmt.Sprintf("at version %d by the CLI", version), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			rawExec(t, rawPool(t, path, ""), hostTables(version))
			runCLI(t, path, "force", fmt.Sprint(version))
			checkAdopted(t, path, version, func() { runCLI(t, path, "up") })
		})
		t.Run(fmt.Sprintf("at version %d by the library", version), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			db := rawPool(t, path, goodPool)
			rawExec(t, db, hostTables(version))
			runCLI(t, path, "force", fmt.Sprint(version))
			checkAdopted(t, path, version, func() {
				if err := sqlite.Migrate(t.Context(), db); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func checkAdopted(t *testing.T, path string, version int, migrate func()) {
	t.Helper()
	db := rawPool(t, path, goodPool)
	before := rawContents(t, db)
	migrate()
	if got, dirty := rawVersion(t, db); got != newestVersion(t) || dirty {
		t.Fatalf("version %d, dirty %t", got, dirty)
	}
	ledger := remediation.New(openLedger(t, path))
	if version >= 2 {
		got, err := ledger.Get(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(hostAction(version), got); diff != "" {
			t.Errorf("the host's action (-want +got):\n%s", diff)
		}
	}
	if err := ledger.AddServer(t.Context(), "nas"); err != nil {
		t.Errorf("adding a server that the host has registered: %v", err)
	}
	if diff := cmp.Diff(before.within(before), rawContents(t, db).within(before)); diff != "" {
		t.Errorf("the host's rows changed (-before +after):\n%s", diff)
	}

	ids := walkLifecycle(t, ledger, "nas", new(int64(7)))
	rawExec(t, db, "DELETE FROM alerts WHERE id = 7")
	a, err := ledger.Get(t.Context(), ids[remediation.Approved][0])
	if err != nil {
		t.Fatal(err)
	}
	if a.AlertID != nil {
		t.Errorf("the action still has alert %d, which the host deleted", *a.AlertID)
	}
}

func TestDownStopsAtTheAdoptedVersion(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 4; version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			db := rawPool(t, path, goodPool)
			rawExec(t, db, hostTables(version))
			schema := ledgerObjects(rawSchema(t, db))
			force := func() { runCLI(t, path, "force", fmt.Sprint(version)) }
			force()
			runCLI(t, path, "up")
			walkLifecycle(t, remediation.New(openLedger(t, path)), "web-1", nil)

			runCLI(t, path, "down", fmt.Sprint(newestVersion(t)-version))
			if diff := cmp.Diff(schema, ledgerObjects(rawSchema(t, db))); diff != "" {
				t.Errorf("the schema after going down is not the host program's (-want +got):\n%s", diff)
			}
			rows := rawContents(t, db)
			out, err := tryCLI(t, path, "down", "1")
			if err == nil || !strings.Contains(out, "the host program owns the ") ||
				!strings.Contains(out, ". To continue, run: migrate force "+fmt.Sprint(version)) {
				t.Errorf("down below the adopted version: %v\n%s", err, out)
			}
			if diff := cmp.Diff(rows.within(rows), rawContents(t, db).within(rows)); diff != "" {
				t.Errorf("rows after down below the adopted version (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(schema, ledgerObjects(rawSchema(t, db))); diff != "" {
				t.Errorf("schema after down below the adopted version (-before +after):\n%s", diff)
			}

			force()
			checkAdopted(t, path, version, func() { runCLI(t, path, "up") })
		})
	}
}

// rightForce matches the error of a migration step when the database is at another version than the step needs.
var rightForce = regexp.MustCompile(`the database stands (?:at|before) version \d; run: migrate (force (?:-- -)?\d)`)

func TestMigrateAfterTheWrongForceNamesTheRightOne(t *testing.T) {
	t.Parallel()
	for actual := 0; actual <= 4; actual++ {
		t.Run(fmt.Sprintf("at version %d", actual), func(t *testing.T) {
			t.Parallel()
			path := ledgerFile(t)
			db := rawPool(t, path, goodPool)
			rawExec(t, db, hostTables(actual))
			schema, rows := ledgerObjects(rawSchema(t, db)), rawContents(t, db)
			right := fmt.Sprintf("force %d", actual)
			if actual == 0 {
				right = "force -- -1"
			}
			refused := func(command, output string, err error) {
				t.Helper()
				if named := rightForce.FindStringSubmatch(output); err == nil || named == nil || named[1] != right {
					t.Fatalf("%s: %v, want an error that says %q\n%s", command, err, right, output)
				}
				if diff := cmp.Diff(schema, ledgerObjects(rawSchema(t, db))); diff != "" {
					t.Errorf("%s changed the schema (-before +after):\n%s", command, diff)
				}
				if diff := cmp.Diff(rows.within(rows), rawContents(t, db).within(rows)); diff != "" {
					t.Errorf("%s changed rows (-before +after):\n%s", command, diff)
				}
			}
			for _, wrong := range []string{"force -- -1", "force 1", "force 2", "force 3", "force 4"} {
				if wrong == right {
					continue
				}
				runCLI(t, path, strings.Fields(wrong)...)
				err := sqlite.Migrate(t.Context(), db)
				refused("Migrate after "+wrong, fmt.Sprint(err), err)
				output, err := tryCLI(t, path, "up")
				refused("migrate up after "+wrong, output, err)
			}
			runCLI(t, path, strings.Fields(right)...)
			if actual == 0 {
				runCLI(t, path, "up")
				walkLifecycle(t, remediation.New(serverStore(t, path)), "web-1", nil)
				return
			}
			checkAdopted(t, path, actual, func() { runCLI(t, path, "up") })
		})
	}
}
