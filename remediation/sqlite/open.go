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

// WithBusyTimeout sets how long a call waits for another program that writes to the same file, 5 seconds by default.
// SQLite counts it in whole milliseconds.
func WithBusyTimeout(d time.Duration) Option {
	return func(o *options) { o.busyTimeout = d }
}

// readers is how many reads run at once; each open connection costs a page cache.
const readers = 8

// pageCache is each connection's, in KiB: the inner pages of a history of millions, and what a thousand servers write to.
// SQLite's own 2 MB fall behind with it.
const pageCache = 16_000

// Open opens the database file at path, and creates it, readable by its owner alone, if there is none; then Migrate
// makes its tables. The file is in WAL mode with synchronous FULL: a call that returned without an error survives a
// power cut. One connection writes, up to 8 others read, and neither waits for the other; each caches up to 16 MB.
//
// path is a file's path, not a URI, and not ":memory:", which would be one database for each connection. Open refuses a
// -wal or a hot -journal whose database file is missing or empty, because SQLite would delete it: put the database file
// back beside it, or move it away.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	o := options{busyTimeout: 5 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("open SQLite ledger: %w", err)
	}
	full, err := filepath.Abs(path) // a connection that opens later must not follow a change of directory
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
	if err := ctx.Err(); err != nil { // a nil context panics here, where nothing is open
		return nil, err
	}
	if err := checkLeftover(path); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	// The wait for another program's write lock is whileBusy's. SQLite's own looks ever more rarely, up to every 100 ms, and
	// never meets the moment that a program which writes without a pause leaves between two transactions.
	// SQLite keeps the old content of each page that a statement changes, and from 64 KiB on in a temporary file, which is
	// slower than the statement itself.
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

// ErrFileGone is the error of every call to a ledger that Open opened and whose file was removed, or replaced by another,
// since then. SQLite itself would go on with the file that nobody can find any more. Put the file back. A change that was
// under way may have reached the file that is gone.
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
		"mode":         {"rw"}, // create has made the file
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
		prefix = "file://" // or SQLite would take what follows a second slash for a host
	}
	return prefix + (&url.URL{Path: path}).EscapedPath() + "?" + params.Encode()
}

// checkLeftover refuses a -wal or -journal with changes of a database file that is missing or empty. It looks for the
// database file last: another Open may be creating it, and creates it first.
func checkLeftover(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // SQLite names its files after the target of a link
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
// it began (https://www.sqlite.org/fileformat.html#the_rollback_journal). The journal of a new database had none.
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

// creating keeps a second Open in this process from locking the new file before create has closed it: closing any
// descriptor of a file drops all POSIX locks that the process holds on it (https://www.sqlite.org/howtocorrupt.html).
var creating sync.Mutex

// create makes the file if there is none, with a mode that SQLite would not give it; -wal and -shm inherit the mode.
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

// useWAL puts the file into WAL mode, where it stays.
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

// whileBusy tries again as long as another program holds the file's lock, until wait has passed since then. try must be
// all or nothing.
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
