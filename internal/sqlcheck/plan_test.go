package sqlcheck

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/internal/migration"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// The plan of each query on both engines searches by index. Tests read the queries with these patterns.
var (
	queryName = regexp.MustCompile(`(?m)^-- name: (\w+) :\w+$`)
	comment   = regexp.MustCompile(`(?m)--.*$`)
	indexedBy = regexp.MustCompile(`INDEXED BY (\w+)`)
	parameter = regexp.MustCompile(`@(\w+)|sqlc\.narg\('(\w+)'\)`)
)

// query is a query with numbered parameters, such as ?1 or $1.
type query struct {
	text       string
	parameters int
}

// numbered replaces the named parameters of a query by numbered ones. mark is ? or $.
func numbered(text, mark string) query {
	numbers := map[string]int{}
	text = parameter.ReplaceAllStringFunc(text, func(p string) string {
		name := parameter.ReplaceAllString(p, "$1$2")
		if numbers[name] == 0 {
			numbers[name] = len(numbers) + 1
		}
		return mark + strconv.Itoa(numbers[name])
	})
	return query{text, len(numbers)}
}

// queriesOf returns the queries of these folders by name, with numbered parameters.
func queriesOf(t *testing.T, mark string, folders ...string) map[string]query {
	t.Helper()
	queries := map[string]query{}
	for name, text := range textsOf(t, folders...) {
		queries[name] = numbered(text, mark)
	}
	return queries
}

// textsOf returns the queries of these folders by name, with named parameters.
func textsOf(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, folder := range folders {
		files, err := filepath.Glob("../../queries/" + folder + "/*.sql")
		if err != nil || len(files) == 0 {
			t.Fatalf("no queries in %s: %v", folder, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			names := queryName.FindAllSubmatchIndex(text, -1)
			for i, at := range names {
				end := len(text)
				if i+1 < len(names) {
					end = names[i+1][0]
				}
				body := comment.ReplaceAllString(string(text[at[1]:end]), "")
				texts[string(text[at[2]:at[3]])] = strings.TrimSuffix(strings.TrimSpace(body), ";")
			}
		}
	}
	return texts
}

// requiredIndexes are the indexes that a query must use, for queries whose plan without them would also pass on an
// empty table.
var requiredIndexes = map[string][]string{
	"ClaimAction":      {"remediation_actions_claim", "remediation_actions_claim_limited", "remediation_actions_claim_due"},
	"ExplainAction":    {"remediation_actions_claim", "remediation_actions_claim_due"},
	"ExpireActions":    {"remediation_actions_expire"},
	"ListActionEvents": {"remediation_events_action"},
	"PruneActions":     {"remediation_actions_ended"},
	"ClearOutput":      {"remediation_actions_ended"},
}

func usesItsIndexes(t *testing.T, name, plan string) {
	t.Helper()
	for _, index := range requiredIndexes[name] {
		if !regexp.MustCompile(`\b` + index + `\b`).MatchString(plan) {
			t.Errorf("%s does not use %s:\n%s", name, index, plan)
		}
	}
}

// No query scans the actions or the events, or sorts in a temporary B-tree, because that would be slow on a long
// history.
func TestSQLitePlansEveryQueryByIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.db")
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
	rules, err := migration.Rules(schema.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range queriesOf(t, "?", "shared", "sqlite") {
		for _, named := range indexedBy.FindAllStringSubmatch(q.text, -1) {
			if !slices.ContainsFunc(rules, func(r migration.Rule) bool { return r.Name == named[1] }) {
				t.Errorf("%s fails without %s, which Migrate does not restore", name, named[1])
			}
		}
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q.text, make([]any, q.parameters)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
			// These scans are bounded: json_each reads a parameter, t is the five times of one action, early the first
			// 32 actions of a server, c the two candidates of a claim, and oldest the actions that one call prunes.
			scans := strings.HasPrefix(step, "SCAN ") && !strings.Contains(step, "json_each") &&
				!slices.Contains([]string{"SCAN CONSTANT ROW", "SCAN 5 CONSTANT ROWS", "SCAN t", "SCAN early", "SCAN c", "SCAN oldest"}, step)
			// Claim and Explain sort only the approved actions of one server that have limits.
			sorts := strings.Contains(step, "USE TEMP B-TREE") && name != "ClaimAction" && name != "ExplainAction"
			if scans || sorts {
				t.Errorf("%s: %s", name, step)
			}
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
		rows.Close()
		usesItsIndexes(t, name, strings.Join(plan, "\n"))
	}
}

// PostgreSQL scans small tables even if they have an index. Therefore the test makes scans and sorts look expensive: a
// plan then has one only if no index can replace it.
func TestPostgreSQLPlansEveryQueryByIndex(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, setting := range []string{"enable_seqscan = off", "enable_sort = off", "plan_cache_mode = force_generic_plan"} {
		if _, err := conn.Exec(t.Context(), "SET "+setting); err != nil {
			t.Fatal(err)
		}
	}
	for name, q := range queriesOf(t, "$", "shared", "postgres") {
		if strings.HasPrefix(name, "Import") {
			continue // COPY has no plan
		}
		if _, err := conn.Exec(t.Context(), "PREPARE "+name+" AS "+q.text); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		execute := "EXPLAIN EXECUTE " + name
		if q.parameters > 0 {
			execute += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", q.parameters), ", ") + ")"
		}
		rows, err := conn.Query(t.Context(), execute)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		usesItsIndexes(t, name, strings.Join(plan, "\n"))
		for _, step := range plan {
			// Claim and Explain may sort for the same reason as on SQLite. CreateEach sorts the calls of a batch.
			sorts := strings.Contains(step, "Sort ") && !slices.Contains([]string{"ClaimAction", "ExplainAction", "CreateEach"}, name)
			if strings.Contains(step, "Seq Scan on remediation_") || sorts {
				t.Errorf("%s: %s\n%s", name, step, strings.Join(plan, "\n"))
			}
		}
		if strings.HasSuffix(name, "Each") {
			searchesEveryTable(t, name, plan)
		}
	}
}

// searchesEveryTable expects that every scan of an index in a plan has a condition. A scan of a whole index is fast on
// a small table, but PostgreSQL keeps the plan when the table grows.
func searchesEveryTable(t *testing.T, name string, plan []string) {
	t.Helper()
	for i, step := range plan {
		if strings.Contains(step, " Scan ") && regexp.MustCompile(` on (remediation_actions|servers|alerts|remediation_servers)\b`).MatchString(step) &&
			!strings.Contains(plan[i+1], "Index Cond: ") && !strings.Contains(plan[i+1], "Recheck Cond: ") {
			t.Errorf("%s: %s\n%s", name, step, strings.Join(plan, "\n"))
		}
	}
}
