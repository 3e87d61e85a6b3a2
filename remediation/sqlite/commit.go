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
// A call that finds nobody else takes the turn and runs its statement alone, as if commits were not here. There is no
// goroutine of its own: a call that waits in line takes the turn itself when it is free.
type commits struct {
	db   *sql.DB // of one connection
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
	err := c.file.check()
	if err == nil {
		err = whileBusy(ctx, c.wait, func() (err error) {
			result, err = run(q, ctx, params)
			return err
		})
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

// call is one statement in line.
type call struct {
	run   func(context.Context, *queries) error
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
	own := &call{run: run, done: make(chan struct{})}
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

// lead runs own and everything in line, and gives the turn back. It has the turn.
func (c *commits) lead(ctx context.Context, q *queries, own *call) error {
	defer func() { <-c.turn }()
	if c.size > 1 {
		// Those who were answered with the last round are about to come back. A call that was alone doesn't look.
		for seen := -1; seen < len(c.line); runtime.Gosched() {
			seen = len(c.line)
		}
	}
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
	c.size = len(round)
	if err := c.file.check(); err != nil {
		for _, call := range round {
			call.err = err
		}
	} else if len(round) == 1 {
		own.err = c.alone(ctx, q, own)
	} else {
		c.together(q, round)
	}
	for _, other := range round[1:] {
		close(other.done)
	}
	return own.err
}

// alone runs a call as a transaction of its own.
func (c *commits) alone(ctx context.Context, q *queries, own *call) error {
	return whileBusy(ctx, c.wait, func() error { return own.run(ctx, q) })
}

// together runs a round in one transaction. It is nobody's context that ends it: an interrupted write inside a
// transaction makes SQLite roll back all of it (https://www.sqlite.org/c3ref/interrupt.html).
func (c *commits) together(q *queries, round []*call) {
	ctx := context.Background()
	err := whileBusy(ctx, c.wait, func() error { return inTransaction(ctx, c.db, q, round) })
	if err == nil {
		return
	}
	for _, call := range round {
		if errors.Is(err, errAlone) {
			call.err = c.alone(ctx, q, call)
		} else {
			call.err = err
		}
	}
}

// errAlone says that the transaction is gone, with nothing written, because of one call in it.
var errAlone = errors.New("each call must run alone")

func inTransaction(ctx context.Context, db *sql.DB, q *queries, round []*call) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	inTx := q.WithTx(tx)
	for _, call := range round {
		call.err = call.run(ctx, inTx)
		if call.err == nil || errors.Is(call.err, sql.ErrNoRows) {
			continue
		}
		// SQLite may have rolled back everything, and would commit the next statement by itself. Only then does BEGIN work.
		_, inside := tx.ExecContext(ctx, "BEGIN")
		if inside == nil || !ownFault(call.err) {
			if err := tx.Rollback(); err != nil {
				return err
			}
			return errAlone
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return nil
}

// ownFault reports whether err is of a kind that undoes only the statement that it came from.
func ownFault(err error) bool {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

func isBusy(err error) bool { return code(err)&0xff == sqlite3.SQLITE_BUSY }

// code is SQLite's extended result code, or 0 if err does not come from SQLite.
func code(err error) int {
	if failed, ok := errors.AsType[*modernc.Error](err); ok {
		return failed.Code()
	}
	return 0
}
