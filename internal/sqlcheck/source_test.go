package sqlcheck

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// These tests check that the code passes only constants to a database as SQL, so that no input can become SQL.

// notConstant lists the functions that may pass SQL that is not a constant, and why each is safe.
var notConstant = map[string]string{
	"sqlite.setBusyTimeout": "PRAGMA takes no parameters, and only an integer is appended",
	"sqlite.driver.Run":     "the text of an embedded migration",
	"postgres.driver.Run":   "the text of an embedded migration",

	"sqlite.driver.restoreRules":   "statements of an embedded migration",
	"postgres.driver.restoreRules": "statements of an embedded migration, and names in them",

	"postgres.checkRows":   "constants from the list above it",
	"postgres.checkTable":  "a table of that list, and column names from PostgreSQL's catalog",
	"postgres.continueIDs": "one of the constants in the map above it; the values are parameters",
}

// takesSQL lists the methods of database/sql, pgx and the generated code whose string parameters are SQL.
var takesSQL = map[string]bool{
	"Exec": true, "ExecContext": true, "Query": true, "QueryContext": true, "QueryRow": true, "QueryRowContext": true,
	"Prepare": true, "PrepareContext": true, "Queue": true,
}

// Every SQL text is a constant, so input reaches SQL only as a parameter.
func TestHandwrittenCodeBuildsNoSQL(t *testing.T) {
	found := map[string]bool{}
	compiled := exports(t)
	for _, files := range handwritten(t) {
		for _, built := range builtSQL(t, compiled, files) {
			if notConstant[built.function] == "" {
				t.Errorf("%s: %s passes SQL that is not a constant: %s", built.at, built.function, built.text)
			}
			found[built.function] = true
		}
	}
	allowed, used := slices.Sorted(maps.Keys(notConstant)), slices.Sorted(maps.Keys(found))
	if diff := cmp.Diff(allowed, used); diff != "" {
		t.Errorf("functions that pass SQL that is not a constant (-allowed +found):\n%s", diff)
	}
}

// The check finds every way to build SQL in testdata/built.go, and reports no constant.
func TestCheckFindsEveryWayToBuildSQL(t *testing.T) {
	want := []string{
		"asValue", "changed", "formatted", "handedOn", "joined", "prepared", "queued", "store.embedded", "throughAnother",
	}
	var got []string
	for _, built := range builtSQL(t, exports(t), []string{"testdata/built.go"}) {
		got = append(got, strings.TrimPrefix(built.function, "sample."))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("functions that build SQL (-want +got):\n%s", diff)
	}
}

// handwritten returns the Go files of the packages that an importer runs, by import path, without tests and generated
// code.
func handwritten(t *testing.T) map[string][]string {
	t.Helper()
	packages := map[string][]string{}
	list := golist(t, "-f", `{{.ImportPath}}{{$d := .Dir}}{{range .GoFiles}} {{$d}}/{{.}}{{end}}`, "../../remediation/...", "../migration")
	for _, line := range list {
		fields := strings.Fields(line)
		packages[fields[0]] = fields[1:]
	}
	if len(packages) < 4 {
		t.Fatalf("only %d packages: %v", len(packages), packages)
	}
	return packages
}

func golist(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// exports returns the files with export data, by import path, of all packages that the handwritten code imports.
func exports(t *testing.T) map[string]string {
	t.Helper()
	compiled := map[string]string{}
	for _, line := range golist(t, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "../../remediation/...", "../migration") {
		path, file, _ := strings.Cut(line, " ")
		compiled[path] = file
	}
	return compiled
}

// builtText is an SQL text that is not a constant.
type builtText struct {
	function, text string
	at             token.Position
}

// source is a package that is checked.
type source struct {
	files    *token.FileSet
	info     *types.Info
	forwards map[types.Object]bool // functions that pass a parameter on as SQL; their calls are checked instead
	found    []builtText
}

// builtSQL returns the SQL texts in a package that are not constants. names are its files, compiled the result of
// exports.
func builtSQL(t *testing.T, compiled map[string]string, names []string) []builtText {
	t.Helper()
	s := source{files: token.NewFileSet(), forwards: map[types.Object]bool{}, info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{},
	}}
	var parsed []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(s.files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	config := types.Config{Importer: importer.ForCompiler(s.files, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(compiled[path])
	})}
	if _, err := config.Check("checked", s.files, parsed, s.info); err != nil {
		t.Fatal(err)
	}
	// Each pass may find functions that forward SQL and are called in a file that was checked before. Repeat until none
	// is new.
	for known := -1; known < len(s.forwards); {
		known, s.found = len(s.forwards), nil
		for _, file := range parsed {
			for _, decl := range file.Decls {
				s.check(file.Name.Name, decl)
			}
		}
	}
	return s.found
}

// check adds the SQL texts of a declaration that are not constants to s.found, and its function to s.forwards if it
// passes a parameter on.
func (s *source) check(within string, decl ast.Decl) {
	function, _ := decl.(*ast.FuncDecl)
	if function != nil {
		within += "." + receiver(function) + function.Name.Name
	}
	called := map[*ast.Ident]bool{}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := lastIdent(n.Fun)
			for _, text := range s.sqlOf(name, n.Args) {
				called[name] = true
				if s.info.Types[text].Value != nil {
					continue
				}
				if s.isParameter(text, function) && (takesSQL[function.Name.Name] || !function.Name.IsExported()) {
					s.forwards[s.info.Defs[function.Name]] = true
					continue
				}
				s.found = append(s.found, builtText{within, types.ExprString(text), s.files.Position(text.Pos())})
			}
		case *ast.Ident:
			if s.sqlParameters(n) != nil && !called[n] { // a function value: its calls can't be checked
				s.found = append(s.found, builtText{within, n.Name, s.files.Position(n.Pos())})
			}
		}
		return true
	})
}

// sqlParameters returns the positions of a function's parameters that are SQL.
func (s *source) sqlParameters(name *ast.Ident) (positions []int) {
	function, ok := s.info.Uses[name].(*types.Func)
	if !ok || !takesSQL[function.Name()] && !s.forwards[function] {
		return nil
	}
	params := function.Signature().Params()
	for i := range params.Len() {
		if types.Identical(params.At(i).Type(), types.Typ[types.String]) {
			positions = append(positions, i)
		}
	}
	return positions
}

// sqlOf returns the arguments of a call that are SQL.
func (s *source) sqlOf(name *ast.Ident, args []ast.Expr) (texts []ast.Expr) {
	if name == nil {
		return nil
	}
	for _, i := range s.sqlParameters(name) {
		texts = append(texts, args[i])
	}
	return texts
}

// isParameter reports whether text is a parameter of function that the function does not change.
func (s *source) isParameter(text ast.Expr, function *ast.FuncDecl) bool {
	name, ok := text.(*ast.Ident)
	if !ok || function == nil {
		return false
	}
	object, found := s.info.Uses[name], false
	for _, field := range function.Type.Params.List {
		for _, param := range field.Names {
			found = found || s.info.Defs[param] == object
		}
	}
	ast.Inspect(function.Body, func(n ast.Node) bool {
		if assignment, ok := n.(*ast.AssignStmt); ok {
			for _, left := range assignment.Lhs {
				if changed, ok := left.(*ast.Ident); ok && s.info.Uses[changed] == object {
					found = false
				}
			}
		}
		return true
	})
	return found
}

// lastIdent returns the name of the called function or method.
func lastIdent(called ast.Expr) *ast.Ident {
	switch called := called.(type) {
	case *ast.Ident:
		return called
	case *ast.SelectorExpr:
		return called.Sel
	}
	return nil
}

// receiver returns the type of a method and a dot, or "" for a function.
func receiver(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return ""
	}
	return strings.TrimLeft(types.ExprString(function.Recv.List[0].Type), "*") + "."
}
