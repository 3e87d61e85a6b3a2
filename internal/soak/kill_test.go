package soak

import (
	"fmt"
	"testing"
	"time"
)

// A process with many callers on one SQLite file is killed with SIGKILL. The next process must find every change that
// was acknowledged.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	t.Cleanup(func() { d.check(t) })
	addServers(t, d)
	acks := newAcknowledged()
	kills := 0
	run := newRun(t, 8, func() string { return fmt.Sprintf("%d kills, %s", kills, acks) })
	for run.next() {
		p := start(t, "load", loadConfig{d, run.Uint64()})
		working, ended := make(chan struct{}), make(chan struct{})
		go func() {
			acks.read(t, p, working)
			close(ended)
		}()
		if run.IntN(4) > 0 { // otherwise the kill may hit a process that is still opening the file
			select {
			case <-working:
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("the worker has answered nothing for a minute")
			}
		}
		time.Sleep(time.Duration(run.Int64N(int64(150 * time.Millisecond)))) // kill at a random moment
		p.Process.Kill()
		<-ended
		if err := p.Wait(); p.ProcessState.Exited() {
			t.Fatalf("the worker ended before it was killed: %v\n%s", err, &p.stderr)
		}
		kills++
		acks.retryCreates(t, d)
		acks.verify(t, d)
		if kills%10 == 0 { // not after every kill: damage to a file stays in the file
			d.check(t)
		}
	}
	acks.verifyAll(t, d)
	if *length >= 100*time.Second && kills < 200 {
		t.Errorf("only %d kills in %v, want at least 200", kills, *length)
	}
}
