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

// WithBusyTimeout sets how long a call waits for another program that writes to the same file, by default 5 seconds.
// SQLite counts whole milliseconds.
func WithBusyTimeout(d time.Duration) Option {
	return func(o *options) { o.busyTimeout = d }
}

// readers is how many reads run at once. Each open connection has a page cache.
const readers = 8

// pageCache is the size of each connection's cache in KiB. It has room for the inner pages of tables with millions of
// rows, and for the pages that a thousand servers write to. SQLite's default of 2 MB is too small for them.
const pageCache = 16_000

// Open opens the database file at path. If there is none, it creates one that only its owner can read. Migrate then
// creates the tables. The file is in WAL mode with synchronous FULL: a change whose call returned without an error
// survives a power cut. One connection writes and up to 8 others read. Reads do not wait for writes, nor writes for
// reads. Each connection caches up to 16 MB.
//
// path is the path of a file. It is not a URI, and not ":memory:", which would be one database for each connection.
// Open returns an error if there is a -wal or a hot -journal whose database file is missing or empty, because SQLite
// would delete it. Put the database file back beside it, or move it away.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	o := options{busyTimeout: 5 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("open SQLite ledger: %w", err)
	}
	full, err := filepath.Abs(path) // the process may change its directory before a connection opens
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
	// SQLite's busy timeout is 0 because whileBusy waits for the write lock. SQLite retries after longer and longer
	// pauses, up to 100 ms, and keeps missing the short gap between two transactions of a program that writes all the
	// time. temp_store is memory because SQLite saves the old content of each page that a statement changes, and uses
	// a temporary file from 64 KiB on. That is slower than the statement itself.
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

// ErrFileGone is the error of every call if the file that Open opened was removed, moved or replaced since then. SQLite
// itself would continue to use the old file. Put the file back. A call that was running at that time may have changed
// the old file.
var ErrFileGone = errors.New("the database file was removed or replaced while it was open")

// file is the database file as Open found it.
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
		prefix = "file://" // otherwise SQLite takes the start of a path with two slashes for a host
	}
	return prefix + (&url.URL{Path: path}).EscapedPath() + "?" + params.Encode()
}

// checkLeftover returns an error if a -wal or -journal has changes of a database file that is missing or empty. It
// looks for the database file last, because another Open that runs at the same time creates that file first.
func checkLeftover(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // SQLite names -wal and -journal after the target of a link
	}
	left := path + "-wal"
	if wal, err := os.Stat(left); err != nil || wal.Size() == 0 {
		left = path + "-journal"
		if !isHotJournal(left) {
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

// isHotJournal reports whether a rollback journal would restore pages: its header is valid, and the database had pages
// when the transaction began (https://www.sqlite.org/fileformat.html#the_rollback_journal). A new database had none.
func isHotJournal(journal string) bool {
	f, err := os.Open(journal)
	if err != nil {
		return false
	}
	defer f.Close()
	header := make([]byte, 20)
	_, err = io.ReadFull(f, header)
	return err == nil && string(header[:8]) == "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" && binary.BigEndian.Uint32(header[16:]) > 0
}

// creating makes a second Open in this process wait until create has closed the new file. Closing any descriptor of a
// file drops all POSIX locks that the process has on it (https://www.sqlite.org/howtocorrupt.html).
var creating sync.Mutex

// create creates the file if there is none. Its mode is stricter than SQLite's default, and -wal and -shm inherit it.
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

// useWAL puts the file into WAL mode permanently.
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

// whileBusy retries try as long as another program has the file's lock, and returns the error once wait has passed
// after since. A try that fails must change nothing.
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
