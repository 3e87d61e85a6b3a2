package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// sizes runs n concurrent calls, and returns the sizes of the batches that answered them.
func sizes(t *testing.T, q *Queue[int], n int) (sizes []int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := map[int]bool{}
	lead := func(own *Call[int]) {
		batch := q.Collect(own)
		sizes = append(sizes, len(batch))
		for _, call := range batch {
			mu.Lock()
			answered[call.Value] = true
			mu.Unlock()
			call.Answer(nil)
		}
		q.Release()
	}
	if err := q.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		wg.Go(func() {
			if err := q.Do(t.Context(), i, lead); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Wait()
	q.Release()
	wg.Wait()
	if len(answered) != n {
		t.Errorf("%d of %d calls were answered", len(answered), n)
	}
	return sizes
}

func TestQueuedCallsFormOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if diff := cmp.Diff([]int{64}, sizes(t, NewQueue[int](), 64)); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

func TestBatchSizeIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := slices.Max(sizes(t, NewQueue[int](), 3*Limit)); got != Limit {
			t.Errorf("the largest batch has %d calls, want %d", got, Limit)
		}
	})
}

func TestTryLeadFailsWithALeaderOrAfterALargerBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int]()
		if !q.TryLead() {
			t.Error("TryLead fails on a new queue")
		}
		if q.TryLead() {
			t.Error("there are two leaders")
		}
		q.Release()
		sizes(t, q, 2)
		if q.TryLead() {
			t.Error("TryLead succeeds after a batch of two")
		}
		sizes(t, q, 1)
		if !q.TryLead() {
			t.Error("TryLead fails after a batch of one")
		}
	})
}

func TestContextEndsAQueuedCallButNotACallInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int]()
		if err := q.Lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		never := func(*Call[int]) { t.Error("an abandoned call became the leader") }
		errs := make(chan error, 2)
		go func() { errs <- q.Do(ctx, 1, never) }()
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the queued call returned %v, want context.Canceled", err)
		}

		ctx, cancel = context.WithCancel(t.Context())
		own := &Call[int]{done: make(chan struct{})}
		go func() { errs <- q.Do(ctx, 2, never) }()
		synctest.Wait()
		batch := q.Collect(own)
		if len(batch) != 2 || batch[1].Value != 2 {
			t.Fatalf("the batch has %d calls, want own and call 2", len(batch))
		}
		cancel()
		synctest.Wait()
		batch[1].Answer(nil)
		batch[1].Answer(errors.New("a second answer"))
		if err := <-errs; err != nil {
			t.Errorf("the call in the batch returned %v, want the first answer, nil", err)
		}
		q.Release()
		if err := q.Do(ctx, 3, never); !errors.Is(err, context.Canceled) {
			t.Errorf("a call whose context has ended returned %v, want context.Canceled", err)
		}
	})
}
