// Package sqlite stores a ledger in an SQLite database, through modernc.org/sqlite, which needs no cgo.
//
// Most programs use Open. New and Tx use an existing pool or transaction of the program.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// Store is an SQLite database with a ledger, for remediation.New. It is safe for concurrent use, also by several
// processes on one file.
//
// The first call checks the schema's version and rules and prepares the statements. Until Migrate has run, every call
// returns remediation.ErrSchemaVersion.
type Store struct {
	backend        store
	writer, reader *sql.DB // the same pool after New
}

var _ remediation.Store = (*Store)(nil)

// Backend is for remediation.New.
func (s *Store) Backend() remediation.Backend { return &s.backend }

// New returns a Store on a pool of the caller, who also closes it. Close of the Store releases only the prepared
// statements.
//
// The DSN of the pool must turn on foreign keys and a time format that sorts, for every connection:
//
//	file:ledger.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_time_format=sqlite
//
// New tests both on the pool's connections. If one is wrong, the error is a *remediation.InputError that names the
// parameter to add. Without a busy timeout, a call that meets another writer fails immediately.
func New(ctx context.Context, db *sql.DB) (*Store, error) {
	if err := checkPool(ctx, db); err != nil {
		return nil, fmt.Errorf("use SQLite pool: %w", err)
	}
	return newStore(db, db, separate{db}, 0), nil
}

// newStore returns a Store that waits up to wait for the write lock, in addition to writer's busy timeout.
func newStore(writer, reader *sql.DB, writes writes, wait time.Duration) *Store {
	s := &Store{writer: writer, reader: reader}
	s.backend.writes = writes
	s.backend.prepare = func(ctx context.Context) (*statements, error) {
		if err := checkVersion(ctx, s.reader); err != nil {
			return nil, err
		}
		var write *sqlitedb.Queries
		err := whileBusy(ctx, time.Now(), wait, func() (err error) {
			write, err = sqlitedb.Prepare(ctx, s.writer)
			return err
		})
		if err != nil {
			return nil, err
		}
		if s.reader == s.writer {
			return &statements{write, write}, nil
		}
		read, err := sqlitedb.Prepare(ctx, s.reader)
		if err != nil {
			return nil, errors.Join(err, write.Close())
		}
		return &statements{write, read}, nil
	}
	return s
}

// Tx returns a store whose calls are part of the caller's transaction: their changes become durable when the caller
// commits. A refused transition leaves the transaction usable. The connection of the transaction needs foreign keys on;
// its time format does not matter.
//
// A transaction that reads before it writes can fail with "database is locked", whatever the busy timeout. Begin it
// with _txlock=immediate in the DSN (https://www.sqlite.org/lang_transaction.html). After some errors SQLite rolls back
// the whole transaction by itself and would then commit each statement separately. In that case a change fails with
// sql.ErrTxDone. The end of a context does not interrupt a change, because SQLite would roll back the whole
// transaction.
//
// Stores on one transaction wait for each other. Meanwhile no other goroutine may run a statement with RETURNING on the
// transaction: SQLite undoes a failed statement wrongly when two such statements overlap on one connection.
func Tx(tx *sql.Tx) remediation.Store {
	s := &store{writes: joined{tx, lockOf(tx)}, prepare: func(ctx context.Context) (*statements, error) {
		if err := checkVersion(ctx, tx); err != nil {
			return nil, err
		}
		q := sqlitedb.New(sortableTimes{tx})
		return &statements{q, q}, nil
	}}
	s.skipUnreadable.Store(true)
	return s
}

// locks has one lock for each transaction with stores, and drops it with the transaction.
var locks sync.Map // weak.Pointer[sql.Tx] to *sync.Mutex

func lockOf(tx *sql.Tx) *sync.Mutex {
	key := weak.Make(tx)
	lock, known := locks.LoadOrStore(key, new(sync.Mutex))
	if !known {
		runtime.AddCleanup(tx, func(key weak.Pointer[sql.Tx]) { locks.Delete(key) }, key)
	}
	return lock.(*sync.Mutex)
}

// Migrate upgrades the database to the schema of this code; see the function Migrate.
func (s *Store) Migrate(ctx context.Context) error {
	if err := ctx.Err(); err != nil { // a nil context panics here, before anything is locked
		return fmt.Errorf("migrate SQLite ledger: %w", err)
	}
	s.backend.open.RLock()
	defer s.backend.open.RUnlock()
	if s.backend.closed {
		return fmt.Errorf("migrate SQLite ledger: %w", ErrClosed)
	}
	group, opened := s.backend.writes.(*groupCommit)
	if !opened {
		return Migrate(ctx, s.writer)
	}
	if checkVersion(ctx, s.reader) == nil && group.check() == nil { // the writer may be waiting for a lock
		return nil
	}
	return group.exclusively(ctx, func() error {
		// Sorting for a large index may need more than memory.
		if _, err := s.writer.ExecContext(ctx, "PRAGMA temp_store = default"); err != nil {
			return fmt.Errorf("migrate SQLite ledger: %w", err)
		}
		err := Migrate(ctx, s.writer)
		_, restored := s.writer.ExecContext(context.WithoutCancel(ctx), "PRAGMA temp_store = memory")
		return errors.Join(err, restored)
	})
}

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("the ledger's store is closed")

// Close releases the prepared statements and, after Open, the database. It waits for calls in progress. Closing again
// is a no-op.
func (s *Store) Close() error {
	s.backend.open.Lock()
	defer s.backend.open.Unlock()
	if s.backend.closed {
		return nil
	}
	s.backend.closed = true
	s.backend.Changed() // wakes waiting followers, which then return ErrClosed
	var err error
	if st := s.backend.ready.Swap(nil); st != nil {
		err = st.write.Close()
		if st.read != st.write {
			err = errors.Join(err, st.read.Close())
		}
	}
	if s.reader != s.writer { // opened by Open
		err = errors.Join(err, s.reader.Close(), s.writer.Close())
	}
	return err
}

// store implements remediation.Backend for Open, New and Tx.
type store struct {
	remediation.Feed

	prepare func(context.Context) (*statements, error)
	writes  writes

	skipUnreadable atomic.Bool // see readable

	ready  atomic.Pointer[statements]
	mu     sync.Mutex   // locked while preparing
	open   sync.RWMutex // read-locked during every call
	closed bool
}

func (s *store) Backend() remediation.Backend { return s }

type queries = sqlitedb.Queries

type statements struct{ write, read *queries }

// statements returns the prepared statements, and prepares them at the first call. The caller has locked open.
func (s *store) statements(ctx context.Context) (*statements, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if st := s.ready.Load(); st != nil {
		return st, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.ready.Load(); st != nil {
		return st, nil
	}
	st, err := s.prepare(ctx)
	if err != nil {
		return nil, busy(err)
	}
	s.ready.Store(st)
	return st, nil
}
