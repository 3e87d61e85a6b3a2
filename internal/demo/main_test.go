//go:build unix

package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// demonstrate runs the demo with a path that a shell command must quote.
func demonstrate(t *testing.T) (printed, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "it's the $HOME ledger?.db")
	var out strings.Builder
	if err := run(t.Context(), &out, []string{path}); err != nil {
		t.Fatalf("the demo failed: %v\n%s", err, out.String())
	}
	return out.String(), path
}

func TestDemoPrintsEveryStep(t *testing.T) {
	printed, path := demonstrate(t)
	rest := printed
	for _, want := range []string{
		"A new ledger: " + path,
		"#1  db-1   approved  date -u",
		"#3  web-1  approved  df -P / | tail -n 1  (from alert 1)",
		"#5  db-1   pending   ls -1 /",
		"alice approves #5",
		"alice rejects #6: the backup still runs",
		"bob withdraws #7, which alice had approved",
		"web-1 ran #2: completed, exit code 0",
		"web-1 ran #4: failed, exit code ",
		"db-1 ran #5: completed, exit code 0",
		`action 1 is held: its server is in maintenance and only "auto" approved it`,
		"db-1 ran #1: completed, exit code 0",
		"action 8 has expired",
		"#8 is rejected by auto: expired at ",
		"#9  web-1  approved  sleep 60 & wait",
		"alice asks web-1 to stop #9: the wrong server",
		"web-1 ran #9: failed, exit code -1",
		"action 2 is completed and can't become failed",
		"action 6 is rejected and can't become approved",
		"ID  SERVER  STATUS     COMMAND",
		"\n6   db-1    rejected   echo restart         alice            -     the backup still runs",
		"\n7   db-1    rejected   echo vacuum          alice, then bob  -     no longer needed\n",
		"8   db-1    rejected   echo upgrade         auto             -     expired at ",
		"9   web-1   failed     sleep 60 & wait      auto             -1    agent: alice asked to stop it: the wrong se…\n",
		"The file stays: " + path,
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("the demo does not print this line in its place:\n%s\nthe whole output:\n%s", want, printed)
		}
		rest = after
	}
}

func TestDemoLedgerHasThePrintedActions(t *testing.T) {
	_, path := demonstrate(t)
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	ledger := remediation.New(store)

	for id, want := range map[int64]string{
		1: "db-1 completed by auto",
		2: "web-1 completed by auto",
		3: "web-1 completed by auto",
		4: "web-1 failed by auto",
		5: "db-1 completed by alice",
		6: "db-1 rejected by alice",
		7: "db-1 rejected by alice, then bob",
		8: "db-1 rejected by auto",
		9: "web-1 failed by auto",
	} {
		a, err := ledger.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %s by %s", a.ServerID, a.Status, deciders(a)); got != want {
			t.Errorf("action %d is %q, want %q", id, got, want)
		}
	}

	uname, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		t.Fatal(err)
	}
	if a, err := ledger.Get(t.Context(), 2); err != nil || *a.Stdout != string(uname) {
		t.Errorf("the stdout of uname is %q, but the ledger has %v (error %v)", uname, a.Stdout, err)
	}
	a, err := ledger.Get(t.Context(), 4)
	if err != nil || *a.ExitCode == 0 || !strings.Contains(*a.Stderr, "/no/such/place") {
		t.Errorf("the failed ls is stored as %+v (error %v)", a, err)
	}
}

// The test runs the printed command in a shell. A shell function replaces sqlite3, which not every machine has.
func TestOpenLineWorksWhenPasted(t *testing.T) {
	printed, path := demonstrate(t)
	line := strings.TrimSpace(printed[strings.LastIndex(printed, "sqlite3 "):])
	args, err := exec.Command("sh", "-c", `sqlite3() { printf '%s\n' "$#" "$@"; }; `+line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	got := strings.Split(strings.TrimSpace(string(args)), "\n")
	if len(got) != 3 || got[1] != path {
		t.Fatalf("the shell passes %q to sqlite3, want the path %q and one query", got, path)
	}

	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(path, "?", "%3f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var rows int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM ("+got[2]+")").Scan(&rows); err != nil || rows != 9 {
		t.Errorf("%s: %d rows, error %v; want 9 rows", got[2], rows, err)
	}
}

func TestDemoRefusesAFileThatExists(t *testing.T) {
	path := filepath.Join(t.TempDir(), "real.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // SQLite accepts an empty file as a database
		t.Fatal(err)
	}
	if err := run(t.Context(), &strings.Builder{}, []string{path}); err == nil {
		t.Error("the demo accepts a file that exists")
	}
	if kept, err := os.ReadFile(path); err != nil || len(kept) > 0 {
		t.Errorf("the demo wrote %d bytes into the file (error %v)", len(kept), err)
	}
}

func TestDemoWithoutAPathCreatesANewFile(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var first, second strings.Builder
	for _, out := range []*strings.Builder{&first, &second} {
		if err := run(t.Context(), out, nil); err != nil {
			t.Fatal(err)
		}
	}
	made, err := filepath.Glob(filepath.Join(os.TempDir(), "*", "ledger.db"))
	if err != nil || len(made) != 2 {
		t.Errorf("two runs created %q (error %v), want two files", made, err)
	}
}

func TestOneLineRemovesControlCharacters(t *testing.T) {
	for given, want := range map[string]string{
		"\nfirst\tcell\nsecond\n": "first cell",
		"red \x1b[31m\u202ealert": "red [31m alert",
		strings.Repeat("ä", 50):   strings.Repeat("ä", maxOutput-1) + "…",
		strings.Repeat("ä", 44):   strings.Repeat("ä", maxOutput),
		"":                        "",
	} {
		if got := oneLine(given); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", given, got, want)
		}
	}
}

// closedOutput is a writer whose every write fails, like a terminal that was closed.
type closedOutput struct{}

func (closedOutput) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestDemoFailsWhenItCannotPrint(t *testing.T) {
	if err := run(t.Context(), closedOutput{}, []string{filepath.Join(t.TempDir(), "ledger.db")}); err == nil {
		t.Error("the demo returns no error although it could not print")
	}
}
