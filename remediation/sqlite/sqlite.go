// Package sqlite stores a ledger in an SQLite database, through modernc.org/sqlite, which needs no cgo.
//
// Most programs call Open. New uses a pool that the program already has, and Tx a transaction.
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

// Store is a ledger's SQLite database. Pass it to remediation.New. It is safe for concurrent use, and several processes
// may use one file.
//
// The first call that needs statements checks the schema's version and rules and prepares the statements. Until Migrate
// has run, every call returns remediation.ErrSchemaVersion.
type Store struct {
	backend        store
	writer, reader *sql.DB // the same pool after New
}

var _ remediation.Store = (*Store)(nil)

// Backend returns the backend that remediation.New uses.
func (s *Store) Backend() remediation.Backend { return &s.backend }

// New returns a Store that uses the caller's pool. The Store's Close releases only the prepared statements. The caller
// closes the pool.
//
// On every connection, the pool's DSN must turn foreign keys on and store times in a format that sorts:
//
//	file:ledger.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_time_format=sqlite
//
// New tests both on the pool's connections and returns a *remediation.InputError that names the parameter to add.
// Without a busy timeout, a call fails at once if another program is writing.
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

// Tx returns a store whose calls are part of the caller's transaction. Their changes take effect when the caller
// commits. The transaction can still be used after a refused transition. Its connection needs foreign keys on. The
// time format of its DSN does not matter.
//
// A transaction that reads before it writes can fail with "database is locked", however long the busy timeout is. To
// avoid that, begin it with _txlock=immediate in the DSN (https://www.sqlite.org/lang_transaction.html). After some
// errors SQLite rolls back the whole transaction by itself, and would commit each later statement as it runs. Then a
// call that writes returns sql.ErrTxDone. A change that has begun does not stop when its context ends, because SQLite
// would roll back the whole transaction for that too.
//
// Stores on one transaction wait for each other. The caller must not run a statement with RETURNING of its own at the
// same time in another goroutine: if two such statements overlap on one connection, SQLite undoes a failed one wrongly.
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

// locks has one lock for each transaction that has stores. The entry is deleted when the transaction is garbage
// collected.
var locks sync.Map // weak.Pointer[sql.Tx] to *sync.Mutex

func lockOf(tx *sql.Tx) *sync.Mutex {
	key := weak.Make(tx)
	lock, known := locks.LoadOrStore(key, new(sync.Mutex))
	if !known {
		runtime.AddCleanup(tx, func(key weak.Pointer[sql.Tx]) { locks.Delete(key) }, key)
	}
	return lock.(*sync.Mutex)
}

// Migrate brings the database to the schema that the code needs. See the function Migrate.
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
	if checkVersion(ctx, s.reader) == nil && group.check() == nil { // the writer could have to wait for a lock
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

// ErrClosed is the error of every call after Close.
var ErrClosed = errors.New("the ledger's store is closed")

// Close releases the prepared statements and, after Open, closes the database. It first waits for running calls to
// return. Closing again is a no-op.
func (s *Store) Close() error {
	s.backend.open.Lock()
	defer s.backend.open.Unlock()
	if s.backend.closed {
		return nil
	}
	s.backend.closed = true
	s.backend.Changed() // wakes followers of the feed, which then return ErrClosed
	var err error
	if st := s.backend.ready.Swap(nil); st != nil {
		err = st.write.Close()
		if st.read != st.write {
			err = errors.Join(err, st.read.Close())
		}
	}
	if s.reader != s.writer { // Open opened them
		err = errors.Join(err, s.reader.Close(), s.writer.Close())
	}
	return err
}

// store implements remediation.Backend.
type store struct {
	remediation.Feed

	prepare func(context.Context) (*statements, error)
	writes  writes

	skipUnreadable atomic.Bool // see readable

	ready  atomic.Pointer[statements]
	mu     sync.Mutex   // locked while preparing
	open   sync.RWMutex // read-locked during every call, and locked to close
	closed bool
}

func (s *store) Backend() remediation.Backend { return s }

type queries = sqlitedb.Queries

type statements struct{ write, read *queries }

// statements returns the statements, which the first call prepares. The caller has read-locked open.
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
