package readme_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// folder is the package of a block's own that it is compiled as.
func (b block) folder() string { return fmt.Sprintf("line%d", b.line) }

// source is the file that a go block is compiled as. Its line directives lead back to the Markdown file.
func (b block) source() (string, error) {
	if b.isProgram() {
		return lineDirective(b.file, b.line) + b.text, nil
	}
	shown, rest, err := b.ownImports()
	if err != nil {
		return "", err
	}
	code, err := rest.code()
	if err != nil {
		return "", err
	}

	// What is given is declared only where it is used: a fragment about one engine must compile without the other.
	var own, common, vars strings.Builder
	packages := code.packages
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !code.names[name] || code.declares[name] {
			continue
		}
		fmt.Fprintf(&vars, "var %s %s\n", name, given[name])
		of, err := parser.ParseExpr(given[name])
		if err != nil {
			return "", fmt.Errorf("given[%q]: %w", name, err)
		}
		_, needed := namesIn(of)
		maps.Copy(packages, needed)
	}
	for _, i := range shown {
		name := i.name
		if !packages[name] {
			name = "_" // unused, but it is shown, so it must exist
		}
		delete(packages, i.name)
		fmt.Fprintf(&own, "%simport %s %q\n", lineDirective(b.file, i.line), name, i.path)
	}
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		if packages[name] && !code.declares[name] {
			fmt.Fprintf(&common, "import %s %q\n", name, imports[name])
		}
	}
	return "package fragment\n" + common.String() + own.String() + vars.String() + code.text, nil
}

func lineDirective(file string, line int) string { return fmt.Sprintf("//line %s:%d\n", file, line) }

type ownImport struct {
	name, path string
	line       int
}

// ownImports cuts off the imports that a fragment begins with.
func (b block) ownImports() (own []ownImport, rest block, err error) {
	const clause = "package fragment;"
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", clause+b.text, parser.ImportsOnly)
	if err != nil {
		return nil, b, fmt.Errorf("%s: %w", b.at(), err)
	}
	for _, spec := range file.Imports {
		i := ownImport{line: b.line - 1 + fset.Position(spec.Pos()).Line}
		if i.path, err = strconv.Unquote(spec.Path.Value); err != nil {
			return nil, b, fmt.Errorf("%s:%d: %w", b.file, i.line, err)
		}
		i.name = packageName(i.path)
		if spec.Name != nil {
			i.name = spec.Name.Name
		}
		own = append(own, i)
	}
	if n := len(file.Decls); n > 0 {
		end := fset.Position(file.Decls[n-1].End()).Offset - len(clause)
		b.line += strings.Count(b.text[:end], "\n")
		b.text = b.text[end:]
	}
	return own, b, nil
}

var majorVersion = regexp.MustCompile(`^v\d+$`)

func packageName(importPath string) string {
	if majorVersion.MatchString(path.Base(importPath)) {
		importPath = path.Dir(importPath)
	}
	return path.Base(importPath)
}

// code is a fragment in a form that compiles after the imports and variables that it uses.
type code struct {
	text     string
	names    map[string]bool // every identifier
	packages map[string]bool // those that something is selected from, so that they may be packages
	declares map[string]bool // those that it declares for the whole package
}

func (b block) code() (code, error) {
	text := lineDirective(b.file, b.line) + b.text
	file, declErr := parser.ParseFile(token.NewFileSet(), "", "package fragment\n"+text, 0)
	if declErr == nil {
		names, packages := namesIn(file)
		return code{text, names, packages, declared(file.Decls)}, nil
	}
	text = "func _() error {\n" + text
	const end = "return nil\n}\n"
	file, err := parser.ParseFile(token.NewFileSet(), "", "package fragment\n"+text+end, 0)
	if err != nil {
		return code{}, fmt.Errorf("%w; and as statements: %w", declErr, err)
	}
	body := file.Decls[0].(*ast.FuncDecl).Body
	for _, name := range variables(body.List) {
		text += "_ = " + name + "\n"
	}
	names, packages := namesIn(file)
	return code{text + end, names, packages, nil}, nil
}

func namesIn(node ast.Node) (names, packages map[string]bool) {
	names, packages = make(map[string]bool), make(map[string]bool)
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			names[n.Name] = true
		case *ast.SelectorExpr:
			if from, ok := n.X.(*ast.Ident); ok {
				packages[from.Name] = true
			}
		}
		return true
	})
	return names, packages
}

// declared are the names of functions, types, variables and constants, not of methods.
func declared(decls []ast.Decl) map[string]bool {
	names := make(map[string]bool)
	for _, decl := range decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = d.Recv == nil || names[d.Name.Name]
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	return names
}

// variables are those that the statements themselves declare, not the blocks inside them.
func variables(statements []ast.Stmt) (names []string) {
	for _, statement := range statements {
		var targets []ast.Expr
		switch s := statement.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				targets = s.Lhs
			}
		case *ast.DeclStmt:
			for _, spec := range s.Decl.(*ast.GenDecl).Specs {
				if value, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range value.Names {
						targets = append(targets, name)
					}
				}
			}
		}
		for _, target := range targets {
			if name, ok := target.(*ast.Ident); ok && name.Name != "_" {
				names = append(names, name.Name)
			}
		}
	}
	return names
}
