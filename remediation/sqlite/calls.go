package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
	switch {
	case s.commits != nil:
		return commit(ctx, s.commits, st.write, run, params)
	case s.tx != nil:
		return inside(ctx, s, st.write, run, params)
	}
	return single(ctx, s.pool, st.write, run, params)
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

// inside runs one statement in the caller's transaction, if there still is one: only outside of one does BEGIN work.
func inside[P, T any](ctx context.Context, s *store, q *queries, run query[P, T], params P) (result T, err error) {
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
	if _, err := s.tx.ExecContext(ctx, "SAVEPOINT actionledger"); err != nil {
		return result, err
	}
	if result, err = run(q, ctx, params); err != nil {
		// Nothing is left of what failed, which a row that can't be read does after it was written.
		_, _ = s.tx.ExecContext(ctx, "ROLLBACK TO actionledger")
	}
	_, _ = s.tx.ExecContext(ctx, "RELEASE actionledger")
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

// busy names the error of a lock that was not to be had.
func busy(err error) error {
	if isBusy(err) {
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}
