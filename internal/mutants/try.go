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

// This file runs the tests on a mutant.

type outcome int

const (
	survived   outcome = iota // all tests pass
	noticed                   // a test fails
	invalid                   // an engine can't run the SQL
	equivalent                // behaves like the original, so it is not tried
	undecided                 // the tests timed out
)

type result struct {
	mutant  mutant
	outcome outcome
	why     string // the test that failed, the error, or the reason for equivalent
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
	kill           bool // kill it at the first failure; only for tests that leave nothing but a database
}

// try runs the tests on a mutant until one fails. Fast tests that find most mutants run first.
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
	if len(w.recent) > 0 {
		first := suites[0]
		first.args = []string{"-test.run=^TestConformance$/^(" + strings.Join(w.recent, "|") + ")$", "-test.short"}
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

// remember keeps the conformance tests that noticed the last mutants, to run them first: the next mutant is often a
// part of the same guard.
func (w *workspace) remember(test string) {
	parts := strings.Split(test, "/")
	if parts[0] != "TestConformance" || len(parts) == 1 {
		return
	}
	w.recent = slices.DeleteFunc(w.recent, func(name string) bool { return name == parts[1] })
	w.recent = slices.Insert(w.recent, 0, parts[1])
	w.recent = w.recent[:min(len(w.recent), 4)]
}

var (
	// The end of a subtest is printed at once only in the format of test2json, which puts \x16 before such lines.
	failure = regexp.MustCompile(`^\x16?\s*--- FAIL: (\S+)`)
	// The errors for SQL that an engine can't run. PostgreSQL's are for syntax, types, and a missing index or key.
	invalidSQL = regexp.MustCompile(`SQL logic error[^\n]*|[^\n]*SQLSTATE (42601|42P08|42P10|42P18|42804|42830)`)
)

// run runs a suite on the workspace, which has the mutant in it.
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
	failed := "" // the first test that failed, or a panic
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		fmt.Fprintln(&output, lines.Text())
		if failed != "" {
			continue
		}
		if f := failure.FindStringSubmatch(lines.Text()); f != nil {
			failed = f[1]
		} else if strings.HasPrefix(lines.Text(), "panic: ") {
			failed = lines.Text()
		}
		if failed != "" && s.kill {
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
	switch sql := invalidSQL.FindString(r.output); {
	case err == nil:
		r.outcome = survived
	case sql != "":
		r.outcome, r.why = invalid, strings.TrimSpace(sql)
	case strings.HasPrefix(failed, "panic: test timed out"): // may only mean that the machine is slow
		r.outcome, r.why = undecided, failed
	case failed != "":
		r.outcome, r.why = noticed, failed
	default: // the process ended without a failed test, which proves nothing
		return result{}, fmt.Errorf("run the tests of %s: %w\n%s", s.folder, err, r.output)
	}
	return r, nil
}

// build returns the test binary of a suite, and builds it the first time.
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

// dropDatabases drops the databases that a killed test left on the server.
func dropDatabases(pid int) {
	psql := exec.Command("psql", "-qX", os.Getenv("POSTGRES_URL"))
	psql.Stdin = strings.NewReader(fmt.Sprintf(`SELECT format('DROP DATABASE %%I WITH (FORCE)', datname)
		FROM pg_database WHERE datname ~ '^actionledger_(test|template)_%d(_|$)' \gexec`, pid))
	if out, err := psql.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the databases of a killed test are left: %v %s\n", err, out)
	}
}
