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

// workerEnv makes the test binary one of the workers instead of running tests.
const workerEnv = "ACTIONLEDGER_SOAK_WORKER"

// workers are what other processes do. A worker reads its config, a JSON value, from its first argument and goes on until
// its standard input ends. What it writes to standard output is there for its parent even when it is killed next.
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

// process is a worker at work.
type process struct {
	*exec.Cmd
	stop   io.WriteCloser // its standard input
	out    io.Reader
	stderr bytes.Buffer
}

// start starts a worker; it is killed when the test ends, if it is there still.
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
