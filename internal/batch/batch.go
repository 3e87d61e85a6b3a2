// Package batch groups concurrent calls, as bbolt's Batch and the group commit of databases do. It is independent of
// the database: one caller at a time leads, takes the queued calls, and answers them.
package batch

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Limit is the maximum number of queued calls, and of calls in a batch.
const Limit = 256

// Queue has at most one leader. It starts no goroutine: a queued caller becomes the leader if there is none.
type Queue[T any] struct {
	leader chan struct{} // has one token while a caller leads
	queued chan *Call[T]
	last   int // size of the last batch; only the leader uses it
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
	queued    = iota // may be taken by the leader or abandoned by its caller
	taken            // is part of a batch
	abandoned        // its context ended while it was queued; it is never part of a batch
	answered
)

// Answer returns err to the caller. It is a no-op if the call was already answered.
func (c *Call[T]) Answer(err error) {
	if c.state.CompareAndSwap(taken, answered) {
		c.err = err
		close(c.done)
	}
}

// TryLead makes the caller the leader if there is no leader, no queued call, and no caller of the last batch that may
// be about to call again. The leader must call Release.
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

// Lead waits until there is no leader and makes the caller the leader, who must call Release.
func (q *Queue[T]) Lead(ctx context.Context) error {
	select {
	case q.leader <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release ends the lead.
func (q *Queue[T]) Release() { <-q.leader }

// Stat reports whether there is a leader, and the number of queued calls.
func (q *Queue[T]) Stat() (led bool, queued int) { return len(q.leader) > 0, len(q.queued) }

// Do queues a call and returns when it is answered. If its caller becomes the leader, Do runs lead, which must call
// Release and answer own and all calls from Collect. A context that ends removes a queued call, but not one that is
// part of a batch.
func (q *Queue[T]) Do(ctx context.Context, value T, lead func(own *Call[T])) error {
	if err := ctx.Err(); err != nil {
		return err // the select below would choose at random
	}
	own := &Call[T]{Value: value, Ctx: ctx, done: make(chan struct{})}
	for queue := q.queued; ; {
		select {
		case queue <- own:
			queue = nil // it is queued
			continue
		case q.leader <- struct{}{}:
			if own.state.CompareAndSwap(queued, taken) {
				lead(own)
			} else {
				q.Release() // another leader has taken it
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

// AwaitCallers lets the callers of the last batch queue their next calls. The leader may call it before Collect. After
// a batch of one it does nothing.
func (q *Queue[T]) AwaitCallers() {
	if q.last > 1 {
		for seen := -1; seen < len(q.queued); runtime.Gosched() {
			seen = len(q.queued)
		}
	}
}

// Collect returns the batch: own first, then the queued calls. Only the leader may call it.
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
