package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// This file tests full disks, read-only disks and read-only files under an SQLite ledger.

// newDisk mounts a tmpfs of size MiB and returns its directory. Only root can mount it, so the test is skipped
// otherwise.
func newDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", size), "tmpfs", dir)
	if out, err := mount.CombinedOutput(); err != nil {
		skipOrFail(t, fmt.Sprintf("can't mount a disk for the test: %v: %s", err, out))
	}
	t.Cleanup(func() { runCommand(t, "umount", "--lazy", dir) })
	return dir
}

func runCommand(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// newSQLiteIn creates a migrated ledger in dir.
func newSQLiteIn(t *testing.T, dir string) database {
	t.Helper()
	d := database(filepath.Join(dir, "ledger.db"))
	text := must[[]byte](t)(os.ReadFile(string(newSQLite(t))))
	wantNoError(t, os.WriteFile(string(d), text, 0o600))
	t.Cleanup(func() { d.check(t) })
	return d
}

// fill writes a file that leaves only room bytes on the disk, and returns the file's path.
func fill(t *testing.T, dir string, room int64) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f := must[*os.File](t)(os.Create(path))
	defer f.Close()
	var err error
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	wantErrorText(t, "no space left on device", err)
	size := must[os.FileInfo](t)(f.Stat()).Size()
	wantNoError(t, f.Truncate(size-room))
	return path
}

// Calls on a full disk fail and change nothing. They succeed when there is space again.
func TestFullDiskFailsCallsUntilSpaceIsFree(t *testing.T) {
	dir := newDisk(t, 8)
	d := newSQLiteIn(t, dir)
	l := newCreateLog(t, d.ledger(t))
	_, err := l.create(t.Context(), 10)
	wantNoError(t, err)
	claimed := must[remediation.Action](t)(l.Claim(t.Context(), "web-1"))

	ballast := fill(t, dir, 0)
	output := remediation.Result{Stdout: strings.Repeat("x", 100_000)}
	_, err = l.Finish(t.Context(), "web-1", claimed.ID, output)
	wantErrorText(t, "full", err)
	_, err = l.create(t.Context(), 100_000)
	wantErrorText(t, "full", err)
	stored := must[remediation.Action](t)(l.Get(t.Context(), claimed.ID))
	if diff := cmp.Diff(claimed, stored); diff != "" {
		t.Errorf("an action whose result did not fit on the disk (-before +after):\n%s", diff)
	}
	wantNoError(t, os.Remove(ballast))

	finished, err := l.Finish(t.Context(), "web-1", claimed.ID, output)
	wantNoError(t, err)
	if finished.Status != remediation.Completed {
		t.Errorf("the action is %s, want completed", finished.Status)
	}
	_, err = l.create(t.Context(), 100_000)
	wantNoError(t, err)
	l.check(t, d)
}

// A disk fills up while many callers work. Every acknowledged action must be stored, and no other.
func TestFullDiskUnderLoadLosesNothingAcknowledged(t *testing.T) {
	dir := newDisk(t, 8)
	d := newSQLiteIn(t, dir)
	l := newCreateLog(t, d.ledger(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // in case a call never fails
	defer cancel()
	for range 2 { // the second time the file has survived a full disk
		ballast := fill(t, dir, 512<<10)
		errs := make([]error, 64)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				for errs[i] == nil {
					_, errs[i] = l.create(ctx, 1000)
				}
			})
		}
		wg.Wait()
		wantErrorText(t, "full", errs...)
		wantNoError(t, os.Remove(ballast))
		wantNoError(t, l.createTogether(t, 64)...)
		l.check(t, d)
	}
	t.Logf("%d of %d calls acknowledged", len(l.succeeded), l.created)
}

func TestOpenFailsOnAReadOnlyDisk(t *testing.T) {
	dir := newDisk(t, 8)
	d := newSQLiteIn(t, dir)
	runCommand(t, "mount", "-o", "remount,ro", dir)
	_, _, err := d.open(t.Context())
	wantErrorText(t, "unable to open database file", err)
	_, err = sqlite.Open(t.Context(), filepath.Join(dir, "new.db"))
	wantErrorText(t, "read-only file system", err)
	runCommand(t, "mount", "-o", "remount,rw", dir)
	l := newCreateLog(t, d.ledger(t))
	wantNoError(t, l.createTogether(t, 8)...)
	l.check(t, d)
}

func init() { workers["probe"] = probeLedger }

// probeLedger opens a ledger, reads it and writes to it, and prints the error of each step.
func probeLedger(ctx context.Context, config []byte, _ io.Reader, out io.Writer) error {
	var path string
	if err := json.Unmarshal(config, &path); err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, path)
	fmt.Fprintf(out, "open: %v\n", err)
	if err != nil {
		return nil
	}
	defer store.Close()
	l := remediation.New(store)
	_, err = l.List(ctx, remediation.Filter{})
	fmt.Fprintf(out, "read: %v\n", err)
	fmt.Fprintf(out, "write: %v\n", l.AddServer(ctx, "web-1"))
	return nil
}

func TestReadOnlyFileCanBeReadButNotWritten(t *testing.T) {
	t.Parallel()
	const allSucceed = "open: <nil>\nread: <nil>\nwrite: <nil>\n"
	for dirMode, want := range map[os.FileMode]string{
		0o777: "open: <nil>\nread: <nil>\nwrite: add server \"web-1\": attempt to write a readonly database (8)\n",
		0o555: "open: open SQLite ledger \"PATH\": attempt to write a readonly database (1544)\n",
	} {
		d := newSQLite(t)
		dir := filepath.Dir(string(d))
		wantNoError(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(string(d), 0o444), os.Chmod(dir, dirMode))
		if diff := cmp.Diff(want, probeAsOtherUser(t, d)); diff != "" {
			t.Errorf("directory %v (-want +got):\n%s", dirMode, diff)
		}
		wantNoError(t, os.Chmod(dir, 0o777))
		// A reader leaves a -wal file with the mode of the file.
		for _, file := range must[[]string](t)(filepath.Glob(string(d) + "*")) {
			wantNoError(t, os.Chmod(file, 0o666))
		}
		if diff := cmp.Diff(allSucceed, probeAsOtherUser(t, d)); diff != "" {
			t.Errorf("after write permission was restored (-want +got):\n%s", diff)
		}
	}
}

// probeAsOtherUser runs probeLedger as a user other than root, because a file's mode does not restrict root.
func probeAsOtherUser(t *testing.T, d database) string {
	t.Helper()
	// The test binary's own path would not do: another user can't read its directory.
	cmd := exec.Command("/proc/self/exe", strconv.Quote(string(d)))
	cmd.Env = append(os.Environ(), workerEnv+"=probe")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	wantNoError(t, err)
	t.Logf("%s", out)
	return strings.ReplaceAll(string(out), string(d), "PATH")
}
