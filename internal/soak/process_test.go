package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
)

// This file starts the test binary as another process, which the tests can kill.

// workerEnv names a worker. With it the test binary runs that worker and no tests.
const workerEnv = "ACTIONLEDGER_SOAK_WORKER"

// workers are the functions that run in another process. A worker gets its configuration as a JSON value in its first
// argument. Its standard input ends when it should stop. Its parent can read its output even after the worker is
// killed.
var workers = map[string]func(ctx context.Context, config []byte, done io.Reader, out io.Writer) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(workerEnv); name != "" {
		if err := workers[name](context.Background(), []byte(os.Args[1]), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

// process is a running worker.
type process struct {
	*exec.Cmd
	stop   io.WriteCloser // the worker's standard input
	out    io.Reader
	stderr bytes.Buffer
}

// start starts a worker. When the test ends, the worker is killed if it still runs.
func start(t *testing.T, worker string, config any) *process {
	t.Helper()
	text := must[[]byte](t)(json.Marshal(config))
	p := &process{Cmd: exec.Command(os.Args[0], string(text))}
	p.Env = append(os.Environ(), workerEnv+"="+worker)
	p.Stderr = &p.stderr
	p.stop = must[io.WriteCloser](t)(p.StdinPipe())
	p.out = must[io.ReadCloser](t)(p.StdoutPipe())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	return p
}
