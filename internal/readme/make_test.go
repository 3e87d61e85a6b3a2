package readme_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// withoutRule says which targets of make commands in sh blocks the Makefile has no rule for.
func withoutRule(t *testing.T, blocks []block, makefile string) (problems []string) {
	t.Helper()
	rules := targetsOf(t, makefile)
	for _, b := range blocks {
		if b.lang != "sh" {
			continue
		}
		for _, target := range makeTargets(b.text) {
			if !rules[target] {
				problems = append(problems, fmt.Sprintf("%s: the Makefile has no rule for %q", b.at(), target))
			}
		}
	}
	return problems
}

var (
	comment    = regexp.MustCompile(`(?m)(^|\s)#.*$`)
	separator  = regexp.MustCompile(`\n|;|&&|\|`)
	assignment = regexp.MustCompile(`^\w+=`)
)

// makeTargets finds a and b in "make a b", and also in "cd x && VAR=1 make VAR=2 -k a b | tee log  # why".
func makeTargets(script string) (targets []string) {
	script = comment.ReplaceAllString(strings.ReplaceAll(script, "\\\n", " "), "")
	for _, command := range separator.Split(script, -1) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(command), "$ "))
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != "make" {
			continue
		}
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "-") && !assignment.MatchString(word) {
				targets = append(targets, word)
			}
		}
	}
	return targets
}

var rule = regexp.MustCompile(`(?m)^([\w./-][\w./ -]*):([^=:]|$)`)

func targetsOf(t *testing.T, makefile string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(makefile)
	if err != nil {
		t.Fatal(err)
	}
	targets := make(map[string]bool)
	for _, match := range rule.FindAllStringSubmatch(string(text), -1) {
		for _, target := range strings.Fields(match[1]) {
			targets[target] = true
		}
	}
	return targets
}
