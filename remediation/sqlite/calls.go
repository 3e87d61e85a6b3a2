package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/homelab-cmd/actionledger/remediation"
)

// write and read run all generated statements of a store. The rest of this file recognizes the errors of SQLite and of
// its driver.

// query is a generated method that runs one statement.
type query[P, T any] = func(*queries, context.Context, P) (T, error)

// write runs one statement that changes the database.
func write[P, T any](ctx context.Context, s *store, run query[P, T], params P) (none T, err error) {
	if err := ctx.Err(); err != nil { // a nil context panics here, before anything is locked
		return none, err
	}
	s.open.RLock()
	defer s.open.RUnlock()
	st, err := s.statements(ctx)
	if err != nil {
		return none, err
	}
	var result T
	err = busy(s.writes.write(ctx, st.write, func(ctx context.Context, q *queries) (err error) {
		result, err = run(q, ctx, params)
		return err
	}))
	if !errors.Is(err, sql.ErrNoRows) {
		s.Changed() // after other errors too: the change may have been committed
	}
	if err != nil {
		return none, err
	}
	return result, nil
}

// read runs one statement that changes nothing. It does not wait in the queue of writes.
func read[P, T any](ctx context.Context, s *store, run query[P, T], params P) (none T, err error) {
	if err := ctx.Err(); err != nil { // a nil context panics here, before anything is locked
		return none, err
	}
	s.open.RLock()
	defer s.open.RUnlock()
	st, err := s.statements(ctx)
	if err != nil {
		return none, err
	}
	if err := s.writes.check(); err != nil {
		return none, err
	}
	result, err := run(st.read, ctx, params)
	return result, busy(err)
}

// readable runs a statement that returns actions, without the rows that the driver can't read. Such a row predates the
// rules and has a value that does not fit its column's type. One of them fails the whole statement. To leave them out,
// a statement must check each row, so the store starts to do that after the first failure. In a caller's transaction
// it always does, because nothing there undoes a statement that failed while its rows were read.
func readable[T any](s *store, run func(skipUnreadable bool) (T, error)) (T, error) {
	skip := s.skipUnreadable.Load()
	result, err := run(skip)
	if skip || !isUnreadable(err) {
		return result, err
	}
	s.skipUnreadable.Store(true)
	return run(true)
}

// isUnreadable reports whether a row has a value that the driver can't read. database/sql has no type for that error.
func isUnreadable(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error")
}

// busy adds remediation.ErrBusy to err if SQLite timed out waiting for a lock.
func busy(err error) error {
	if isBusy(err) {
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}

func isBusy(err error) bool { return code(err)&0xff == sqlite3.SQLITE_BUSY }

// code is SQLite's extended result code, or 0 if err does not come from SQLite.
func code(err error) int {
	if failed, ok := errors.AsType[*modernc.Error](err); ok {
		return failed.Code()
	}
	return 0
}
