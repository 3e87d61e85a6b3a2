package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// workspace is a copy of the repository, in which one mutant at a time is tried. Its schema and queries are read when the
// tests run, so that the tests are built once and not for each mutant.
type workspace struct {
	dir    string
	built  map[string]string // the test binaries
	lately []string          // behaviours that noticed a mutant, the last one first
}

func newWorkspace(dir, root string) (*workspace, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	w := &workspace{dir: dir, built: map[string]string{}}
	if err := w.copy(root); err != nil {
		return nil, err
	}
	migrations := fmt.Sprintf("package schema\n\nimport \"os\"\n\nvar SQLite, Postgres = os.DirFS(%q), os.DirFS(%q)\n",
		filepath.Join(dir, "schema/sqlite"), filepath.Join(dir, "schema/postgres"))
	if err := w.write("schema/schema.go", migrations); err != nil {
		return nil, err
	}
	for _, d := range dialects {
		if err := w.openQueries(d); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *workspace) copy(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git" && entry.IsDir(): // in a linked worktree it is a file
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return w.write(path, string(text))
	})
}

// queryEnv holds the engine and the text of the query that is the mutant: both engines have queries of the same names.
const queryEnv = "ACTIONLEDGER_MUTANT_QUERY"

// openQueries lets the mutant stand in for the generated query of the same name.
func (w *workspace) openQueries(d dialect) error {
	paths, err := filepath.Glob(filepath.Join(w.dir, d.queries))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		open := generated.ReplaceAllString(string(text), "var $1 = mutant($2)")
		if err := os.WriteFile(path, []byte(open), 0o644); err != nil {
			return err
		}
	}
	folder := filepath.Dir(d.queries)
	return w.write(filepath.Join(folder, "mutant.go"), fmt.Sprintf(`package %s

import (
	"os"
	"strings"
)

func mutant(query string) string {
	name, _, _ := strings.Cut(query, "\n")
	engine, text, _ := strings.Cut(os.Getenv(%q), " ")
	if engine == %q && strings.HasPrefix(text, name+"\n") {
		return text
	}
	return query
}
`, filepath.Base(folder), queryEnv, d.name))
}

func (w *workspace) write(path, text string) error {
	to := filepath.Join(w.dir, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(text), 0o644)
}
