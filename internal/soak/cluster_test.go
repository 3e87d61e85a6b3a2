package soak

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// cluster is a PostgreSQL server on loopback that belongs to one test. The test may stop it, kill it and delete it.
type cluster struct {
	bin  string              // directory of the server's programs
	as   *syscall.Credential // user that the programs run as; nil for the test's own user
	dir  string              // directory of the data, the log and the socket
	port int
}

// newCluster creates and starts a cluster. Each of settings is a line of postgresql.conf.
func newCluster(t *testing.T, settings ...string) *cluster {
	t.Helper()
	c := prepareCluster(t)
	c.run(t, "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", c.data())
	conf := must[*os.File](t)(os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0))
	defer conf.Close()
	// A killed server must not leave anything in the machine's shared memory.
	settings = append(settings, "dynamic_shared_memory_type = mmap")
	if *length == 0 {
		settings = append(settings, "fsync = off") // only processes die, not the machine, so fsync would only cost time
	}
	if _, err := fmt.Fprintln(conf, strings.Join(settings, "\n")); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	return c
}

// standby creates and starts a standby of c on port, or on a free port if port is 0.
func (c *cluster) standby(t *testing.T, port int) *cluster {
	t.Helper()
	s := prepareCluster(t)
	if port != 0 {
		s.port = port
	}
	s.run(t, "pg_basebackup", "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-D", s.data(), "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=postgres", c.port))
	s.start(t)
	return s
}

// prepareCluster finds the server's programs, a directory and a free port. Without the programs the test is skipped, or
// fails if POSTGRES_REQUIRED is set.
func prepareCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	var err error
	if c.bin, err = serverPrograms(); err == nil && os.Geteuid() == 0 {
		c.as, err = serverUser() // the server refuses to run as root
	}
	if err != nil {
		skipOrFail(t, fmt.Errorf("can't create a PostgreSQL cluster: %w", err))
	}
	c.dir = must[string](t)(os.MkdirTemp("", "ledger-cluster-")) // a socket's path must be short
	t.Cleanup(func() {
		c.crash(t)
		os.RemoveAll(c.dir)
	})
	if c.as != nil {
		if err := os.Chown(c.dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	free := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer free.Close()
	c.port = free.Addr().(*net.TCPAddr).Port
	return c
}

// serverPrograms returns the directory of the server's programs. Debian doesn't put them on the PATH, so it then looks
// in Debian's directories and takes the last version in their order.
func serverPrograms() (string, error) {
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		bin := strings.TrimSpace(string(out))
		if _, err := os.Stat(filepath.Join(bin, "initdb")); err == nil {
			return bin, nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("initdb is not installed")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// serverUser returns the credentials of the user postgres.
func serverUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, log)
	}
}

func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.run(t, "pg_ctl", "start", "--wait", "-D", c.data(), "-l", filepath.Join(c.dir, "log"),
		"-o", fmt.Sprintf("-h 127.0.0.1 -p %d -k %s", c.port, c.dir))
}

func (c *cluster) stop(t *testing.T, mode string) {
	t.Helper()
	c.run(t, "pg_ctl", "stop", "--wait", "-D", c.data(), "-m", mode)
}

func (c *cluster) promote(t *testing.T) {
	t.Helper()
	c.run(t, "pg_ctl", "promote", "--wait", "-D", c.data())
}

// crash kills the server with all its processes, and removes its shared memory and its pid file.
func (c *cluster) crash(t *testing.T) {
	t.Helper()
	pidFile, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return // it is not running
	}
	lines := bytes.Split(pidFile, []byte("\n"))
	server := must[int](t)(strconv.Atoi(string(lines[0])))
	if err := syscall.Kill(server, syscall.SIGSTOP); err != nil { // so that it starts no more processes
		t.Fatal(err)
	}
	for _, pid := range append(children(t, server), server) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	waitUntil(t, "the killed server is gone", func() bool { return syscall.Kill(server, 0) == syscall.ESRCH })
	var key, id int
	if _, err := fmt.Sscan(string(lines[6]), &key, &id); err == nil {
		unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
	if err := os.Remove(filepath.Join(c.data(), "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
}

// children returns the process ids of a process's children.
func children(t *testing.T, parent int) []int {
	t.Helper()
	var pids []int
	for _, path := range must[[]string](t)(filepath.Glob("/proc/[0-9]*/stat")) {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] == strconv.Itoa(parent) {
			pids = append(pids, must[int](t)(strconv.Atoi(filepath.Base(filepath.Dir(path)))))
		}
	}
	return pids
}

// clusterURL is the URL of a database on the one of the clusters that accepts writes.
func clusterURL(name string, clusters ...*cluster) database {
	var hosts []string
	for _, c := range clusters {
		hosts = append(hosts, fmt.Sprintf("127.0.0.1:%d", c.port))
	}
	return database(fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=5&target_session_attrs=read-write",
		strings.Join(hosts, ","), name))
}

// ledgerOn creates a ledger on the clusters, with the servers that a load works on.
func ledgerOn(t *testing.T, clusters ...*cluster) database {
	t.Helper()
	db := clusterURL("postgres", clusters...).raw(t)
	defer db.Close()
	if _, err := db.Exec("CREATE DATABASE ledger"); err != nil {
		t.Fatal(err)
	}
	d := clusterURL("ledger", clusters...)
	if err := postgres.Migrate(t.Context(), pgtest.Pool(t, string(d))); err != nil {
		t.Fatal(err)
	}
	addServers(t, d)
	return d
}
