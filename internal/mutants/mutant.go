package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is a migration or a query without one of its guards.
type mutant struct {
	engine dialect
	name   string // engine, what the guard belongs to, and how it was dropped
	path   string // of the migration; a query has none
	text   string
}

// dialect is an engine, with the paths of its SQL and of its tests.
type dialect struct{ name, schema, queries, tests string }

var dialects = []dialect{
	{"sqlite", "schema/sqlite/*.up.sql", "db/sqlitedb/*.sql.go", "remediation/sqlite"},
	{"postgres", "schema/postgres/*.up.sql", "db/postgresdb/*.sql.go", "remediation/postgres"},
}

// needsServer reports whether the tests run on PostgreSQL.
func (d dialect) needsServer() bool { return d.tests == "remediation/postgres" }

// generated matches a query in the generated code. The queries are read there, and not in queries/, because that is the
// code that runs. The two texts differ only in the names of parameters.
var generated = regexp.MustCompile("const (\\w+) = (`-- name: (\\w+) :\\w+\n[^`]*`)")

// mutants derives all mutants of the engine from the files under root.
func (d dialect) mutants(root string) ([]mutant, error) {
	var list []mutant
	for _, pattern := range []string{d.schema, d.queries} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(paths) == 0 {
			return nil, fmt.Errorf("no file is %s under %s: run this at the root of the repository", pattern, root)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if pattern == d.schema {
				migration := source{engine: d, path: path, text: string(text), sql: tokens(string(text))}
				migration.schema()
				list = append(list, migration.mutants...)
				continue
			}
			for _, q := range generated.FindAllStringSubmatch(string(text), -1) {
				body := strings.Trim(q[2], "`")
				query := source{engine: d, text: body, sql: tokens(body), subject: q[3]}
				if strings.HasPrefix(query.subject, "Export") { // postgres.Import calls these, so its tests check them
					query.engine.tests = dialects[1].tests
				}
				query.query()
				list = append(list, query.mutants...)
			}
		}
	}
	seen := map[string]int{}
	for i, m := range list {
		if seen[m.name]++; seen[m.name] > 1 {
			list[i].name += fmt.Sprintf(" (%d)", seen[m.name])
		}
	}
	return list, nil
}

// source collects the mutants of one migration or query.
type source struct {
	engine     dialect
	path, text string
	sql        sql
	subject    string // the current trigger, table, function or query
	mutants    []mutant
}

// cut replaces the tokens from (inclusive) to (exclusive) by other text.
type cut struct {
	from, to int
	with     string
}

// drop adds a mutant with these cuts. how is the end of its name.
func (s *source) drop(how string, cuts ...cut) {
	slices.SortFunc(cuts, func(a, b cut) int { return b.from - a.from })
	text := s.text
	for _, c := range cuts {
		at, end := s.sql[c.from].at, s.sql[c.from].at // an empty range inserts the text
		if c.to > c.from {
			end = s.sql[c.to-1].end
		}
		text = text[:at] + c.with + text[end:]
	}
	name := s.engine.name + " " + s.subject + " " + how
	s.mutants = append(s.mutants, mutant{s.engine, name, s.path, text})
}

// remove adds a mutant without these tokens.
func (s *source) remove(from, to int) { s.drop("without "+s.words(from, to), cut{from, to, ""}) }

// original returns the source text of tokens, with its comments.
func (s *source) original(from, to int) string { return s.text[s.sql[from].at:s.sql[to-1].end] }

// words returns tokens on one line, shortened for a name.
func (s *source) words(from, to int) string {
	var line strings.Builder
	for i := from; i < to; i++ {
		if i > from && s.sql[i-1].end < s.sql[i].at {
			line.WriteByte(' ')
		}
		line.WriteString(s.sql[i].text)
	}
	if line.Len() > 90 {
		return line.String()[:80] + "…"
	}
	return line.String()
}
