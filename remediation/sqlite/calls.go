package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/homelab-cmd/actionledger/remediation"
)

// query is a generated method: a statement, its parameters and what it returns.
type query[P, T any] = func(*queries, context.Context, P) (T, error)

// write runs one statement that changes the database.
func write[P, T any](ctx context.Context, s *store, run query[P, T], params P) (none T, err error) {
	if err := ctx.Err(); err != nil { // a nil context panics here, where nothing is locked
		return none, err
	}
	s.open.RLock()
	defer s.open.RUnlock()
	st, err := s.statements(ctx)
	if err != nil {
		return none, err
	}
	var result T
	switch {
	case s.commits != nil:
		result, err = commit(ctx, s.commits, st.write, run, params)
	case s.tx != nil:
		result, err = inTransaction(ctx, s, st.write, run, params)
	default:
		result, err = single(ctx, s.pool, st.write, run, params)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		s.Changed() // after other errors too: a commit may have happened all the same
	}
	return result, err
}

// single runs one statement in a transaction of its own, which says whether it holds: without one, a context that ends
// while database/sql closes the rows takes the error of the commit with it, and rows that can't be read are written.
func single[P, T any](ctx context.Context, pool *sql.DB, q *queries, run query[P, T], params P) (result T, err error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err == nil {
		if result, err = run(q.WithTx(tx), ctx, params); err == nil {
			err = tx.Commit()
		} else {
			_ = tx.Rollback() // SQLite has rolled back by itself after some errors
		}
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) && ctx.Err() != nil {
		err = ctx.Err() // database/sql rolls back because of it, and says many things
	}
	return result, busy(err)
}

// inTransaction runs one statement in the caller's transaction, if there still is one: BEGIN works only without one. No
// other statement with RETURNING may be open meanwhile: SQLite keeps one savepoint for each statement that writes, counts
// them as if they ended in the reverse order, and otherwise rolls back to a savepoint that is too old.
func inTransaction[P, T any](ctx context.Context, s *store, q *queries, run query[P, T], params P) (result T, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return result, err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := s.tx.ExecContext(ctx, "BEGIN"); err == nil {
		_, err = s.tx.ExecContext(ctx, "ROLLBACK")
		return result, errors.Join(fmt.Errorf("SQLite has rolled back the transaction: %w", sql.ErrTxDone), err)
	}
	result, err = run(q, ctx, params)
	return result, busy(err)
}

// read runs one statement that changes nothing, and never waits for a writer.
func read[P, T any](ctx context.Context, s *store, run query[P, T], params P) (none T, err error) {
	if err := ctx.Err(); err != nil { // as in write
		return none, err
	}
	s.open.RLock()
	defer s.open.RUnlock()
	st, err := s.statements(ctx)
	if err != nil {
		return none, err
	}
	if s.commits != nil {
		if err := s.commits.file.check(); err != nil {
			return none, err
		}
	}
	result, err := run(st.read, ctx, params)
	return result, busy(err)
}

// readable runs a statement that returns actions. Only rows from before the rules can hold a value that the driver can't
// read as its column's type. Such a row fails the whole statement, so from the first one on this store leaves them out,
// which costs each statement a look at the times of its rows. In a caller's transaction they are always left out, because
// there a statement that fails while its rows are read is not undone.
func readable[T any](s *store, run func(skipUnreadable bool) (T, error)) (T, error) {
	skip := s.tx != nil || s.hasUnreadable.Load()
	result, err := run(skip)
	if skip || !isUnreadable(err) {
		return result, err
	}
	s.hasUnreadable.Store(true)
	return run(true)
}

// isUnreadable reports whether a row held a value that the driver can't read; database/sql has no type for that error.
func isUnreadable(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error")
}

// busy names the error of a lock that was not to be had.
func busy(err error) error {
	if isBusy(err) {
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}
