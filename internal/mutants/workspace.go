package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// workspace is a copy of the repository, in which one mutant at a time is tried. The copy reads its schema and queries
// when the tests run, so that the tests are built only once.
type workspace struct {
	dir    string
	built  map[string]string // test binaries by folder
	recent []string          // conformance tests that noticed a mutant, the latest first
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
		if err := w.replaceQueries(d); err != nil {
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
		case entry.Name() == ".git" && entry.IsDir(): // a directory, except in a linked worktree
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

// queryEnv is the environment variable with the mutant of a query: the engine, a space and the text. Both engines have
// queries of the same names.
const queryEnv = "ACTIONLEDGER_MUTANT_QUERY"

// replaceQueries changes the generated code so that the mutant in queryEnv replaces the query of the same name.
func (w *workspace) replaceQueries(d dialect) error {
	paths, err := filepath.Glob(filepath.Join(w.dir, d.queries))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		replaceable := generated.ReplaceAllString(string(text), "var $1 = mutant($2)")
		if err := os.WriteFile(path, []byte(replaceable), 0o644); err != nil {
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
