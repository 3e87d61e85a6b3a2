package readme_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var moduleLine = regexp.MustCompile(`(?m)^module (\S+)$`)

// newModule returns a directory with the go.mod of a program that imports this checkout. It is a module of its own,
// outside of the checkout, so that it sees what an importer sees and no other program in the checkout sees it.
func newModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile(filepath.Join(checkout, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	name := moduleLine.FindSubmatch(gomod)
	if name == nil {
		t.Fatal("go.mod names no module")
	}
	gomod = moduleLine.ReplaceAll(gomod, []byte("module readme"))
	gomod = fmt.Appendf(gomod, "\nrequire %s v0.0.0\n\nreplace %[1]s => %q\n", name[1], checkout)
	write(t, filepath.Join(dir, "go.mod"), gomod)
	gosum, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.sum"), gosum)
	watch(t, checkout)
	return dir
}

// watch makes go test read the sources' times, or it would repeat an old result from its cache: it doesn't know what
// the go command below reads.
func watch(t *testing.T, checkout string) {
	t.Helper()
	for _, folder := range []string{"remediation", "db", "schema", "internal/migration"} {
		err := filepath.WalkDir(filepath.Join(checkout, folder), func(path string, _ fs.DirEntry, err error) error {
			if ext := filepath.Ext(path); err == nil && (ext == ".go" || ext == ".sql") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// vet compiles and vets every go block, each as a package of its own, and says what is wrong at which line.
func vet(t *testing.T, blocks []block) (problems []string) {
	t.Helper()
	dir := newModule(t)
	for _, b := range blocks {
		if b.lang != "go" {
			continue
		}
		source, err := b.source()
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		write(t, filepath.Join(dir, b.folder(), "readme.go"), []byte(source))
	}
	// A fragment may well end in an endless loop, and what its wrapper adds can't be reached then.
	if out, err := command(t, dir, "go", "vet", "-unreachable=false", "./..."); err != nil {
		problems = append(problems, fmt.Sprintf("%s%v", out, err))
	}
	return problems
}

// run builds a program and returns what it prints when it runs in an empty directory.
func run(t *testing.T, program block) string {
	t.Helper()
	dir, binary := newModule(t), filepath.Join(t.TempDir(), "program")
	source, err := program.source()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, program.folder(), "readme.go"), []byte(source))
	if out, err := command(t, dir, "go", "build", "-o", binary, "./"+program.folder()); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	out, err := command(t, t.TempDir(), binary)
	if err != nil {
		t.Fatalf("%s: the program fails: %v\n%s", program.at(), err, out)
	}
	return out
}

func command(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=") // whatever the caller's are about, it is not this module
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
