package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

type outcome int

const (
	survived outcome = iota
	noticed
	invalid
	equivalent
	undecided
)

type result struct {
	mutant  mutant
	outcome outcome
	why     string // the test that noticed, or the reason
	output  string
}

func (r result) String() string {
	switch r.outcome {
	case noticed:
		return "noticed by " + r.why
	case invalid:
		return "not valid: " + r.why
	case equivalent:
		return "changes nothing: " + r.why
	case undecided:
		return "UNDECIDED: " + r.why
	}
	return "SURVIVED"
}

// suite is the tests of one package.
type suite struct {
	module, folder string
	args           []string
	kill           bool // at the first failure; only for tests that leave nothing behind but a database
}

// try runs tests on a mutant until one fails: first what is fast and finds most.
func (w *workspace) try(ctx context.Context, m mutant) (result, error) {
	if reason := reasonFor(m.name); reason != "" {
		return result{mutant: m, outcome: equivalent, why: reason}, nil
	}
	if m.path != "" {
		original, err := os.ReadFile(filepath.Join(w.dir, m.path))
		if err != nil {
			return result{}, err
		}
		defer w.write(m.path, string(original))
		if err := w.write(m.path, m.text); err != nil {
			return result{}, err
		}
	}
	suites := []suite{
		{module: ".", folder: m.engine.tests, args: []string{"-test.run=^TestConformance$", "-test.short"}, kill: true},
		{module: ".", folder: m.engine.tests},
		{module: "internal/soak", folder: ".", args: []string{"-test.short"}},
	}
	if len(w.lately) > 0 {
		first := suites[0]
		first.args = []string{"-test.run=^TestConformance$/^(" + strings.Join(w.lately, "|") + ")$", "-test.short"}
		suites = slices.Insert(suites, 0, first)
	}
	for _, s := range suites {
		r, err := w.run(ctx, m, s)
		if err != nil {
			return r, err
		}
		if r.outcome != survived {
			w.remember(r.why)
			return r, nil
		}
	}
	return result{mutant: m}, nil
}

// remember keeps the behaviours that noticed the last mutants: the next one is often a part of the same guard.
func (w *workspace) remember(test string) {
	parts := strings.Split(test, "/")
	if parts[0] != "TestConformance" || len(parts) == 1 {
		return
	}
	w.lately = slices.DeleteFunc(w.lately, func(name string) bool { return name == parts[1] })
	w.lately = slices.Insert(w.lately, 0, parts[1])
	w.lately = w.lately[:min(len(w.lately), 4)]
}

var (
	// A subtest's end is printed at once only in the form for test2json, which marks such lines.
	failure = regexp.MustCompile(`^\x16?\s*--- FAIL: (\S+)`)
	// What an engine says to SQL that it can't run at all. PostgreSQL: syntax, types, and what fits no index or key.
	notSQL = regexp.MustCompile(`SQL logic error[^\n]*|[^\n]*SQLSTATE (42601|42P08|42P10|42P18|42804|42830)`)
)

// run runs a suite on the mutant that the workspace holds.
func (w *workspace) run(ctx context.Context, m mutant, s suite) (result, error) {
	binary, err := w.build(ctx, s)
	if err != nil {
		return result{}, err
	}
	running, kill := context.WithCancel(ctx)
	defer kill()
	test := exec.CommandContext(running, binary,
		append(s.args, "-test.v=test2json", "-test.failfast", "-test.parallel=8", "-test.timeout=4m")...)
	test.Dir = filepath.Join(w.dir, s.module, s.folder)
	test.Env = os.Environ()
	if !m.engine.needsServer() {
		test.Env = slices.DeleteFunc(test.Env, func(v string) bool { return strings.HasPrefix(v, "POSTGRES_URL=") })
	}
	if m.path == "" {
		test.Env = append(test.Env, queryEnv+"="+m.engine.name+" "+m.text)
	}
	test.WaitDelay = time.Second
	pipe, err := test.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	test.Stderr = test.Stdout
	if err := test.Start(); err != nil {
		return result{}, err
	}
	var output strings.Builder
	by := ""
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		fmt.Fprintln(&output, lines.Text())
		if by != "" {
			continue
		}
		if f := failure.FindStringSubmatch(lines.Text()); f != nil {
			by = f[1]
		} else if strings.HasPrefix(lines.Text(), "panic: ") {
			by = lines.Text()
		}
		if by != "" && s.kill {
			kill()
		}
	}
	err = test.Wait()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if s.kill && err != nil && m.engine.needsServer() {
		dropDatabases(test.Process.Pid)
	}
	r := result{mutant: m, output: output.String()}
	switch sql := notSQL.FindString(r.output); {
	case err == nil:
		r.outcome = survived
	case sql != "":
		r.outcome, r.why = invalid, strings.TrimSpace(sql)
	case strings.HasPrefix(by, "panic: test timed out"): // a slow machine would do that too
		r.outcome, r.why = undecided, by
	case by != "":
		r.outcome, r.why = noticed, by
	default: // somebody else ended it, which proves nothing
		return result{}, fmt.Errorf("run the tests of %s: %w\n%s", s.folder, err, r.output)
	}
	return r, nil
}

// build builds the tests of a suite when they are first needed.
func (w *workspace) build(ctx context.Context, s suite) (string, error) {
	folder := filepath.Join(s.module, s.folder)
	if w.built[folder] == "" {
		binary := filepath.Join(w.dir, fmt.Sprintf("mutants%d.test", len(w.built)))
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./"+s.folder)
		build.Dir = filepath.Join(w.dir, s.module)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the tests of %s: %w\n%s", folder, err, out)
		}
		w.built[folder] = binary
	}
	return w.built[folder], nil
}

// dropDatabases drops what a killed test has left on the server.
func dropDatabases(pid int) {
	psql := exec.Command("psql", "-qX", os.Getenv("POSTGRES_URL"))
	psql.Stdin = strings.NewReader(fmt.Sprintf(`SELECT format('DROP DATABASE %%I WITH (FORCE)', datname)
		FROM pg_database WHERE datname ~ '^actionledger_(test|template)_%d(_|$)' \gexec`, pid))
	if out, err := psql.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the databases of a killed test are left: %v %s\n", err, out)
	}
}
