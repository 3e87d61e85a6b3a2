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

// dialect is where an engine's SQL and its tests are.
type dialect struct{ name, schema, queries, tests string }

var dialects = []dialect{
	{"sqlite", "schema/sqlite/*.up.sql", "db/sqlitedb/*.sql.go", "remediation/sqlite"},
	{"postgres", "schema/postgres/*.up.sql", "db/postgresdb/*.sql.go", "remediation/postgres"},
}

// needsServer reports whether the tests are those of PostgreSQL.
func (d dialect) needsServer() bool { return d.tests == "remediation/postgres" }

// Queries are taken from the generated code: it is what runs, and the text of queries/ but for the parameters' names.
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
				if strings.HasPrefix(query.subject, "Export") { // for Import, which is PostgreSQL's
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

// source is a migration or a query whose guards are being collected.
type source struct {
	engine     dialect
	path, text string
	sql        sql
	subject    string // the trigger, table, function or query that is being read
	mutants    []mutant
}

// cut replaces the tokens from and to with other text.
type cut struct {
	from, to int
	with     string
}

// drop adds a mutant in which the cuts were made.
func (s *source) drop(how string, cuts ...cut) {
	slices.SortFunc(cuts, func(a, b cut) int { return b.from - a.from })
	text := s.text
	for _, c := range cuts {
		at, end := s.sql[c.from].at, s.sql[c.from].at // nothing is replaced by what is put in between
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

// original is the text of tokens as it stands in the file, with the comments in it.
func (s *source) original(from, to int) string { return s.text[s.sql[from].at:s.sql[to-1].end] }

// words is tokens on one line, short enough for a name.
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
