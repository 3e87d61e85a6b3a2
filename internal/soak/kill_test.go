package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	t.Cleanup(func() { d.check(t) })
	addServers(t, d)
	told := newAcknowledged()
	kills := 0
	run := newRun(t, 8, func() string { return fmt.Sprintf("%d kills, %s", kills, told) })
	for run.next() {
		p := start(t, "load", loadOrders{d, run.Uint64()})
		working, ended := make(chan struct{}), make(chan struct{})
		go func() {
			told.read(t, p, working)
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
		told.verify(t, d)
		if kills%10 == 0 { // what is wrong with a file stays wrong
			d.check(t)
		}
	}
	told.verifyAll(t, d)
	if *length >= 100*time.Second && kills < 200 {
		t.Errorf("%d kills in %v, too few to show much", kills, *length)
	}
}

// acknowledged is what callers were told, and must find for ever.
type acknowledged struct {
	mu         sync.Mutex
	answers    int
	deliveries int
	fresh      []loadAnswer                 // not looked for yet
	furthest   map[int64]remediation.Action // the last that anybody was told of each action
	delivered  map[int64]bool
	twice      []int64 // delivered more than once
}

func newAcknowledged() *acknowledged {
	return &acknowledged{furthest: map[int64]remediation.Action{}, delivered: map[int64]bool{}}
}

func (k *acknowledged) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprintf("%d answers about %d actions, %d deliveries", k.answers, len(k.furthest), k.deliveries)
}

func (k *acknowledged) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answers
}

func (k *acknowledged) add(a loadAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers++
	k.fresh = append(k.fresh, a)
	if a.Delivered {
		k.deliveries++
		if k.delivered[a.Action.ID] {
			k.twice = append(k.twice, a.Action.ID)
		}
		k.delivered[a.Action.ID] = true
	}
	// Two answers about one action may come in either order, but the statuses' own order is that of its life.
	last, ok := k.furthest[a.Action.ID]
	if !ok || slices.Index(remediation.Statuses(), last.Status) < slices.Index(remediation.Statuses(), a.Action.Status) {
		k.furthest[a.Action.ID] = a.Action
	}
}

// read adds what a worker says until its output ends; the first answer closes working.
func (k *acknowledged) read(t *testing.T, p *process, working chan struct{}) {
	lines := bufio.NewReader(p.out)
	for n := 0; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // what a kill cut off was no answer
		}
		var a loadAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Errorf("the worker said %q: %v", line, err)
			return
		}
		k.add(a)
		if n == 0 {
			close(working)
		}
	}
}

// verify looks for what was acknowledged since the last time, as the next program to open the ledger finds it.
func (k *acknowledged) verify(t *testing.T, d database) {
	t.Helper()
	k.mu.Lock()
	fresh, twice := k.fresh, k.twice
	k.fresh = nil
	k.mu.Unlock()
	if len(twice) > 0 {
		t.Errorf("actions %v were delivered more than once", twice)
	}
	look(t, d, fresh)
}

// verifyAll looks for everything, once no caller is left.
func (k *acknowledged) verifyAll(t *testing.T, d database) {
	t.Helper()
	k.verify(t, d)
	var all []loadAnswer
	for _, a := range k.furthest {
		all = append(all, loadAnswer{Action: a})
	}
	look(t, d, all)
	if k.deliveries == 0 {
		t.Error("nothing was delivered, so the test shows nothing")
	}
}

func look(t *testing.T, d database, told []loadAnswer) {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatalf("open the ledger again: %v", err)
	}
	defer closeStore()
	ledger := remediation.New(store)
	rows := map[int64]remediation.Action{} // read after the answers, so never behind them
	for _, a := range told {
		id := a.Action.ID
		row, ok := rows[id]
		if !ok {
			if row, err = ledger.Get(t.Context(), id); err != nil {
				t.Fatalf("acknowledged as %s: %v", a.Action.Status, err)
			}
			rows[id] = row
		}
		if missing := missing(a.Action, row); missing != "" {
			t.Fatalf("action %d (-acknowledged +found):\n%s", id, missing)
		}
	}
}

// missing says what row lacks of an answer: it must be that answer still, or what the lifecycle made of it later.
func missing(told, row remediation.Action) string {
	if told.Status != row.Status && !leads(told.Status, row.Status) {
		return fmt.Sprintf("- %s\n+ %s", told.Status, row.Status)
	}
	return cmp.Diff(told, asOf(told.Status, row))
}

func leads(from, to remediation.Status) bool {
	return slices.ContainsFunc(remediation.Statuses(), func(next remediation.Status) bool {
		return from.CanTransition(next) && (next == to || leads(next, to))
	})
}

// asOf is the row as it was in an earlier status, before later steps filled in theirs.
func asOf(s remediation.Status, row remediation.Action) remediation.Action {
	row.Status = s
	switch s {
	case remediation.Pending:
		row.ApprovedAt, row.ApprovedBy = nil, nil
		fallthrough
	case remediation.Approved:
		row.RejectedAt, row.RejectedBy, row.RejectionReason, row.ExecutedAt = nil, nil, nil, nil
		fallthrough
	case remediation.Executing:
		row.CompletedAt, row.ExitCode, row.Stdout, row.Stderr = nil, nil, nil, nil
	}
	return row
}
