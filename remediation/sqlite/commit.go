package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/homelab-cmd/actionledger/internal/batch"
)

// commits lets calls that come at the same time share one commit, which is what a durable write costs. The leader runs what
// is queued, each call as its own statement in one transaction, commits once, and only then answers.
//
// A context ends a wait, never a transaction: an interrupted write makes SQLite roll back all of it
// (https://www.sqlite.org/c3ref/interrupt.html).
type commits struct {
	db    *sql.DB // of one connection, which begins each transaction with the lock to write
	file  file
	wait  time.Duration // at most, for another program's lock
	queue *batch.Queue[statement]
}

// statement is a call that is queued.
type statement struct {
	run   func(context.Context, *queries) error
	since time.Time
	err   error
}

func newCommits(db *sql.DB, file file, wait time.Duration) *commits {
	return &commits{db: db, file: file, wait: wait, queue: batch.NewQueue[statement]()}
}

// commit runs one statement and returns when it is durable, or has failed.
func commit[P, T any](ctx context.Context, c *commits, q *queries, run query[P, T], params P) (T, error) {
	if !c.queue.LeadAlone() {
		return commitShared(ctx, c, q, run, params)
	}
	defer c.queue.Release()
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
	own := statement{since: time.Now(), run: func(ctx context.Context, q *queries) (err error) {
		*answer, err = run(q, ctx, params)
		return err
	}}
	if err := c.queue.Do(ctx, own, func(own *batch.Call[statement]) { c.lead(q, own) }); err != nil {
		var none T
		return none, busy(err)
	}
	return *answer, nil
}

// begin waits for the lock. Only the leader calls it.
func (c *commits) begin(ctx context.Context, since time.Time) (tx *sql.Tx, err error) {
	err = whileBusy(ctx, since, c.wait, func() (err error) {
		if err = c.file.check(); err == nil {
			tx, err = c.db.BeginTx(context.Background(), nil)
		}
		return err
	})
	return tx, err
}

// end commits, or rolls back if there was an error. It does not report success if the file was moved or replaced.
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
	if err := c.queue.Lead(ctx); err != nil {
		return err
	}
	defer c.queue.Release()
	if err := c.file.check(); err != nil {
		return err
	}
	return f()
}

// lead runs own and everything that is queued.
func (c *commits) lead(q *queries, own *batch.Call[statement]) {
	defer c.queue.Release()
	c.queue.Expect()
	// The others stay queued until the lock is there: each waits for its own time, and may give up.
	tx, err := c.begin(own.Ctx, own.Value.since)
	if err != nil {
		own.Answer(err)
		return
	}
	calls := c.queue.Collect(own)
	err = c.end(tx, runAll(q.WithTx(tx), calls))
	for _, call := range calls {
		switch {
		case err == nil:
			call.Answer(call.Value.err)
		case errors.Is(err, ErrFileGone):
			call.Answer(err)
		default: // nothing is written, because of one of them
			call.Answer(c.alone(q, call.Value))
		}
	}
}

// alone runs a statement in a transaction of its own.
func (c *commits) alone(q *queries, s statement) error {
	tx, err := c.begin(context.Background(), s.since)
	if err != nil {
		return err
	}
	return c.end(tx, s.run(context.Background(), q.WithTx(tx)))
}

// runAll ends at the first error: SQLite may have rolled back everything, and would commit the next statement by itself.
// That a statement found no row is an answer.
func runAll(q *queries, calls []*batch.Call[statement]) error {
	for _, call := range calls {
		s := &call.Value
		if s.err = s.run(context.Background(), q); s.err != nil && !errors.Is(s.err, sql.ErrNoRows) {
			return s.err
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
