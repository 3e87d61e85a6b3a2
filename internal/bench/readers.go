package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// readers measures one reader's Get and List, first on an idle ledger and then with 64 writers that don't pause.
func readers(ctx context.Context, c config) (*table, error) {
	progress("ours: readers and writers")
	const history, writers = 20_000, 64
	d, err := buildSQLite(ctx, c.path("readers"), history, 100)
	if err != nil {
		return nil, err
	}
	defer d.close()
	for w := range writers {
		if err := d.ledger.AddServer(ctx, "writer-"+strconv.Itoa(w)); err != nil {
			return nil, err
		}
		if err := d.ledger.Pause(ctx, "writer-"+strconv.Itoa(w)); err != nil {
			return nil, err
		}
	}
	var idle, busy [2]samples // Get, List
	read := func(took *[2]samples) error {
		_, err := during(ctx, c.duration/rounds, func() error {
			err := took[0].time(func() error {
				_, err := d.ledger.Get(ctx, upTo(history))
				return err
			})
			if err != nil {
				return err
			}
			return took[1].time(func() error {
				_, err := d.ledger.List(ctx, remediation.Filter{Before: upTo(history) + 50})
				return err
			})
		})
		return err
	}
	var written rate
	for range rounds {
		if err := read(&idle); err != nil {
			return nil, err
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var failed error
		wg.Go(func() {
			r, err := concurrently(writers, func(w int) (n int, err error) {
				for {
					select {
					case <-stop:
						return n, nil
					default:
					}
					if err := runAction(ctx, byLedger{d.ledger}, "writer-"+strconv.Itoa(w)); err != nil {
						return n, err
					}
					n += len(stepNames)
				}
			})
			written.add(r)
			failed = err
		})
		err := read(&busy)
		close(stop)
		wg.Wait()
		if err != nil {
			return nil, err
		}
		if failed != nil {
			return nil, failed
		}
	}
	t := &table{
		title: "SQLite: one reader, idle and with 64 writers",
		note: fmt.Sprintf("Microseconds per call, at random places of a history of %d actions. The writers made %s steps "+
			"per second and share the cores with the reader.", history, perSecond(written.perSecond())),
		header: []string{"call", "idle p50", "idle p99", "busy p50", "busy p99", "p50 ratio", "p99 ratio", "target"},
	}
	for i, name := range []string{"Get", "List of 50"} {
		p99 := ratio(busy[i].quantile(0.99), idle[i].quantile(0.99))
		t.row(name, micros(idle[i].median()), micros(idle[i].quantile(0.99)),
			micros(busy[i].median()), micros(busy[i].quantile(0.99)),
			times(ratio(busy[i].median(), idle[i].median())), times(p99), atMost(p99, 3))
	}
	return t, nil
}

// listOutputs measures a List of rows with large outputs, which List doesn't return.
func listOutputs(ctx context.Context, c config) (*table, error) {
	t := &table{
		title: "SQLite: List of 1,000 actions by the size of their outputs",
		note: "Each list is on a new connection to its own file. MB allocated is what Go allocated, MB read is what " +
			"system calls read (rchar). The ratio is to the same rows with empty outputs.",
		header: []string{"rows", "MB allocated", "MB read", "milliseconds", "read ratio"},
	}
	var empty uint64
	for _, shape := range []struct {
		name string
		size int
		key  string
	}{
		{"empty outputs", 0, "NULL"},
		{"1 MiB outputs", 1 << 20, "NULL"},
		{"1 MiB outputs, with a dedupe_key", 1 << 20, "'key-' || n"},
	} {
		progress("ours: List with %s", shape.name)
		path := c.path("outputs")
		if err := buildOutputs(ctx, path, shape.size, shape.key); err != nil {
			return nil, err
		}
		allocated, read, took, err := listFresh(ctx, path)
		remove(path)
		if err != nil {
			return nil, err
		}
		if empty == 0 {
			empty = read
		}
		t.row(shape.name, megabytes(allocated), megabytes(read), millis(took.median()),
			times(float64(read)/float64(empty)))
	}
	return t, nil
}

// listFresh lists 1,000 actions on a new connection.
func listFresh(ctx context.Context, path string) (allocated, read uint64, took samples, err error) {
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return 0, 0, nil, err
	}
	defer store.Close()
	l := remediation.New(store)
	if _, err := l.List(ctx, remediation.Filter{Before: 1}); err != nil { // connects and prepares
		return 0, 0, nil, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	readBefore := bytesRead()
	err = took.time(func() error {
		page, err := l.List(ctx, remediation.Filter{Limit: 1000})
		if err == nil && len(page) != 1000 {
			err = fmt.Errorf("the page has %d actions", len(page))
		}
		return err
	})
	readAfter := bytesRead()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, readAfter - readBefore, took, err
}

// bytesRead returns the bytes that this process has read by system calls, from the disk or from its cache.
func bytesRead() uint64 {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0
	}
	defer f.Close()
	text, _ := io.ReadAll(f)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "rchar: "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

func megabytes(n uint64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
