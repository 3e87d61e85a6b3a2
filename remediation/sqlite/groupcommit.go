package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/homelab-cmd/actionledger/internal/batch"
)

// groupCommit lets concurrent calls share one commit, which is the expensive part of a durable write. The leader runs all
// queued calls in one transaction, each as a statement of its own, commits once, and only then answers them.
//
// A context ends a wait, never a transaction: an interrupted write makes SQLite roll back the whole transaction
// (https://www.sqlite.org/c3ref/interrupt.html).
type groupCommit struct {
	db    *sql.DB // has one connection, which begins each transaction with the write lock
	file  file
	wait  time.Duration // at most, for another program's lock
	queue *batch.Queue[queued]
}

// queued is a call in the queue.
type queued struct {
	run   statement
	since time.Time
	err   error
}

func newGroupCommit(db *sql.DB, file file, wait time.Duration) *groupCommit {
	return &groupCommit{db: db, file: file, wait: wait, queue: batch.NewQueue[queued]()}
}

func (g *groupCommit) write(ctx context.Context, q *queries, run statement) error {
	call := queued{run: run, since: time.Now()}
	if g.queue.TryLead() {
		defer g.queue.Release()
		return g.solo(ctx, q, call)
	}
	return g.queue.Do(ctx, call, func(own *batch.Call[queued]) { g.lead(q, own) })
}

// check reports ErrFileGone to readers too: SQLite itself would continue to read the old file.
func (g *groupCommit) check() error { return g.file.check() }

// begin waits for the lock. Only the leader calls it.
func (g *groupCommit) begin(ctx context.Context, since time.Time) (tx *sql.Tx, err error) {
	err = whileBusy(ctx, since, g.wait, func() (err error) {
		if err = g.file.check(); err == nil {
			tx, err = g.db.BeginTx(context.Background(), nil)
		}
		return err
	})
	return tx, err
}

// end commits, or rolls back if there was an error. It does not report success if the file was moved or replaced.
func (g *groupCommit) end(tx *sql.Tx, err error) error {
	if err != nil {
		_ = tx.Rollback() // SQLite has rolled back by itself after some errors
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return g.file.check()
}

// exclusively runs f while this store writes nothing else.
func (g *groupCommit) exclusively(ctx context.Context, f func() error) error {
	if err := g.queue.Lead(ctx); err != nil {
		return err
	}
	defer g.queue.Release()
	if err := g.file.check(); err != nil {
		return err
	}
	return f()
}

// lead runs own and all queued calls.
func (g *groupCommit) lead(q *queries, own *batch.Call[queued]) {
	defer g.queue.Release()
	g.queue.AwaitCallers()
	// The other calls stay queued until the leader has the lock: each has its own time limit and may give up.
	tx, err := g.begin(own.Ctx, own.Value.since)
	if err != nil {
		own.Answer(err)
		return
	}
	calls := g.queue.Collect(own)
	err = g.end(tx, runAll(q.WithTx(tx), calls))
	for _, call := range calls {
		switch {
		case err == nil:
			call.Answer(call.Value.err)
		case errors.Is(err, ErrFileGone):
			call.Answer(err)
		default: // one call failed, and with it the transaction
			call.Answer(g.solo(context.Background(), q, call.Value))
		}
	}
}

// solo runs one call in a transaction of its own. ctx ends only the wait for the lock.
func (g *groupCommit) solo(ctx context.Context, q *queries, call queued) error {
	tx, err := g.begin(ctx, call.since)
	if err != nil {
		return err
	}
	return g.end(tx, call.run(context.Background(), q.WithTx(tx)))
}

// runAll stops at the first error: SQLite may have rolled back the transaction, and would then commit the next statement by
// itself. A statement that finds no row has not failed.
func runAll(q *queries, calls []*batch.Call[queued]) error {
	for _, call := range calls {
		s := &call.Value
		if s.err = s.run(context.Background(), q); s.err != nil && !errors.Is(s.err, sql.ErrNoRows) {
			return s.err
		}
	}
	return nil
}
