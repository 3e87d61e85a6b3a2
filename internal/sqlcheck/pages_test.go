package sqlcheck

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// These tests count the pages that each call reads on a short and on a long history.
//
// The history has 500 servers and $n actions. The last 500 actions are open, one for each server, and the others are
// terminal. Of every ten terminal actions one failed. 50 actions have an alert. All times are $at.
const (
	fillSQLite = `WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < $n)` + fill
	fillServer = `INSERT INTO servers (id, is_paused) WITH RECURSIVE s (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < 499)
		SELECT 'web-' || i, TRUE FROM s`
	fill = `
		INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by, alert_id,
			approved_at, approved_by, executed_at, completed_at, exit_code, stdout)
		SELECT 'web-' || (i % 500), 'type-' || (i % 7), CASE WHEN i > $n - 500 THEN
				CASE i % 3 WHEN 0 THEN 'pending' WHEN 1 THEN 'approved' ELSE 'executing' END
				WHEN i % 10 = 0 THEN 'failed' ELSE 'completed' END,
			'reboot', $at, 'ann', CASE WHEN i % ($n / 50) = 0 THEN 1 END,
			CASE WHEN i <= $n - 500 OR i % 3 > 0 THEN $at END,
			CASE WHEN i <= $n - 500 OR i % 3 > 0 THEN 'bob' END,
			CASE WHEN i <= $n - 500 OR i % 3 = 2 THEN $at END,
			CASE WHEN i <= $n - 500 THEN $at END,
			CASE WHEN i <= $n - 500 THEN CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END END,
			CASE WHEN i <= $n - 500 THEN 'done' END
		FROM series`
	fillPostgres = `WITH series AS (SELECT i FROM generate_series(1, $n) AS i)`
)

// calls returns the queries whose pages are counted, by name, and the values of their parameters as SQL. Parameters
// without a value are NULL.
func calls(n int) map[string]map[string]string {
	last := func(remainder int) string { // the last action with id % 3 = remainder, which determines its status
		id := n
		for id%3 != remainder {
			id--
		}
		return strconv.Itoa(id)
	}
	server := func(id string) string { // the server of an action
		i, _ := strconv.Atoi(id)
		return fmt.Sprintf("'web-%d'", i%500)
	}
	page := func(with ...string) map[string]string {
		p := map[string]string{"before": strconv.Itoa(n / 2), "max_rows": "50", "skip_unreadable": "FALSE",
			"server_id": "''", "status": "''", "action_type": "''"}
		for i := 0; i < len(with); i += 2 {
			p[with[i]] = with[i+1]
		}
		return p
	}
	const at = "'2026-11-25 11:00:00+00:00'"
	return map[string]map[string]string{
		"GetAction":                    {"id": strconv.Itoa(n / 2)},
		"ListActions":                  page(),
		"ListActionsByServer":          page("server_id", "'web-7'", "max_rows", "2"),
		"ListActionsByServerAndStatus": page("server_id", "'web-7'", "status", "'completed'", "max_rows", "1"),
		"ListActionsByStatus":          page("status", "'failed'"),
		"ListActionsByType":            page("action_type", "'type-3'"),
		"ListActionsByAlert":           page("alert_id", "1", "max_rows", "20"),
		"ListActionEvents":             {"action_id": strconv.Itoa(n / 2)},
		"ListEvents":                   {"after": strconv.Itoa(n), "elsewhere": "'{}'", "max_rows": "50"},
		"ExplainAction":                {"id": last(1), "now": at, "skip_paused_at": "FALSE"},
		"CreateAction": {"server_id": "'web-7'", "action_type": "'reboot'", "command": "'reboot'", "created_at": at,
			"created_by": "'ann'"},
		"ApproveAction": {"id": last(0), "approved_by": "'bob'", "approved_at": at, "skip_unreadable": "FALSE"},
		"ClaimAction":   {"server_id": server(last(1)), "executed_at": at, "skip_unreadable": "FALSE"},
		"FinishAction": {"id": last(2), "server_id": server(last(2)), "completed_at": at, "exit_code": "0",
			"stdout": "''", "stderr": "''", "skip_unreadable": "FALSE"},
		"ExpireActions": {"rejected_at": at, "max_rows": "10"},
		"FailOverdueActions": {"alive_before": at, "completed_at": at, "stderr": "'late'", "max_rows": "10",
			"skip_unreadable": "FALSE"},
		"PruneActions": {"before": at, "max_rows": "10"},
		"ClearOutput":  {"before": at, "max_rows": "10"},
	}
}

// expectFewPages expects that no call reads many more pages of a history of 40,000 actions than of one of 2,000. It
// allows for one more page in each search, because the trees are one level higher.
func expectFewPages(t *testing.T, pages func(n int) map[string]int) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds to fill the databases, and a minute under the race detector")
	}
	short, long := pages(2_000), pages(40_000)
	for name, before := range short {
		t.Logf("%-30s %5d %5d", name, before, long[name])
		if before == 0 || long[name] > 2*before+2 {
			t.Errorf("%s reads %d pages of 40,000 actions, and %d of 2,000", name, long[name], before)
		}
	}
}

// literal replaces the parameters of a query by values.
func literal(text string, values map[string]string) string {
	return parameter.ReplaceAllStringFunc(text, func(p string) string {
		if value, given := values[parameter.ReplaceAllString(p, "$1$2")]; given {
			return value
		}
		return "NULL"
	})
}

var cacheUse = regexp.MustCompile(`Page cache (?:hits|misses): +(\d+)`)

func TestSQLiteCallsReadNoMorePagesOfALongHistory(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("the sqlite3 shell, which counts pages, is not installed")
	}
	queries := textsOf(t, "shared", "sqlite")
	expectFewPages(t, func(n int) map[string]int {
		path := filepath.Join(t.TempDir(), "pages.db")
		store, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, statement := range []string{
			fillServer, "INSERT INTO alerts (server_id, title) VALUES ('web-0', 'down')",
			// The one alert is of web-0. This trigger would refuse it for actions of other servers.
			"DROP TRIGGER remediation_actions_insert",
			strings.NewReplacer("$n", strconv.Itoa(n), "$at", "'2026-11-25 10:00:00+00:00'").Replace(fillSQLite),
			"PRAGMA wal_checkpoint(TRUNCATE)",
		} {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		used := map[string]int{}
		for name, values := range calls(n) {
			// The first statement also reads the schema.
			out, err := exec.CommandContext(t.Context(), "sqlite3", path, ".stats on", "BEGIN; SELECT count(*) FROM servers WHERE id = ''",
				literal(queries[name], values), "ROLLBACK").CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			found := cacheUse.FindAllSubmatch(out, -1) // hits and misses of each statement; the last is ROLLBACK
			for _, use := range found[len(found)-4 : len(found)-2] {
				pages, _ := strconv.Atoi(string(use[1]))
				used[name] += pages
			}
		}
		return used
	})
}

func TestPostgreSQLCallsReadNoMorePagesOfALongHistory(t *testing.T) {
	t.Parallel()
	queries := textsOf(t, "shared", "postgres")
	expectFewPages(t, func(n int) map[string]int {
		conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(t.Context(), fillServer+`; INSERT INTO alerts (server_id, title) VALUES ('web-0', 'down');
			ALTER TABLE remediation_actions DISABLE TRIGGER remediation_actions_alert;`+
			strings.NewReplacer("$n", strconv.Itoa(n), "$at", "TIMESTAMPTZ '2026-11-25 10:00:00+00:00'").Replace(fillPostgres+fill))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "VACUUM ANALYZE"); err != nil {
			t.Fatal(err)
		}
		used := map[string]int{}
		for name, values := range calls(n) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var text string
			// The first execution also reads the catalog, so only the second counts.
			for range 2 {
				if _, err := tx.Exec(t.Context(), "SAVEPOINT a"); err != nil {
					t.Fatal(err)
				}
				if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+literal(queries[name], values)).Scan(&text); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if _, err := tx.Exec(t.Context(), "ROLLBACK TO a"); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			var plans []struct {
				Plan struct {
					Hit  int `json:"Shared Hit Blocks"`
					Read int `json:"Shared Read Blocks"`
				}
			}
			if err := json.Unmarshal([]byte(text), &plans); err != nil {
				t.Fatal(err)
			}
			used[name] = plans[0].Plan.Hit + plans[0].Plan.Read
		}
		return used
	})
}
