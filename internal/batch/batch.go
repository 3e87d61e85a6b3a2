// Package batch lets calls that come at the same time be carried out together, as bbolt's Batch and the group commit of
// databases do. It knows no database: one caller at a time leads, takes the calls that are queued, and answers them.
package batch

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Limit bounds how many calls are queued, and how many are one batch.
const Limit = 256

// Queue has at most one leader. It runs no goroutine: a call that is queued becomes the leader itself when there is none.
type Queue[T any] struct {
	leader chan struct{} // holds one token while somebody leads
	queued chan *Call[T]
	last   int // the size of the last batch; the leader's
}

// NewQueue returns an empty Queue.
func NewQueue[T any]() *Queue[T] {
	return &Queue[T]{leader: make(chan struct{}, 1), queued: make(chan *Call[T], Limit)}
}

// Call is a call that is queued or part of a batch.
type Call[T any] struct {
	Value T
	Ctx   context.Context // the caller's

	state atomic.Int32
	done  chan struct{} // closed when err is final
	err   error
}

const (
	queued    = iota // may be taken, or given up by its caller
	taken            // is part of a batch
	abandoned        // its context ended while it was queued; it is never part of a batch
	answered
)

// Answer ends the call, unless it has been answered already.
func (c *Call[T]) Answer(err error) {
	if c.state.CompareAndSwap(taken, answered) {
		c.err = err
		close(c.done)
	}
}

// TryLead makes the caller the leader, who must call Release, if nobody leads, is queued, or is expected back from the
// last batch.
func (q *Queue[T]) TryLead() bool {
	select {
	case q.leader <- struct{}{}:
	default:
		return false
	}
	if q.last <= 1 && len(q.queued) == 0 {
		return true
	}
	q.Release()
	return false
}

// Lead makes the caller the leader, who must call Release, when nobody else is.
func (q *Queue[T]) Lead(ctx context.Context) error {
	select {
	case q.leader <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release lets the next caller lead.
func (q *Queue[T]) Release() { <-q.leader }

// Stat says whether there is a leader, and how many calls are queued.
func (q *Queue[T]) Stat() (led bool, queued int) { return len(q.leader) > 0, len(q.queued) }

// Do queues a call and returns when it is answered. If its caller becomes the leader, lead is run, which must call Release,
// and answer own and what it got from Collect. A context that ends takes a call out of the queue, but not out of a batch.
func (q *Queue[T]) Do(ctx context.Context, value T, lead func(own *Call[T])) error {
	if err := ctx.Err(); err != nil {
		return err // select below would choose at random
	}
	own := &Call[T]{Value: value, Ctx: ctx, done: make(chan struct{})}
	for queue := q.queued; ; {
		select {
		case queue <- own:
			queue = nil // once is enough
			continue
		case q.leader <- struct{}{}:
			if own.state.CompareAndSwap(queued, taken) {
				lead(own)
			} else {
				q.Release() // it became part of a batch meanwhile
			}
		case <-own.done:
		case <-ctx.Done():
			if own.state.CompareAndSwap(queued, abandoned) {
				return ctx.Err()
			}
		}
		<-own.done
		return own.err
	}
}

// AwaitCallers waits for the calls that were answered with the last batch and are about to come back. The leader may call it
// before Collect; it does nothing after a batch of one.
func (q *Queue[T]) AwaitCallers() {
	if q.last > 1 {
		for seen := -1; seen < len(q.queued); runtime.Gosched() {
			seen = len(q.queued)
		}
	}
}

// Collect returns the batch: own, which is first, and the calls that are queued. Only the leader may call it.
func (q *Queue[T]) Collect(own *Call[T]) []*Call[T] {
	batch := append(make([]*Call[T], 0, 1+len(q.queued)), own)
	for len(batch) < Limit {
		select {
		case next := <-q.queued:
			if next != own && next.state.CompareAndSwap(queued, taken) {
				batch = append(batch, next)
			}
			continue
		default:
		}
		break
	}
	q.last = len(batch)
	return batch
}
