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

// notConstant are the functions that give a database a text which is no constant, each with what makes it safe.
var notConstant = map[string]string{
	"sqlite.setBusyTimeout": "PRAGMA takes no parameters, and what is appended is a whole number",
	"sqlite.driver.Run":     "the text of an embedded migration",
	"postgres.driver.Run":   "the text of an embedded migration",

	"sqlite.driver.restoreRules":   "statements of an embedded migration",
	"postgres.driver.restoreRules": "statements of an embedded migration, and names in them",

	"postgres.checkRows":   "constants from the list above it",
	"postgres.checkTable":  "a table of that list, and column names from PostgreSQL's catalog",
	"postgres.continueIDs": "one of the constants in the map above it; what varies is a parameter",
}

// takesSQL are the methods of database/sql, pgx and the generated code whose string parameters are SQL.
var takesSQL = map[string]bool{
	"Exec": true, "ExecContext": true, "Query": true, "QueryContext": true, "QueryRow": true, "QueryRowContext": true,
	"Prepare": true, "PrepareContext": true, "Queue": true,
}

// Text from outside reaches SQL only as a parameter, because every SQL text is a constant.
func TestHandwrittenCodeBuildsNoSQL(t *testing.T) {
	found := map[string]bool{}
	compiled := exports(t)
	for _, files := range handwritten(t) {
		for _, built := range builtSQL(t, compiled, files) {
			if notConstant[built.function] == "" {
				t.Errorf("%s: %s gives a database the SQL text %s", built.at, built.function, built.text)
			}
			found[built.function] = true
		}
	}
	allowed, used := slices.Sorted(maps.Keys(notConstant)), slices.Sorted(maps.Keys(found))
	if diff := cmp.Diff(allowed, used); diff != "" {
		t.Errorf("functions with an SQL text that is no constant (-allowed +found):\n%s", diff)
	}
}

// A check that finds nothing proves nothing: each way to build SQL in here is found, and no constant is.
func TestBuiltSQLIsFoundHoweverItIsHandedOn(t *testing.T) {
	want := []string{"asValue", "changed", "formatted", "handedOn", "joined", "prepared", "queued", "store.embedded", "throughAnother"}
	var got []string
	for _, built := range builtSQL(t, exports(t), []string{"testdata/built.go"}) {
		got = append(got, strings.TrimPrefix(built.function, "sample."))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("functions that build SQL (-want +got):\n%s", diff)
	}
}

// handwritten returns the Go files, without tests, of the packages whose code a program runs and that nobody generated.
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

// exports says where the go command keeps what a package exports, for all that the handwritten code imports.
func exports(t *testing.T) map[string]string {
	t.Helper()
	compiled := map[string]string{}
	for _, line := range golist(t, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "../../remediation/...", "../migration") {
		path, file, _ := strings.Cut(line, " ")
		compiled[path] = file
	}
	return compiled
}

// builtText is an SQL text that is no constant.
type builtText struct {
	function, text string
	at             token.Position
}

// source is one package, with what was found in it.
type source struct {
	files  *token.FileSet
	info   *types.Info
	handOn map[types.Object]bool // functions that hand a parameter of theirs on as SQL: it is looked at where they are called
	found  []builtText
}

func builtSQL(t *testing.T, compiled map[string]string, names []string) []builtText {
	t.Helper()
	s := source{files: token.NewFileSet(), handOn: map[types.Object]bool{}, info: &types.Info{
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
	for known := -1; known < len(s.handOn); { // a function found late may be called in a file read early
		known, s.found = len(s.handOn), nil
		for _, file := range parsed {
			for _, decl := range file.Decls {
				s.look(file.Name.Name, decl)
			}
		}
	}
	return s.found
}

func (s *source) look(within string, decl ast.Decl) {
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
					s.handOn[s.info.Defs[function.Name]] = true
					continue
				}
				s.found = append(s.found, builtText{within, types.ExprString(text), s.files.Position(text.Pos())})
			}
		case *ast.Ident:
			if s.sqlParameters(n) != nil && !called[n] { // as a value it is called where nobody looks
				s.found = append(s.found, builtText{within, n.Name, s.files.Position(n.Pos())})
			}
		}
		return true
	})
}

// sqlParameters are the positions of the parameters that a function takes SQL in, if it does.
func (s *source) sqlParameters(name *ast.Ident) (positions []int) {
	function, ok := s.info.Uses[name].(*types.Func)
	if !ok || !takesSQL[function.Name()] && !s.handOn[function] {
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

func (s *source) sqlOf(name *ast.Ident, args []ast.Expr) (texts []ast.Expr) {
	if name == nil {
		return nil
	}
	for _, i := range s.sqlParameters(name) {
		texts = append(texts, args[i])
	}
	return texts
}

// isParameter reports whether text is a parameter of function, as its caller gave it.
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

// lastIdent is the name in a call: of a function, or of a method after its dot.
func lastIdent(called ast.Expr) *ast.Ident {
	switch called := called.(type) {
	case *ast.Ident:
		return called
	case *ast.SelectorExpr:
		return called.Sel
	}
	return nil
}

// receiver is a method's type and a dot.
func receiver(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return ""
	}
	return strings.TrimLeft(types.ExprString(function.Recv.List[0].Type), "*") + "."
}
