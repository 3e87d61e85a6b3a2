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

// These tests migrate one file in several processes at once, and kill processes during a migration.

// process is a helper process (see main_test.go) that works on a database file.
type process struct {
	cmd    *exec.Cmd
	start  io.Closer // Close lets the helper start its work
	stderr bytes.Buffer
}

// startProcess starts a helper process and returns when it is ready. The helper's work begins when start is closed.
func startProcess(t *testing.T, helper, path string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], path)}
	p.cmd.Env = append(os.Environ(), helperEnv+"="+helper)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start = stdin
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
					p.start.Close()
				}
				for _, p := range all {
					if err := p.cmd.Wait(); err != nil {
						t.Errorf("one of %d processes: %v\n%s", processes, err, &p.stderr)
					}
				}
				after := readState(t, path)
				if diff := cmp.Diff(want, after.schema); diff != "" {
					t.Errorf("schema created by one process and by several at once (-one +several):\n%s", diff)
				}
				if created := len(after.rows["remediation_actions"]["id"]) - len(before.rows["remediation_actions"]["id"]); created != processes {
					t.Errorf("%d processes created %d actions", processes, created)
				}
			}
		})
	}
}

// Other tests would delay the kill, so this one does not run in parallel.
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
			duration := measureMigration(t, test.helper, test.template)
			const kills = 14
			n, unfinished, undone := 0, 0, 0
			for begin := time.Now(); n < kills && (n < 3 || inTime(begin)); n++ {
				path := copyLedger(t, test.template)
				p := startProcess(t, test.helper, path)
				p.start.Close()
				time.Sleep(rand.N(duration)) // kill at a random time
				p.cmd.Process.Kill()
				err := p.cmd.Wait()
				journal := hasJournal(path) // before checkRecovered opens the database
				done := checkRecovered(t, path, start, want)
				switch {
				case err == nil && !done:
					t.Error("a finished migration was undone")
				case p.cmd.ProcessState.Exited() && err != nil:
					t.Errorf("Migrate failed before the kill: %v\n%s", err, &p.stderr)
				case err != nil:
					unfinished++
				}
				if err != nil && journal && !done {
					undone++
				}
			}
			t.Logf("%d kills within %v: %d before the end, %d of them with a journal and then undone",
				n, duration, unfinished, undone)
			if unfinished == 0 {
				t.Error("every kill came after the end of the migration")
			}
		})
	}
}

// notShort skips a test with -short, which the race detector runs with. Such a test needs other processes or repeats
// a lot.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("other processes, or many repetitions: not with -short")
	}
}

// inTime reports whether a test may repeat its work once more. It limits the tests on slow machines.
func inTime(begin time.Time) bool { return time.Since(begin) < 4*time.Second }

// state is everything that Migrate changes.
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

// checkRecovered reports whether a killed migration was committed. If it was not, the database must be unchanged. In
// both cases the next Migrate must succeed.
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

// measureMigration returns how long a helper works when it is not killed. It is the median of three.
func measureMigration(t *testing.T, helper, template string) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 3 {
		p := startProcess(t, helper, copyLedger(t, template))
		start := time.Now()
		p.start.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, &p.stderr)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// copyLedger copies a database that no connection has open. If template does not exist, it copies nothing.
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
