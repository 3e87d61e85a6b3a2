package remediation

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The pace and the page size of Follow.
const (
	pollInterval = 250 * time.Millisecond // between two polls if no change is reported, for events of other processes
	followLimit  = 500                    // events in a page
	pollGap      = 5 * time.Millisecond   // the minimum between two polls, so that many changes share one poll
)

// Follow returns the events that come after the event with the id after, in the order of Events. Then it waits for new
// events until ctx ends. No event is missed or repeated. Start with 0, and keep the ID of the last event that you have
// handled.
//
// An event of a change through the same store arrives within milliseconds of its commit. Any other event arrives within
// half a second of its commit, for example one of another process, of raw SQL or of a transaction of the caller. On
// PostgreSQL both times count from when Events shows the event.
//
// When ctx ends, the sequence ends without an error; ctx.Err() says why. Any other error ends the sequence after it is
// yielded once, with a zero Event. Examples are a restart of the server and a Close of the store. To continue, call
// Follow with the last ID.
//
// Each range over the sequence starts at after. Any number of followers may wait at once, and Follow starts no
// goroutine. One of the waiting followers polls the database for all of them, four times a second and after each
// change. Followers with the same last event share one query.
func (l *Ledger) Follow(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := checkAfter(after); err != nil {
			yield(Event{}, fmt.Errorf("follow events: %w", err))
			return
		}
		for last, read := after, l.store.feed().next; ; {
			page, err := read(ctx, l.store, last)
			if err != nil && ctx.Err() == nil {
				yield(Event{}, fmt.Errorf("follow events: %w", err))
			}
			if err != nil {
				return
			}
			for _, e := range page {
				if ctx.Err() != nil || !yield(e, nil) {
					return
				}
				last = e.ID
			}
			read = l.store.feed().next
			if len(page) == followLimit { // there may be more events already, so do not wait
				read = readPage
			}
		}
	}
}

// readPage reads one page without waiting.
func readPage(ctx context.Context, store Backend, after int64) ([]Event, error) {
	return listEvents(ctx, store, after, followLimit)
}

// Feed lets all followers of one store wait for its next events and share the polls. A Backend embeds a Feed, and calls
// Changed after each change. The zero value is ready for use.
type Feed struct {
	interval time.Duration // replaces pollInterval in tests
	waiting  atomic.Int64  // the number of followers in next
	begin    sync.Once
	changed  chan struct{} // has a token if something may have changed since the last poll
	leading  chan struct{} // has a token while a follower leads
	polled   time.Time     // the time of the last poll; only the leader uses it

	mu        sync.Mutex
	positions map[int64]*position // by the id of the last event
}

// position is a set of waiting followers that have the same last event. They share one query and its result.
type position struct {
	followers int
	done      chan struct{} // closed when page and err are final
	page      []Event
	err       error
}

// Changed reports that a change was committed, so that the leader polls at once. It does not block.
func (f *Feed) Changed() {
	if f.waiting.Load() > 0 {
		f.wake()
	}
}

// wake makes the leader poll.
func (f *Feed) wake() {
	select {
	case f.changed <- struct{}{}:
	default: // the leader has not taken the last token yet, and will poll
	}
}

func (f *Feed) feed() *Feed { return f }

var _ interface{ feed() *Feed } = (*Feed)(nil) // a struct that embeds a Feed implements feed of Backend

// next waits for events after an id and returns a page of them. One follower is the leader: it polls the store for all
// followers, until its own position has events or its context ends. Then another follower becomes the leader.
func (f *Feed) next(ctx context.Context, store Backend, after int64) ([]Event, error) {
	f.begin.Do(func() {
		f.changed, f.leading, f.positions = make(chan struct{}, 1), make(chan struct{}, 1), map[int64]*position{}
	})
	p := f.join(after)
	defer f.leave(after, p)
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case f.leading <- struct{}{}:
		f.lead(ctx, store, p)
	}
	select {
	case <-p.done:
		return clone(p.page), p.err
	default:
		return nil, ctx.Err()
	}
}

// join adds a follower to the position after an id. The leader polls a new position at once, because a change may have
// been reported before the follower joined.
func (f *Feed) join(after int64) *position {
	f.waiting.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.positions[after]
	if p == nil {
		p = &position{done: make(chan struct{})}
		f.positions[after] = p
		f.wake()
	}
	p.followers++
	return p
}

// leave removes a follower from its position, and the position if it has no other follower.
func (f *Feed) leave(after int64, p *position) {
	f.waiting.Add(-1)
	f.mu.Lock()
	defer f.mu.Unlock()
	p.followers--
	if p.followers == 0 && f.positions[after] == p {
		delete(f.positions, after)
	}
}

// lead polls until own is done or ctx has ended. The caller has put the token into leading; lead removes it.
func (f *Feed) lead(ctx context.Context, store Backend, own *position) {
	defer func() { <-f.leading }()
	interval := f.interval
	if interval == 0 {
		interval = pollInterval
	}
	for {
		select { // wait for pollGap, so that many changes share one poll
		case <-own.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Until(f.polled.Add(pollGap))):
		}
		select {
		case <-f.changed: // the poll below sees every change that was reported before
		default:
		}
		f.poll(ctx, store)
		f.polled = time.Now()
		select {
		case <-own.done:
			return
		case <-ctx.Done():
			return
		case <-f.changed:
		case <-time.After(interval):
		}
	}
}

// poll reads the events after each position. An error is published to all followers. If the leader's own ctx has ended,
// the error is dropped, and the next leader polls again.
func (f *Feed) poll(ctx context.Context, store Backend) {
	f.mu.Lock()
	ids := slices.Collect(maps.Keys(f.positions))
	f.mu.Unlock()
	for _, after := range ids {
		page, err := readPage(ctx, store, after)
		switch {
		case err == nil && len(page) > 0:
			f.publish(page, nil, after)
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			f.publish(nil, err, ids...)
			return
		}
	}
}

// publish ends the wait of the followers at the positions with these ids, and gives them the page or the error.
func (f *Feed) publish(page []Event, err error, ids ...int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, after := range ids {
		if p := f.positions[after]; p != nil { // nil if all its followers have left
			p.page, p.err = page, err
			close(p.done)
			delete(f.positions, after)
		}
	}
}

// clone copies a page, so that followers do not share pointers.
func clone(page []Event) []Event {
	page = slices.Clone(page)
	for i, e := range page {
		if e.Actor != nil {
			page[i].Actor = new(*e.Actor)
		}
		if e.Detail != nil {
			page[i].Detail = new(*e.Detail)
		}
	}
	return page
}
