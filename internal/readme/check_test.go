package readme_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What checks the README is code too: these tests are about it.

func TestReadmeThatIsRightPasses(t *testing.T) {
	blocks := blocksOf(t, filepath.Join("testdata", "good.md"))
	for _, problem := range vet(t, blocks) {
		t.Error(problem)
	}
	for _, problem := range withoutRule(t, blocks, filepath.Join("testdata", "Makefile")) {
		t.Error(problem)
	}
	program, shown := firstProgram(blocks)
	if program == nil || shown == nil {
		t.Fatalf("the first program is %v and its output %v, want both", program, shown)
	}
	if printed := run(t, *program); !strings.Contains(printed, shown.text) {
		t.Errorf("the program prints %q, want %q in it", printed, shown.text)
	}
}

func TestEachWrongBlockIsReportedAtItsLine(t *testing.T) {
	blocks := blocksOf(t, filepath.Join("testdata", "bad.md"))
	wanted := regexp.MustCompile(`(?s)^(.*)// want "([^"]*)"`)
	for _, b := range blocks {
		if b.lang != "go" {
			continue
		}
		match := wanted.FindStringSubmatch(b.text)
		at := fmt.Sprintf("bad.md:%d:", b.line+strings.Count(match[1], "\n"))
		problems := strings.Join(vet(t, []block{b}), "\n")
		if !regexp.MustCompile(at + `.*` + regexp.QuoteMeta(match[2])).MatchString(problems) {
			t.Errorf("%s is not reported with %q, only:\n%s", at, match[2], problems)
		}
	}
	if _, shown := firstProgram(blocks); shown != nil {
		t.Errorf("%s is taken for the output of a program in another section", shown.at())
	}
	unknown := withoutRule(t, blocks, filepath.Join("testdata", "Makefile"))
	if len(unknown) != 1 || !strings.Contains(unknown[0], `no rule for "no-such-target"`) {
		t.Errorf("of the make targets %q is reported, want no-such-target alone", unknown)
	}
}

func TestMakeTargetsAreFoundInScripts(t *testing.T) {
	script := "$ make a  # make b\ncd x && VAR=1 make VAR=2 -k \\\n c d | tee make; make; echo make e\n"
	if diff := cmp.Diff([]string{"a", "c", "d"}, makeTargets(script)); diff != "" {
		t.Error(diff)
	}
}
