// Package batch runs concurrent calls together, like bbolt's Batch and the group commit of databases. One caller at a
// time is the leader: it takes the queued calls as one batch, runs them and answers each of them. The package does not
// depend on a database.
package batch

import (
	"context"
	"runtime"
	"sync/atomic"
)

// Limit is the maximum number of calls in the queue, and in one batch.
const Limit = 256

// Queue is a queue of calls with at most one leader. It starts no goroutine: when there is no leader, the caller of a
// queued call becomes the leader.
type Queue[T any] struct {
	leader chan struct{} // has a token while there is a leader
	queued chan *Call[T]
	last   int // the size of the last batch; only the leader uses it
}

// NewQueue returns an empty Queue.
func NewQueue[T any]() *Queue[T] {
	return &Queue[T]{leader: make(chan struct{}, 1), queued: make(chan *Call[T], Limit)}
}

// Call is a call that is queued or part of a batch.
type Call[T any] struct {
	Value T
	Ctx   context.Context // of the caller

	state atomic.Int32
	done  chan struct{} // closed when err is final
	err   error
}

// The states of a call.
const (
	queued    = iota // waits in the queue
	taken            // is part of a batch
	abandoned        // its context ended while it was queued, so it is never part of a batch
	answered
)

// Answer ends the call with err. It is a no-op if the call has an answer already.
func (c *Call[T]) Answer(err error) {
	if c.state.CompareAndSwap(taken, answered) {
		c.err = err
		close(c.done)
	}
}

// TryLead reports whether the caller became the leader without waiting; the leader must call Release. It fails if there
// is a leader, if a call is queued, or if the last batch had several calls, whose callers are likely to call again
// soon.
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

// Lead waits until there is no leader and makes the caller the leader, which must call Release. If ctx ends first, Lead
// returns its error.
func (q *Queue[T]) Lead(ctx context.Context) error {
	select {
	case q.leader <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release ends the lead, so that another caller can become the leader.
func (q *Queue[T]) Release() { <-q.leader }

// Stat returns whether there is a leader, and the number of queued calls.
func (q *Queue[T]) Stat() (hasLeader bool, queued int) { return len(q.leader) > 0, len(q.queued) }

// Do queues a call and waits for its answer. If the caller becomes the leader, Do runs lead with its call (own). lead
// must call Collect, answer every call of the batch, and call Release. If ctx ends while the call is queued, the call
// is abandoned and Do returns the error of ctx. A call that is already part of a batch waits for its answer.
func (q *Queue[T]) Do(ctx context.Context, value T, lead func(own *Call[T])) error {
	if err := ctx.Err(); err != nil {
		return err // the select below could still queue the call: it chooses at random
	}
	own := &Call[T]{Value: value, Ctx: ctx, done: make(chan struct{})}
	for queue := q.queued; ; {
		select {
		case queue <- own:
			queue = nil // queue the call only once
			continue
		case q.leader <- struct{}{}:
			if own.state.CompareAndSwap(queued, taken) {
				lead(own)
			} else {
				q.Release() // another leader has taken the call into its batch
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

// AwaitCallers gives the callers of the last batch a moment to queue their next calls, so that the next batch is
// larger. The leader may call it before Collect. It yields the processor until the queue stops growing, and is a no-op
// after a batch of one.
func (q *Queue[T]) AwaitCallers() {
	if q.last > 1 {
		for seen := -1; seen < len(q.queued); runtime.Gosched() {
			seen = len(q.queued)
		}
	}
}

// Collect takes the queued calls and returns them as a batch, after the leader's own call. Only the leader may call it.
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
