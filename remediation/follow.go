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

const (
	pollInterval = 250 * time.Millisecond // longest delay of an event of another process
	followLimit  = 500                    // events in a page
	pollGap      = 5 * time.Millisecond   // shortest time between two polls, so that changes share one
)

// Follow returns the events after the event with the id after, in the order of Events, and then waits for new events
// until ctx ends. It misses and repeats none. Start with 0, and keep the ID of the last event that you have handled.
//
// Events of changes through the same store arrive within milliseconds. Others, such as those of another process, of raw
// SQL or of a caller's transaction, arrive within half a second of their commit. On PostgreSQL both delays count from
// the moment when Events returns the event.
//
// When ctx ends the sequence ends without an error; ctx.Err() returns the cause. Any other error, such as a restart of
// the server or a Close of the store, is yielded once, with a zero Event, and ends the sequence. To resume, follow from
// the last ID.
//
// Each range over the sequence starts at after. Any number of followers may wait. No goroutine is started: one of the
// waiting followers polls the database for all, four times a second and after each change. Followers with the same last
// event share a query.
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
			if len(page) == followLimit { // there may be more
				read = readPage
			}
		}
	}
}

func readPage(ctx context.Context, store Backend, after int64) ([]Event, error) {
	return listEvents(ctx, store, after, followLimit)
}

// Feed delivers new events to the followers of one store. A Backend embeds a Feed and calls Changed. Its zero value is
// usable.
type Feed struct {
	interval time.Duration // instead of pollInterval, for tests
	waiting  atomic.Int64  // followers in next
	begin    sync.Once
	changed  chan struct{} // has a token if a change may have been made since the last poll
	leading  chan struct{} // has a token while a follower leads
	polled   time.Time     // time of the last poll; only the leader uses it

	mu        sync.Mutex
	positions map[int64]*position // by the id of the last event
}

// position groups the followers that have the same last event.
type position struct {
	followers int
	done      chan struct{} // closed when page and err are final
	page      []Event
	err       error
}

// Changed reports that a change was committed. It makes the leader poll immediately. It never blocks.
func (f *Feed) Changed() {
	if f.waiting.Load() > 0 {
		f.wake()
	}
}

func (f *Feed) wake() {
	select {
	case f.changed <- struct{}{}:
	default: // the leader is about to poll anyway
	}
}

func (f *Feed) feed() *Feed { return f }

var _ interface{ feed() *Feed } = (*Feed)(nil) // so that a struct with a Feed in it can be a Backend

// next waits for events after an id and returns a page of them. One follower leads: it polls the store for all
// followers until its own position has events or its context ends. Then another follower leads.
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

// join makes the leader poll a new position immediately, because its follower may have missed the last change.
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
		select { // changes that come together share one poll
		case <-own.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Until(f.polled.Add(pollGap))):
		}
		select {
		case <-f.changed: // the next poll sees what was committed until here
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

// poll reads the events after each position. An error is returned to all followers, unless the leader's own ctx has
// ended: then the next leader polls again.
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

// publish ends the wait of the positions with these ids.
func (f *Feed) publish(page []Event, err error, ids ...int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, after := range ids {
		if p := f.positions[after]; p != nil { // or its followers have left
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
