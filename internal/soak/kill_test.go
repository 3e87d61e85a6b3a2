package soak

import (
	"fmt"
	"testing"
	"time"
)

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
		if run.IntN(4) > 0 { // else it may still be opening the file that the last kill left
			select {
			case <-working:
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("the worker has said nothing for a minute")
			}
		}
		time.Sleep(time.Duration(run.Int64N(int64(150 * time.Millisecond)))) // any moment will do
		p.Process.Kill()
		<-ended
		if err := p.Wait(); p.ProcessState.Exited() {
			t.Fatalf("the worker ended before it was killed: %v\n%s", err, &p.stderr)
		}
		kills++
		acks.retryCreates(t, d)
		acks.verify(t, d)
		if kills%10 == 0 { // what is wrong with a file stays wrong
			d.check(t)
		}
	}
	acks.verifyAll(t, d)
	if *length >= 100*time.Second && kills < 200 {
		t.Errorf("%d kills in %v, too few to show much", kills, *length)
	}
}
