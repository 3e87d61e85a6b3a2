package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// These tests check every Markdown file of the repository: its code blocks, make targets, versions and links.
//
// A Go block is a copy of code that compiles and runs in a test. The comment above the block names that code. It is a
// file, such as <!-- internal/readme/main.go -->, or a region of a file, such as <!-- remediation/example_test.go#claim
// -->. In the file, the region is between the lines "// region: claim" and "// endregion".

const (
	root       = "../.."
	runProgram = "ACTIONLEDGER_README_PROGRAM" // makes the test binary the program of README.md
)

func TestMain(m *testing.M) {
	if os.Getenv(runProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestProgramPrintsWhatReadmeShows(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.CommandContext(t.Context(), self)
	program.Dir = t.TempDir()
	program.Env = append(os.Environ(), runProgram+"=1")
	printed, err := program.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	blocks := blocksOf(t, "README.md")
	at := slices.IndexFunc(blocks, func(b block) bool { return b.code == "internal/readme/main.go" })
	if at < 0 || at+1 == len(blocks) || blocks[at+1].lang != "text" {
		t.Fatal("README.md does not show the program and, in a text block after it, what it prints")
	}
	if diff := cmp.Diff(string(printed), blocks[at+1].text); diff != "" {
		t.Errorf("output of the program (-printed +in README.md):\n%s", diff)
	}
}

func TestGoBlocksAreCodeThatRuns(t *testing.T) {
	shown := map[string]bool{}
	for _, path := range files(t, ".md") {
		for _, b := range blocksOf(t, path) {
			if b.lang != "go" {
				continue
			}
			shown[b.code] = true
			if b.code == "" {
				t.Errorf("%s: no comment names the code of this block:\n%s", path, b.text)
			} else if diff := cmp.Diff(codeOf(t, b.code), b.text); diff != "" {
				t.Errorf("%s: block of %q (-code +block):\n%s", path, b.code, diff)
			}
		}
	}
	for _, path := range files(t, ".go") {
		for _, mark := range regexp.MustCompile(`(?m)^\t*// region: (\w+)$`).FindAllStringSubmatch(read(t, path), -1) {
			if code := path + "#" + mark[1]; !shown[code] {
				t.Errorf("no Markdown file shows %s", code)
			}
		}
	}
}

var (
	makeCommand = regexp.MustCompile(`(?m)(?:^|[;&|]) *make ([^;&|\n]+)`)
	optional    = regexp.MustCompile(`(?m)(^| )(#.*|\w+=\S+|-\S+)`) // comments, variables and flags
)

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, path := range files(t, ".md") {
		scripts := regexp.MustCompile("`(make [^`\n]+)`").FindAllString(read(t, path), -1)
		for _, b := range blocksOf(t, path) {
			if b.lang == "sh" {
				scripts = append(scripts, b.text)
			}
		}
		for _, script := range scripts {
			script = optional.ReplaceAllString(strings.Trim(script, "`"), "")
			for _, command := range makeCommand.FindAllStringSubmatch(script, -1) {
				for _, target := range strings.Fields(command[1]) {
					if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + ":").MatchString(makefile) {
						t.Errorf("%s: the Makefile has no target %q", path, target)
					}
				}
			}
		}
	}
}

func TestVersionsAreThoseOfGoMod(t *testing.T) {
	gomod := read(t, "go.mod")
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(gomod)[1]
	if !strings.Contains(read(t, "README.md"), "Go "+goVersion) {
		t.Errorf("README.md does not say that Go %s is needed", goVersion)
	}
	for _, path := range files(t, ".md") {
		for _, tool := range regexp.MustCompile(`(\S+)/cmd/\w+@(v[\w.]+)`).FindAllStringSubmatch(read(t, path), -1) {
			if !strings.Contains(gomod, tool[1]+" "+tool[2]) {
				t.Errorf("%s: go.mod does not require %s %s", path, tool[1], tool[2])
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]+)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

func TestLinkTargetsExist(t *testing.T) {
	for _, path := range files(t, ".md") {
		for _, to := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, path), ""), -1) {
			file, anchor := filepath.Join(filepath.Dir(path), to[1]), to[2]
			if to[1] == "" {
				file = path
			}
			if strings.Contains(to[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: %v", path, err)
			} else if anchor != "" && !slices.Contains(anchors(t, file), anchor) {
				t.Errorf("%s: %s has no heading %s", path, file, anchor)
			}
		}
	}
}

// anchors returns the anchors of a Markdown file's headings, such as "#set-up".
func anchors(t *testing.T, path string) (anchors []string) {
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(read(t, path), ""), -1) {
		words := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(h[1]), "")
		anchors = append(anchors, "#"+strings.ReplaceAll(words, " ", "-"))
	}
	return anchors
}

// block is a fenced block of a Markdown file. code is the comment above it, which names its source.
type block struct{ code, lang, text string }

var fence = regexp.MustCompile("(?ms)^(?:<!-- (\\S+) -->\n)?```(\\w*)\n(.*?)^```$")

func blocksOf(t *testing.T, path string) (blocks []block) {
	t.Helper()
	text := read(t, path)
	for _, b := range fence.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block{b[1], b[2], b[3]})
	}
	if strings.Count(text, "```") != 2*len(blocks) {
		t.Errorf("%s has a fence that is not closed, or that is not at the start of its line", path)
	}
	return blocks
}

// codeOf returns the code that a comment above a block names. It removes the indentation of a region.
func codeOf(t *testing.T, name string) string {
	t.Helper()
	path, region, isRegion := strings.Cut(name, "#")
	if !isRegion {
		return read(t, path)
	}
	found := regexp.MustCompile(`(?ms)^(\t*)// region: ` + region + `\n(.*?)^\t*// endregion$`).FindStringSubmatch(read(t, path))
	if found == nil {
		t.Errorf("%s has no region %q", path, region)
		return ""
	}
	return strings.Trim(regexp.MustCompile(`(?m)^`+found[1]).ReplaceAllString(found[2], ""), "\n") + "\n"
}

// files returns the paths of the repository's files that end in ext.
func files(t *testing.T, ext string) (paths []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ext {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(fmt.Errorf("read a file of the repository: %w", err))
	}
	return string(text)
}
