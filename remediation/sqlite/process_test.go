package sqlite_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// process is this test binary once more, at work on a database file.
type process struct {
	cmd    *exec.Cmd
	word   io.Closer // what it waits for
	stderr bytes.Buffer
}

// startProcess starts a helper and returns once it waits for the word to go.
func startProcess(t *testing.T, helper, path string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], path)}
	p.cmd.Env = append(os.Environ(), helperEnv+"="+helper)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.word = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("helper %s is not ready: %v\n%s", helper, err, &p.stderr)
	}
	return p
}

func TestProcessesMigrateOneFileAtOnce(t *testing.T) {
	notShort(t)
	t.Parallel()
	reference := ledgerFile(t)
	openMigrated(t, reference)
	want := rawSchema(t, rawPool(t, reference, ""))
	legacy := ledgerFile(t)
	fillLegacy(t, legacy, 2)
	for name, test := range map[string]struct {
		template string
		files    int
	}{
		"new":    {ledgerFile(t), 10},
		"legacy": {legacy, 5},
	} {
		t.Run(name, func(t *testing.T) {
			for begin, n := time.Now(), 0; n < test.files && (n < 2 || inTime(begin)); n++ {
				path := copyLedger(t, test.template)
				before := readState(t, path)
				const processes = 8
				var all []*process
				for range processes {
					all = append(all, startProcess(t, "create", path))
				}
				for _, p := range all {
					p.word.Close()
				}
				for _, p := range all {
					if err := p.cmd.Wait(); err != nil {
						t.Errorf("one of %d processes: %v\n%s", processes, err, &p.stderr)
					}
				}
				after := readState(t, path)
				if diff := cmp.Diff(want, after.schema); diff != "" {
					t.Errorf("schema made by one process and by several at once (-one +several):\n%s", diff)
				}
				if made := len(after.rows["remediation_actions"]["id"]) - len(before.rows["remediation_actions"]["id"]); made != processes {
					t.Errorf("%d processes made %d actions", processes, made)
				}
			}
		})
	}
}

// Not parallel, so that a kill comes about when it was meant to.
func TestKilledMigrationLeavesNothingHalfDone(t *testing.T) {
	notShort(t)
	reference := ledgerFile(t)
	openMigrated(t, reference)
	want := readState(t, reference)
	legacy := ledgerFile(t)
	fillLegacy(t, legacy, 2)
	addLegacyRows(t, legacy, 2_000)
	for name, test := range map[string]struct{ helper, template string }{
		"new file, write-ahead log":     {"migrate", ledgerFile(t)},
		"legacy rows, rollback journal": {"migrate own pool", legacy},
		"legacy rows, write-ahead log":  {"migrate", legacy},
	} {
		t.Run(name, func(t *testing.T) {
			start := readState(t, test.template)
			whole := measureMigration(t, test.helper, test.template)
			const kills = 14
			n, unfinished, undone := 0, 0, 0
			for begin := time.Now(); n < kills && (n < 3 || inTime(begin)); n++ {
				path := copyLedger(t, test.template)
				p := startProcess(t, test.helper, path)
				p.word.Close()
				time.Sleep(rand.N(whole)) // any moment will do
				p.cmd.Process.Kill()
				err := p.cmd.Wait()
				journal := hasJournal(path) // before anybody recovers from it
				done := checkRecovered(t, path, start, want)
				switch {
				case err == nil && !done:
					t.Error("a Migrate that had ended is undone")
				case p.cmd.ProcessState.Exited() && err != nil:
					t.Errorf("Migrate failed before the kill: %v\n%s", err, &p.stderr)
				case err != nil:
					unfinished++
				}
				if err != nil && journal && !done {
					undone++
				}
			}
			t.Logf("%d kills within %v: %d before the end, %d of them with a journal of what was then undone",
				n, whole, unfinished, undone)
			if unfinished == 0 {
				t.Error("every kill came too late to tell anything")
			}
		})
	}
}

// notShort leaves out of -short, which the race detector runs with, what works in other processes or only repeats.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("other processes, or many repetitions: not with -short")
	}
}

// inTime limits what a test repeats, for slow machines and for the race detector.
func inTime(begin time.Time) bool { return time.Since(begin) < 4*time.Second }

// state is all that Migrate changes.
type state struct {
	version int
	schema  []string
	rows    contents
}

func readState(t *testing.T, path string) state {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return state{-1, nil, contents{}}
	}
	db := rawPool(t, path, "")
	defer db.Close()
	version, dirty := rawVersion(t, db)
	if dirty {
		t.Errorf("version %d is dirty", version)
	}
	return state{version, rawSchema(t, db), rawContents(t, db)}
}

// checkRecovered reports whether a killed migration is done. Either way it must be wholly so, and the next one ends it.
func checkRecovered(t *testing.T, path string, start, want state) bool {
	t.Helper()
	got := readState(t, path)
	done := got.version == newestVersion(t)
	if !done {
		if diff := cmp.Diff(start, got, cmp.AllowUnexported(state{})); diff != "" {
			t.Errorf("after the kill (-before +after):\n%s", diff)
		}
	}
	db := rawPool(t, path, goodPool)
	defer db.Close()
	if err := sqlite.Migrate(t.Context(), db); err != nil {
		t.Fatalf("Migrate after the kill: %v", err)
	}
	got = readState(t, path)
	want.rows = start.rows.within(start.rows)
	got.rows = got.rows.within(start.rows)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(state{})); diff != "" {
		t.Errorf("after the next Migrate (-want +got):\n%s", diff)
	}
	return done
}

// measureMigration returns how long a helper works that nobody kills: the median of three.
func measureMigration(t *testing.T, helper, template string) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 3 {
		p := startProcess(t, helper, copyLedger(t, template))
		start := time.Now()
		p.word.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, &p.stderr)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// copyLedger copies a database that nobody has open, or the want of one.
func copyLedger(t *testing.T, template string) string {
	t.Helper()
	path := ledgerFile(t)
	file, err := os.ReadFile(template)
	if errors.Is(err, fs.ErrNotExist) {
		return path
	}
	if err == nil {
		err = os.WriteFile(path, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func hasJournal(path string) bool {
	for _, suffix := range []string{"-journal", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}
