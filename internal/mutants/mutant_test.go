package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// These tests check which mutants are derived from SQL.

// changes returns, by the name of each mutant, its lines that are not in text.
func changes(text string, mutants []mutant) map[string]string {
	was := map[string]bool{}
	for line := range strings.Lines(text) {
		was[line] = true
	}
	differ := map[string]string{}
	for _, m := range mutants {
		for line := range strings.Lines(m.text) {
			if !was[line] {
				differ[m.name] += strings.TrimRight(line, " \n") + "\n"
			}
		}
	}
	return differ
}

func TestQueryLosesOneConditionAtATime(t *testing.T) {
	const text = `-- name: Claim :one
UPDATE jobs SET state = 'busy'
WHERE id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND (j.free OR NOT j.held)
    ORDER BY j.id
    LIMIT 1
    FOR UPDATE OF j SKIP LOCKED
) AND state = 'free' -- once; only
    AND x BETWEEN 1 AND 9 AND y
RETURNING *;
`
	query := source{engine: dialects[0], text: text, sql: tokens(text), subject: "Claim"}
	query.query()
	want := map[string]string{
		"sqlite Claim without j.host = ?1":                 "WHERE id = (SELECT j.id FROM jobs AS j WHERE (j.host = ?1 OR TRUE) AND (j.free OR NOT j.held)\n",
		"sqlite Claim without (j.free OR NOT j.held)":      "WHERE id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND ((j.free OR NOT j.held) OR TRUE)\n",
		"sqlite Claim without j.free":                      "WHERE id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND ((j.free AND FALSE) OR NOT j.held)\n",
		"sqlite Claim without NOT j.held":                  "WHERE id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND (j.free OR (NOT j.held AND FALSE))\n",
		"sqlite Claim without ORDER BY j.id":               "\n",
		"sqlite Claim without LIMIT 1":                     "    LIMIT 1000000 + 1\n",
		"sqlite Claim without FOR UPDATE OF j SKIP LOCKED": "\n",
		"sqlite Claim without SKIP LOCKED":                 "    FOR UPDATE OF j\n",
		"sqlite Claim without x BETWEEN 1 AND 9":           "    AND (x BETWEEN 1 AND 9 OR TRUE) AND y\n",
		"sqlite Claim without y":                           "    AND x BETWEEN 1 AND 9 AND (y OR TRUE)\n",
		"sqlite Claim without state = 'free'":              ") AND (state = 'free' OR TRUE) -- once; only\n",
		"sqlite Claim without id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND (j.free OR NOT j.held) OR…": "WHERE (id = (SELECT j.id FROM jobs AS j WHERE j.host = ?1 AND (j.free OR NOT j.held)\n) OR TRUE) AND state = 'free' -- once; only\n",
	}
	if diff := cmp.Diff(want, changes(text, query.mutants)); diff != "" {
		t.Errorf("mutants (-want +got):\n%s", diff)
	}
}

func TestSchemaLosesOneConstraintOrRuleAtATime(t *testing.T) {
	const text = `CREATE TABLE jobs (
    id BIGINT PRIMARY KEY,
    host TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE
);
CREATE TRIGGER frozen
BEFORE UPDATE OF host, state ON jobs
WHEN (OLD.id, OLD.host) IS NOT (NEW.id, NEW.host)
    OR CASE NEW.state WHEN 'busy' THEN coalesce(NEW.a, NEW.b) IS NULL ELSE NEW.c = 1 END
BEGIN
    SELECT RAISE(ABORT, 'frozen');
END;
CREATE VIEW idle AS
SELECT j.id FROM jobs AS j JOIN hosts AS h ON h.id = j.host LEFT JOIN rooms AS r ON r.id = h.room
WHERE greatest(j.a, j.b) < j.c;
INSERT INTO jobs SELECT j.id FROM jobs AS j WHERE j.free;
CREATE TRIGGER timed
BEFORE INSERT ON jobs
BEGIN
    SELECT RAISE(ABORT, 'timed')
    WHERE EXISTS (SELECT 1 FROM (SELECT NEW.a AS x UNION ALL SELECT NEW.b) AS t WHERE t.x)
        OR CASE WHEN NEW.a THEN NEW.b ELSE NEW.c END IS NOT TRUE;
    SELECT RAISE(ABORT, 'over') WHERE NEW.over;
END;
CREATE TRIGGER kept BEFORE DELETE ON jobs
BEGIN
    SELECT RAISE(ABORT, 'kept');
END;
`
	migration := source{engine: dialects[0], text: text, sql: tokens(text)}
	migration.schema()
	const cases = "    OR CASE NEW.state WHEN 'busy' THEN coalesce(NEW.a, NEW.b) IS NULL ELSE NEW.c = 1 END\n"
	const exists = "EXISTS (SELECT 1 FROM (SELECT NEW.a AS x UNION ALL SELECT NEW.b) AS t WHERE t.x)"
	const choice = "CASE WHEN NEW.a THEN NEW.b ELSE NEW.c END IS NOT TRUE"
	want := map[string]string{
		"sqlite jobs id without PRIMARY KEY":                                 "    id BIGINT ,\n",
		"sqlite jobs host without NOT NULL":                                  "    host TEXT  REFERENCES hosts (id) ON DELETE CASCADE\n",
		"sqlite jobs host without REFERENCES hosts (id) ON DELETE CASCADE":   "    host TEXT NOT NULL\n",
		"sqlite jobs host without ON DELETE CASCADE":                         "    host TEXT NOT NULL REFERENCES hosts (id)\n",
		"sqlite frozen never fires":                                          "WHEN (FALSE)\n",
		"sqlite frozen without (OLD.id, OLD.host) IS NOT (NEW.id, NEW.host)": "WHEN ((OLD.id, OLD.host) IS NOT (NEW.id, NEW.host) AND FALSE)\n",
		"sqlite frozen without OLD.id in (OLD.id…":                           "WHEN ( OLD.host) IS NOT ( NEW.host)\n",
		"sqlite frozen without OLD.host in (OLD.id…":                         "WHEN (OLD.id) IS NOT (NEW.id)\n",
		"sqlite frozen without coalesce(NEW.a, NEW.b) IS NULL":               strings.Replace(cases, "coalesce(NEW.a, NEW.b) IS NULL", "(coalesce(NEW.a, NEW.b) IS NULL OR TRUE)", 1),
		"sqlite frozen without NEW.a in coalesce(…":                          strings.Replace(cases, "NEW.a,", "NULL,", 1),
		"sqlite frozen without NEW.b in coalesce(…":                          strings.Replace(cases, ", NEW.b", ", NULL", 1),
		"sqlite frozen without NEW.c = 1":                                    strings.Replace(cases, "NEW.c = 1", "(NEW.c = 1 OR TRUE)", 1),
		"sqlite frozen without host in UPDATE OF…":                           "BEFORE UPDATE OF  state ON jobs\n",
		"sqlite frozen without state in UPDATE OF…":                          "BEFORE UPDATE OF host ON jobs\n",
		"sqlite idle without h.id = j.host":                                  "SELECT j.id FROM jobs AS j JOIN hosts AS h ON (h.id = j.host OR TRUE) LEFT JOIN rooms AS r ON r.id = h.room\n",
		"sqlite idle without r.id = h.room":                                  "SELECT j.id FROM jobs AS j JOIN hosts AS h ON h.id = j.host LEFT JOIN rooms AS r ON (r.id = h.room OR TRUE)\n",
		"sqlite idle without greatest(j.a, j.b) < j.c":                       "WHERE (greatest(j.a, j.b) < j.c OR TRUE);\n",
		"sqlite idle without j.a in greatest(…":                              "WHERE greatest(j.b, j.b) < j.c;\n",
		"sqlite idle without j.b in greatest(…":                              "WHERE greatest(j.a, j.a) < j.c;\n",
		"sqlite timed never fires":                                           "WHEN (FALSE) BEGIN\n",
		"sqlite timed without " + exists:                                     "    WHERE (" + exists + " AND FALSE)\n",
		"sqlite timed without NEW.a in SELECT…":                              "    WHERE EXISTS (SELECT 1 FROM (SELECT NULL AS x UNION ALL SELECT NEW.b) AS t WHERE t.x)\n",
		"sqlite timed without NEW.b in SELECT…":                              "    WHERE EXISTS (SELECT 1 FROM (SELECT NEW.a AS x UNION ALL SELECT NULL) AS t WHERE t.x)\n",
		"sqlite timed without t.x":                                           "    WHERE EXISTS (SELECT 1 FROM (SELECT NEW.a AS x UNION ALL SELECT NEW.b) AS t WHERE (t.x OR TRUE))\n",
		"sqlite timed without " + choice:                                     "        OR (" + choice + " AND FALSE);\n",
		"sqlite timed without NEW.b":                                         "        OR CASE WHEN NEW.a THEN (NEW.b OR TRUE) ELSE NEW.c END IS NOT TRUE;\n",
		"sqlite timed without NEW.c":                                         "        OR CASE WHEN NEW.a THEN NEW.b ELSE (NEW.c OR TRUE) END IS NOT TRUE;\n",
		"sqlite timed without NEW.over":                                      "    SELECT RAISE(ABORT, 'over') WHERE (NEW.over OR TRUE);\n",
		"sqlite kept never fires":                                            "WHEN (FALSE) BEGIN\n",
		"sqlite frozen without " + strings.TrimSpace(cases[len("    OR "):]): "    OR (" + strings.TrimSpace(cases[len("    OR "):]) + " AND FALSE)\n",
	}
	if diff := cmp.Diff(want, changes(text, migration.mutants)); diff != "" {
		t.Errorf("mutants (-want +got):\n%s", diff)
	}
}

// The code that reads the SQL skips syntax that it does not know, so this test looks for the triggers and the writing
// queries by pattern.
func TestEveryTriggerAndEveryChangeHasAMutant(t *testing.T) {
	wanted := map[string]*regexp.Regexp{
		"never fires": regexp.MustCompile(`CREATE TRIGGER (\w+)`),
		"without ":    regexp.MustCompile("`-- name: (\\w+) :\\w+\n+(?:UPDATE|DELETE)"),
	}
	for _, d := range dialects {
		mutants, err := d.mutants("../..")
		if err != nil {
			t.Fatal(err)
		}
		var names strings.Builder
		for _, m := range mutants {
			names.WriteString(m.name + "\n")
		}
		for _, pattern := range []string{d.schema, d.queries} {
			paths, err := filepath.Glob("../../" + pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for how, subject := range wanted {
					for _, s := range subject.FindAllSubmatch(text, -1) {
						if !strings.Contains(names.String(), d.name+" "+string(s[1])+" "+how) {
							t.Errorf("%s: %s has no mutant", path, s[1])
						}
					}
				}
			}
		}
	}
}
