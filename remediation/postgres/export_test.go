package postgres

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// InBatches makes a store run every call in a batch, even a batch of one call.
func InBatches(s remediation.Store) remediation.Store {
	b := &s.(*store).batches
	b.create.minSize, b.approve.minSize, b.reject.minSize, b.withdraw.minSize = 1, 1, 1, 1
	b.claim.minSize, b.start.minSize, b.finish.minSize, b.heartbeat.minSize = 1, 1, 1, 1
	return s
}

// Together runs calls of a store concurrently and returns their errors. All of them are queued before the first one
// runs. Calls of one kind are queued in the order given.
func Together(t *testing.T, s remediation.Store, calls ...func() error) []error {
	t.Helper()
	b := &s.(*store).batches
	type queue interface {
		Lead(context.Context) error
		Release()
		Stat() (led bool, queued int)
	}
	queues := []queue{b.create.queue, b.approve.queue, b.reject.queue, b.withdraw.queue,
		b.claim.queue, b.start.queue, b.finish.queue, b.heartbeat.queue}
	stale := 0 // queue entries of earlier calls
	for _, q := range queues {
		if err := q.Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, n := q.Stat()
		stale += n
	}
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call() })
		for begin := time.Now(); ; runtime.Gosched() {
			queued := 0
			for _, q := range queues {
				_, n := q.Stat()
				queued += n
			}
			if queued == stale+i+1 {
				break
			}
			if time.Since(begin) > time.Minute {
				t.Errorf("%d calls are queued after a minute, want %d", queued, stale+i+1)
				break
			}
		}
	}
	for _, q := range queues {
		q.Release()
	}
	wg.Wait()
	return errs
}
