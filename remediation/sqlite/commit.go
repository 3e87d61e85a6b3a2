package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxShared bounds how many calls wait in line, and so how many share one commit.
const maxShared = 256

// commits lets calls that come at the same time share one commit, which is what a durable write costs. Whoever gets the
// turn runs what waits in line, each call as its own statement in one transaction, commits once, and only then answers.
// There is no goroutine of its own: a call that waits in line takes the turn itself when it is free.
//
// A context ends a wait, never a transaction: an interrupted write makes SQLite roll back all of it
// (https://www.sqlite.org/c3ref/interrupt.html).
type commits struct {
	db   *sql.DB // of one connection, which begins each transaction with the lock to write
	file file
	wait time.Duration // at most, for another program's lock

	turn chan struct{} // holds one token while somebody runs statements
	line chan *call
	size int // of the last round; its owner has the turn
}

func newCommits(db *sql.DB, file file, wait time.Duration) *commits {
	return &commits{db: db, file: file, wait: wait, turn: make(chan struct{}, 1), line: make(chan *call, maxShared)}
}

// commit runs one statement and returns when it is durable, or has failed.
func commit[P, T any](ctx context.Context, c *commits, q *queries, run query[P, T], params P) (T, error) {
	if !c.idle() {
		return commitShared(ctx, c, q, run, params)
	}
	defer func() { <-c.turn }()
	var result T
	tx, err := c.begin(ctx, time.Now())
	if err == nil {
		result, err = run(q.WithTx(tx), context.Background(), params)
		err = c.end(tx, err)
	}
	return result, busy(err)
}

// commitShared is a function of its own so that a call which is alone allocates nothing for it.
func commitShared[P, T any](ctx context.Context, c *commits, q *queries, run query[P, T], params P) (T, error) {
	answer := new(T)
	err := c.do(ctx, q, func(ctx context.Context, q *queries) (err error) {
		*answer, err = run(q, ctx, params)
		return err
	})
	if err != nil {
		var none T
		return none, busy(err)
	}
	return *answer, nil
}

// idle takes the turn if nobody has it, nobody waits for it, and nobody is expected back from the last round.
func (c *commits) idle() bool {
	select {
	case c.turn <- struct{}{}:
	default:
		return false
	}
	if c.size <= 1 && len(c.line) == 0 {
		return true
	}
	<-c.turn
	return false
}

// begin waits for the lock. Whoever calls it has the turn.
func (c *commits) begin(ctx context.Context, since time.Time) (tx *sql.Tx, err error) {
	err = whileBusy(ctx, since, c.wait, func() (err error) {
		if err = c.file.check(); err == nil {
			tx, err = c.db.BeginTx(context.Background(), nil)
		}
		return err
	})
	return tx, err
}

// end commits, or rolls back if there was an error. It answers for nothing that the file may have gone under.
func (c *commits) end(tx *sql.Tx, err error) error {
	if err != nil {
		_ = tx.Rollback() // SQLite has rolled back by itself after some errors
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return c.file.check()
}

// exclusively runs f when nobody else writes.
func (c *commits) exclusively(ctx context.Context, f func() error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	if err := c.file.check(); err != nil {
		return err
	}
	return f()
}

// call is one statement in line.
type call struct {
	run   func(context.Context, *queries) error
	since time.Time
	state atomic.Int32 // who decides about it: see the constants
	err   error
	done  chan struct{} // closed when err is final
}

const (
	waiting = iota // may be taken, or given up by its caller
	taken          // runs: what becomes of it is no longer its caller's to say
	givenUp        // its context ended while it waited; it never runs
)

// do runs one statement and returns when it is durable or has failed. When ctx ends while the statement waits, it never
// runs.
func (c *commits) do(ctx context.Context, q *queries, run func(context.Context, *queries) error) error {
	if err := ctx.Err(); err != nil {
		return err // select below would choose at random
	}
	own := &call{run: run, since: time.Now(), done: make(chan struct{})}
	for line := c.line; ; {
		select {
		case line <- own:
			line = nil // once is enough
		case c.turn <- struct{}{}:
			if own.state.CompareAndSwap(waiting, taken) {
				return c.lead(ctx, q, own)
			}
			<-c.turn // somebody had it run while we took the turn
			<-own.done
			return own.err
		case <-own.done:
			return own.err
		case <-ctx.Done():
			if own.state.CompareAndSwap(waiting, givenUp) {
				return ctx.Err()
			}
			// It runs already, in somebody else's transaction, and only the end of that says what became of it.
			<-own.done
			return own.err
		}
	}
}

// lead runs own, and everything that waits in line, and gives the turn back. It has the turn.
func (c *commits) lead(ctx context.Context, q *queries, own *call) error {
	defer func() { <-c.turn }()
	if c.size > 1 {
		// Those who were answered with the last round are about to come back. A call that was alone doesn't look.
		for seen := -1; seen < len(c.line); runtime.Gosched() {
			seen = len(c.line)
		}
	}
	// The others stay in line until the lock is there: each waits for its own time, and may give up.
	tx, err := c.begin(ctx, own.since)
	if err != nil {
		return err
	}
	round := c.round(own)
	c.size = len(round)
	err = c.end(tx, runAll(q.WithTx(tx), round))
	for _, call := range round {
		switch {
		case err == nil:
		case errors.Is(err, ErrFileGone):
			call.err = err
		default: // nothing is written, because of one of them
			call.err = c.alone(q, call)
		}
	}
	for _, other := range round[1:] {
		close(other.done)
	}
	return own.err
}

// round is own and what waits in line.
func (c *commits) round(own *call) []*call {
	round := append(make([]*call, 0, 1+len(c.line)), own)
	for len(round) < maxShared {
		select {
		case next := <-c.line:
			if next != own && next.state.CompareAndSwap(waiting, taken) {
				round = append(round, next)
			}
			continue
		default:
		}
		break
	}
	return round
}

// alone runs a call in a transaction of its own.
func (c *commits) alone(q *queries, call *call) error {
	tx, err := c.begin(context.Background(), call.since)
	if err != nil {
		return err
	}
	return c.end(tx, call.run(context.Background(), q.WithTx(tx)))
}

// runAll ends at the first error: SQLite may have rolled back everything, and would commit the next statement by itself.
// That a statement found no row is an answer.
func runAll(q *queries, round []*call) error {
	for _, call := range round {
		if call.err = call.run(context.Background(), q); call.err != nil && !errors.Is(call.err, sql.ErrNoRows) {
			return call.err
		}
	}
	return nil
}

func isBusy(err error) bool { return code(err)&0xff == sqlite3.SQLITE_BUSY }

// code is SQLite's extended result code, or 0 if err does not come from SQLite.
func code(err error) int {
	if failed, ok := errors.AsType[*modernc.Error](err); ok {
		return failed.Code()
	}
	return 0
}
