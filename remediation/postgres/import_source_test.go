package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// sqliteLedger creates an SQLite ledger at a version, with the version table of the stock migrate CLI.
func sqliteLedger(t *testing.T, version int) (path string, db *sql.DB) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	db = openSQLite(t, path, "_pragma=foreign_keys(1)&_time_format=sqlite&_txlock=immediate")
	must[sql.Result](t)(db.Exec("PRAGMA user_version = 1")) // SQLite creates the file at the first write
	for v := 1; v <= version; v++ {
		files := must[[]string](t)(fs.Glob(schema.SQLite, fmt.Sprintf("%06d_*.up.sql", v)))
		text := must[[]byte](t)(fs.ReadFile(schema.SQLite, files[0]))
		must[sql.Result](t)(db.Exec(string(text)))
	}
	if version > 0 {
		must[sql.Result](t)(db.Exec(`CREATE TABLE schema_migrations (version uint64, dirty bool);
			CREATE UNIQUE INDEX version_unique ON schema_migrations (version)`))
		must[sql.Result](t)(db.Exec("INSERT INTO schema_migrations VALUES (?, FALSE)", version))
	}
	return path, db
}

func openSQLite(t *testing.T, path, params string) *sql.DB {
	t.Helper()
	db := must[*sql.DB](t)(sql.Open("sqlite", "file:"+path+"?"+params))
	t.Cleanup(func() { db.Close() })
	return db
}

// oldSQLiteRows are rows that the Python original of the ledger may have written: times without a zone or finer than a
// microsecond, results without approval, and outputs that are not valid text.
const oldSQLiteRows = `
	INSERT INTO servers (id, is_paused, paused_at) VALUES ('alt-ü', TRUE, '2026-01-18 08:00:00.000001'), ('nas', FALSE, NULL);
	INSERT INTO alerts (id, server_id, title) VALUES (7, 'alt-ü', 'Festplatte überfüllt');
	INSERT INTO remediation_actions (id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
		approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code, stdout, stderr)
	VALUES
		(1, 'alt-ü', 'restart_service', 'pending', 'nginx', 'true', '2026-01-19 15:36:01', 'dashboard', 7,
			NULL, 'eve', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(2, 'alt-ü', 'restart_service', 'approved', '', 'true', '2026-01-19 15:36:01.617957', '', NULL,
			NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(3, 'nas', 'restart_service', 'executing', NULL, '', '2026-01-19 15:36:01.617957123', 'dashboard', 7,
			NULL, NULL, '2026-01-19 15:36:02', '', '', NULL, NULL, NULL, NULL, NULL),
		(4, 'nas', 'restart_service', 'failed', NULL, 'true', '2026-01-19 15:36:01.5+02:00', 'dashboard', NULL,
			NULL, NULL, NULL, NULL, NULL, NULL, '2026-01-19T15:36:02Z', 0, CAST(x'636166e90000656e64ff' AS TEXT), x'00ff'),
		(5, 'nas', 'restart_service', 'cancelled', NULL, 'true', '1969-12-31 23:59:59.999999', 'dashboard', NULL,
			NULL, NULL, NULL, NULL, NULL, NULL, NULL, -9223372036854775808, '', '');`

// filledSQLiteLedger creates an SQLite ledger with oldSQLiteRows and about 500 actions, which have taken every path
// through the lifecycle. Some alerts and a server are deleted, and also the newest action and the newest alert, whose
// ids it returns.
func filledSQLiteLedger(t *testing.T) (path string, lastAction, lastAlert int64) {
	t.Helper()
	path, db := sqliteLedger(t, 4)
	must[sql.Result](t)(db.Exec(oldSQLiteRows))
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), path))
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx := must[*sql.Tx](t)(db.BeginTx(t.Context(), nil)) // one commit for all rows is faster
	at := now
	ledger := remediation.New(sqlite.Tx(tx), remediation.WithClock(func() time.Time {
		at = at.Add(time.Hour + 1001*time.Microsecond)
		return at
	}))
	for i, p := range lifecyclePaths {
		for _, id := range []string{fmt.Sprintf("日本-%d", i), fmt.Sprintf("web-%d", i), "gone"} {
			if err := ledger.AddServer(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if p.paused {
				if err := ledger.Pause(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 21 {
				given := remediation.NewAction{
					ServerID: id, ActionType: fmt.Sprintf("type-%d", n%3), Command: fmt.Sprintf("echo '☃ %d' \\. \t\\N\r\n", n), CreatedBy: "Åsa",
				}
				if n%2 == 0 {
					lastAlert = must[int64](t)(ledger.AddAlert(t.Context(), id, fmt.Sprintf("Störung %d\t\\.", n)))
					given.AlertID, given.ServiceName = &lastAlert, new("nginx\\N")
				}
				if n%3 == 0 {
					given.DedupeKey = new(fmt.Sprintf("schlüssel-%d", n))
				}
				lastAction = must[remediation.Action](t)(ledger.Create(t.Context(), given)).ID
				for _, step := range p.steps {
					if err := step(t.Context(), ledger, id, lastAction); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// This deletes the server's actions too. The next path begins with a new server "gone" in normal mode.
		must[sql.Result](t)(tx.Exec("DELETE FROM servers WHERE id = 'gone'"))
	}
	must[sql.Result](t)(tx.Exec("DELETE FROM alerts WHERE id % 5 = 0 AND id > 7"))
	must[sql.Result](t)(tx.Exec("DELETE FROM remediation_actions WHERE id = ?", lastAction))
	must[sql.Result](t)(tx.Exec("DELETE FROM alerts WHERE id = ?", lastAlert))
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return path, lastAction, lastAlert
}

// sourceStep is one step of an action through the lifecycle.
type sourceStep func(ctx context.Context, l *remediation.Ledger, serverID string, id int64) error

// lifecyclePaths are all paths of an action through the lifecycle, on a server in each mode.
var lifecyclePaths = []struct {
	paused bool
	steps  []sourceStep
}{
	{false, nil},
	{false, []sourceStep{withdraws}},
	{false, []sourceStep{starts}},
	{false, []sourceStep{starts, finishes(0)}},
	{false, []sourceStep{starts, finishes(3)}},
	{true, nil},
	{true, []sourceStep{rejects}},
	{true, []sourceStep{approves}},
	{true, []sourceStep{approves, withdraws}},
	{true, []sourceStep{approves, starts}},
	{true, []sourceStep{approves, starts, finishes(0)}},
	{true, []sourceStep{approves, starts, finishes(-1)}},
}

func approves(ctx context.Context, l *remediation.Ledger, _ string, id int64) error {
	_, err := l.Approve(ctx, id, "Zoë")
	return err
}

func rejects(ctx context.Context, l *remediation.Ledger, _ string, id int64) error {
	_, err := l.Reject(ctx, id, "Zoë", "nicht am Freitag\n\\.")
	return err
}

func withdraws(ctx context.Context, l *remediation.Ledger, _ string, id int64) error {
	_, err := l.Withdraw(ctx, id, "Zoë", "erledigt")
	return err
}

func starts(ctx context.Context, l *remediation.Ledger, _ string, id int64) error {
	_, err := l.Start(ctx, id)
	return err
}

func finishes(code int64) sourceStep {
	return func(ctx context.Context, l *remediation.Ledger, serverID string, id int64) error {
		result := remediation.Result{ExitCode: code, Stdout: fmt.Sprintf("nginx: 日本 %d\n", id), Stderr: "caf\xe9\x00"}
		if id%100 == 0 {
			result.Stdout = strings.Repeat("é\n\\", 1<<20/4)
		}
		_, err := l.Finish(ctx, serverID, id, result)
		return err
	}
}

// limitedSQLiteLedger creates an SQLite ledger with two actions that have keys and every limit. The first was approved
// by its creator, ran, was asked to stop and has ended. The second is pending. The server now forbids self-approval.
func limitedSQLiteLedger(t *testing.T) (path string, now time.Time) {
	t.Helper()
	path, _ = sqliteLedger(t, -1)
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), path))
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = time.Date(2026, 1, 19, 15, 36, 1, 617957000, time.UTC)
	ledger := remediation.New(store, remediation.WithClock(func() time.Time { now = now.Add(time.Second); return now }))
	do := must[remediation.Action](t)
	limited := func(key string) remediation.NewAction {
		a := newAction("web-1")
		a.IdempotencyKey, a.DedupeKey, a.MaxRuntimeSeconds = &key, &key, new(int64(60))
		a.NotBefore, a.ExpiresAt = new(now.Add(-time.Hour)), new(now.Add(time.Hour))
		return a
	}
	err := errors.Join(ledger.AddServer(t.Context(), "web-1"), ledger.Pause(t.Context(), "web-1"))
	if err != nil {
		t.Fatal(err)
	}
	ran := do(ledger.Create(t.Context(), limited("ran")))
	do(ledger.Approve(t.Context(), ran.ID, ran.CreatedBy))
	do(ledger.Start(t.Context(), ran.ID))
	do(ledger.Heartbeat(t.Context(), "web-1", ran.ID))
	do(ledger.RequestCancel(t.Context(), ran.ID, "erin", "wrong host"))
	do(ledger.Finish(t.Context(), "web-1", ran.ID, remediation.Result{ExitCode: 143, Stdout: "stopped"}))
	do(ledger.Create(t.Context(), limited("waits")))
	if err := ledger.ForbidSelfApproval(t.Context(), "web-1", true); err != nil {
		t.Fatal(err)
	}
	return path, now
}
