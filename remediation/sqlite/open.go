package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Option changes how Open opens a database.
type Option func(*options)

type options struct {
	busyTimeout time.Duration
}

// WithBusyTimeout sets how long a call waits for another program that writes to the same file. The default is 5
// seconds. SQLite counts in whole milliseconds.
func WithBusyTimeout(d time.Duration) Option {
	return func(o *options) { o.busyTimeout = d }
}

// readers is the number of concurrent reads. Each open connection has a page cache.
const readers = 8

// pageCache is the cache of each connection, in KiB: enough for the inner pages of an index over millions of actions,
// and for the pages that a thousand servers write to. SQLite's default of 2 MB is not.
const pageCache = 16_000

// Open opens the database file at path, or creates it, readable only by its owner. Call Migrate to create the tables.
// The file is in WAL mode with synchronous FULL: a change survives a power failure once its call has returned no error.
// One connection writes, up to 8 others read, and readers and the writer don't wait for each other. Each caches up to
// 16 MB.
//
// path is a file path, not a URI, and not ":memory:", which would be one database for each connection. Open refuses a
// -wal or a hot -journal whose database file is missing or empty, because SQLite would delete it. Restore the database
// file, or move the -wal or -journal away.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	o := options{busyTimeout: 5 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("open SQLite ledger: %w", err)
	}
	full, err := filepath.Abs(path) // connections that open later must not depend on the working directory
	if err != nil {
		return nil, fmt.Errorf("open SQLite ledger %q: %w", path, err)
	}
	s, err := open(ctx, full, o)
	if err != nil {
		return nil, fmt.Errorf("open SQLite ledger %q: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, o options) (*Store, error) {
	if err := ctx.Err(); err != nil { // a nil context panics here, before anything is open
		return nil, err
	}
	if err := checkLeftover(path); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	// whileBusy waits for another program's write lock. SQLite's own busy handler polls every 100 ms in the end, and
	// misses the short pauses of a program that writes continuously.
	writer, err := sql.Open("sqlite", dsn(path, 0, "synchronous(FULL)", "temp_store(memory)"))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := useWAL(ctx, writer, o.busyTimeout); err != nil {
		return nil, errors.Join(busy(err), writer.Close())
	}
	opened, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader, err := sql.Open("sqlite", dsn(path, o.busyTimeout, "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return newStore(writer, reader, newGroupCommit(writer, file{path, opened}, o.busyTimeout), o.busyTimeout), nil
}

// ErrFileGone is returned by every call to a ledger whose file was removed or replaced after Open. SQLite itself would
// continue with the old file, which has no name any more. Restore the file. A change that was in progress may have been
// written to the old file.
var ErrFileGone = errors.New("the database file was removed or replaced while it was open")

// file identifies the database file as Open found it.
type file struct {
	path   string
	opened fs.FileInfo
}

func (f file) check() error {
	now, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(f.opened, now) {
		return ErrFileGone
	}
	return err
}

func checkPath(path string) error {
	switch {
	case path == "":
		return &remediation.InputError{Field: "path", Problem: "is empty"}
	case strings.HasPrefix(path, ":memory:"):
		return &remediation.InputError{Field: "path", Problem: "is :memory:, which would be one database for each connection"}
	case strings.HasPrefix(path, "file:"):
		return &remediation.InputError{Field: "path", Problem: "is a URI: give the file's path, or open the pool yourself for New"}
	}
	return nil
}

func dsn(path string, busyTimeout time.Duration, pragmas ...string) string {
	params := url.Values{
		"mode":         {"rw"}, // create has created the file
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
		"_dqs":         {"0"},
		"_defensive":   {"1"},
		"_pragma": append([]string{
			"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")",
			"foreign_keys(1)",
			"cache_size(-" + strconv.Itoa(pageCache) + ")",
		}, pragmas...),
	}
	prefix := "file:"
	if strings.HasPrefix(path, "/") {
		prefix = "file://" // without it SQLite reads the text after a second slash as a host
	}
	return prefix + (&url.URL{Path: path}).EscapedPath() + "?" + params.Encode()
}

// checkLeftover refuses a -wal or -journal with changes if its database file is missing or empty. It checks the
// database file last, because another Open may be creating it, and creates it first.
func checkLeftover(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // SQLite names these files after the target of a link
	}
	left := path + "-wal"
	if wal, err := os.Stat(left); err != nil || wal.Size() == 0 {
		left = path + "-journal"
		if !restores(left) {
			return nil
		}
	}
	db, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) && (err != nil || db.Size() > 0) {
		return err
	}
	return fmt.Errorf("%s has changes of a database file that is missing or empty: "+
		"put the database file back beside it, or move it away", left)
}

// restores reports whether a rollback journal would restore pages: its header is valid, and the database had pages when
// the transaction began (https://www.sqlite.org/fileformat.html#the_rollback_journal). The journal of a new database
// has none.
func restores(journal string) bool {
	f, err := os.Open(journal)
	if err != nil {
		return false
	}
	defer f.Close()
	header := make([]byte, 20)
	_, err = io.ReadFull(f, header)
	return err == nil && string(header[:8]) == "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" && binary.BigEndian.Uint32(header[16:]) > 0
}

// creating serializes create within this process. Closing any descriptor of a file releases all POSIX locks that the
// process has on it, so create must not close a file that another Open has already locked
// (https://www.sqlite.org/howtocorrupt.html).
var creating sync.Mutex

// create creates the file if it does not exist, readable only by its owner. -wal and -shm inherit the mode.
func create(path string) error {
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	}
	return err
}

// useWAL switches the file to WAL mode, which is permanent.
func useWAL(ctx context.Context, db *sql.DB, wait time.Duration) error {
	var mode string
	err := whileBusy(ctx, time.Now(), wait, func() error {
		return db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("the file system allows no WAL, only journal mode %s", mode)
	}
	return err
}

// whileBusy retries try while another program has the lock of the file, until wait has passed since then. try must be
// atomic.
func whileBusy(ctx context.Context, since time.Time, wait time.Duration, try func() error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := try()
		if !isBusy(err) {
			return err
		}
		if time.Since(since) >= wait {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
}
