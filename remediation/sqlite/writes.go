package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// writes is how a store makes a change durable: groupCommit after Open, separate after New, joined after Tx.
type writes interface {
	// write runs one statement and returns when its change is durable, or with joined, when it is part of the transaction.
	write(ctx context.Context, q *queries, run statement) error
	// check returns an error if the database is not the one that was opened.
	check() error
}

// statement runs one generated query and keeps its result.
type statement = func(context.Context, *queries) error

// separate commits each statement by itself, on the caller's pool.
type separate struct{ pool *sql.DB }

// write uses an explicit transaction because its Commit says whether the change is durable. Without one, a context that
// ends while database/sql closes the rows hides the error of the commit, and a row that can't be read is written anyway.
func (s separate) write(ctx context.Context, q *queries, run statement) error {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err == nil {
		if err = run(ctx, q.WithTx(tx)); err == nil {
			err = tx.Commit()
		} else {
			_ = tx.Rollback() // SQLite has rolled back by itself after some errors
		}
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) && ctx.Err() != nil {
		return ctx.Err() // database/sql rolls back when the context ends, and reports that in several ways
	}
	return err
}

func (separate) check() error { return nil }

// joined runs each statement in the caller's transaction.
type joined struct {
	tx   *sql.Tx
	lock *sync.Mutex // shared by all stores on tx
}

// write fails if SQLite has rolled back the transaction: BEGIN succeeds only outside of one. No other statement with
// RETURNING may run at the same time: SQLite keeps one savepoint for each statement that writes, assumes that they end in
// the reverse order, and otherwise rolls back to a savepoint that is too old.
func (j joined) write(ctx context.Context, q *queries, run statement) error {
	j.lock.Lock()
	defer j.lock.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := j.tx.ExecContext(ctx, "BEGIN"); err == nil {
		_, err = j.tx.ExecContext(ctx, "ROLLBACK")
		return errors.Join(fmt.Errorf("SQLite has rolled back the transaction: %w", sql.ErrTxDone), err)
	}
	return run(ctx, q)
}

func (joined) check() error { return nil }
