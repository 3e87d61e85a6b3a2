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

// query is a generated method, which runs one statement.
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

// read runs one statement that changes nothing. It never waits for a writer.
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
	if err := s.writes.check(); err != nil {
		return none, err
	}
	result, err := run(st.read, ctx, params)
	return result, busy(err)
}

// readable runs a statement that returns actions. A row that predates the rules may hold a value that the driver can't read
// as its column's type, and then the whole statement fails. After the first such failure the store's statements leave such
// rows out, which costs them a check of each row. In a caller's transaction they always do, because there nothing undoes a
// statement that failed while its rows were read.
func readable[T any](s *store, run func(skipUnreadable bool) (T, error)) (T, error) {
	skip := s.skipUnreadable.Load()
	result, err := run(skip)
	if skip || !isUnreadable(err) {
		return result, err
	}
	s.skipUnreadable.Store(true)
	return run(true)
}

// isUnreadable reports whether the driver could not read a value of a row. database/sql has no type for that error.
func isUnreadable(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error")
}

// busy wraps an error of SQLite that means a lock timeout with remediation.ErrBusy.
func busy(err error) error {
	if isBusy(err) {
		return fmt.Errorf("%w: %w", remediation.ErrBusy, err)
	}
	return err
}

func isBusy(err error) bool { return code(err)&0xff == sqlite3.SQLITE_BUSY }

// code returns SQLite's extended result code, or 0 if err does not come from SQLite.
func code(err error) int {
	if failed, ok := errors.AsType[*modernc.Error](err); ok {
		return failed.Code()
	}
	return 0
}
