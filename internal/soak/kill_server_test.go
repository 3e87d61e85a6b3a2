package soak

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
)

// Connections are terminated while many callers work. Every acknowledged change must be stored.
func TestTerminatedBackendsLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	d := database(pgtest.URL(t))
	t.Cleanup(func() { d.check(t) })
	addServers(t, d)
	acks := newAcknowledged()
	terminated := 0
	run := newRun(t, 40, func() string { return fmt.Sprintf("%d backends terminated, %s", terminated, acks) })
	stop := workInBackground(t, withParam(t, d, "application_name", "load"), acks, run.Uint64())
	db := d.raw(t)
	for run.next() {
		waitForAnswers(t, acks, 1)
		time.Sleep(time.Duration(run.Int64N(int64(50 * time.Millisecond)))) // terminate at a random moment
		backends := backends(t, db)
		run.Shuffle(len(backends), func(i, j int) { backends[i], backends[j] = backends[j], backends[i] })
		for _, pid := range backends[:min(1+run.IntN(4), len(backends))] {
			var ended bool
			if err := db.QueryRow("SELECT pg_terminate_backend($1)", pid).Scan(&ended); err != nil {
				t.Fatal(err)
			}
			if ended {
				terminated++
			}
		}
		if run.rounds%20 == 0 {
			acks.verify(t, d)
		}
	}
	stop()
	acks.verifyAll(t, d)
}

// backends returns the process ids of the server processes that serve the load.
func backends(t *testing.T, db *sql.DB) []int {
	t.Helper()
	rows, err := db.Query(`SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'load' ORDER BY pid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []int
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			t.Fatal(err)
		}
		list = append(list, pid)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// A server is shut down with pg_ctl stop -m immediate while many callers work, and started again. Every acknowledged
// change must be stored.
func TestImmediateShutdownLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := ledgerOn(t, c)
	acks := newAcknowledged()
	shutdowns := 0
	run := newRun(t, 2, func() string { return fmt.Sprintf("%d immediate shutdowns, %s", shutdowns, acks) })
	stop := workInBackground(t, d, acks, run.Uint64())
	for run.next() {
		waitForAnswers(t, acks, 200)
		time.Sleep(time.Duration(run.Int64N(int64(300 * time.Millisecond)))) // stop at a random moment
		c.stop(t, "immediate")
		shutdowns++
		c.start(t)
		acks.verify(t, d)
		d.check(t)
	}
	waitForAnswers(t, acks, 200) // the pool has reconnected
	stop()
	acks.verifyAll(t, d)
	d.check(t)
}

// withParam adds a parameter to a database's URL.
func withParam(t *testing.T, d database, name, value string) database {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(string(d)))
	params := u.Query()
	params.Set(name, value)
	u.RawQuery = params.Encode()
	return database(u.String())
}

// workInBackground runs a load until the test calls stop or ends. The load may lose its connections. Any other error
// fails the test.
func workInBackground(t *testing.T, d database, acks *acknowledged, seed uint64) (stop func()) {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l := &load{ledger: remediation.New(store), onAnswer: acks.add, onError: func(err error) {
		if !connectionLost(err) {
			t.Errorf("a call failed: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // do not retry in a busy loop while the server is down
	}}
	go func() { ended <- l.run(ctx, seed) }()
	stop = func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		if err := errors.Join(<-ended, closeStore()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// connectionLost reports whether err means that a connection broke or that no server accepted one.
func connectionLost(err error) bool {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
		return strings.HasPrefix(refused.Code, "57P") // the server is shutting down, has crashed, or is starting
	}
	if failed := (*pgconn.ConnectError)(nil); errors.As(err, &failed) {
		return true
	}
	if failed := (*net.OpError)(nil); errors.As(err, &failed) {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}

// waitForAnswers waits until the callers got at least more further answers, or the test failed.
func waitForAnswers(t *testing.T, acks *acknowledged, more int) {
	t.Helper()
	want := acks.count() + more
	waitUntil(t, "the callers get answers", func() bool { return t.Failed() || acks.count() >= want })
}

// waitUntil waits for a condition and fails the test if it is still false after a minute.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for begin := time.Now(); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("waited %v until %s", time.Since(begin).Round(time.Second), what)
		}
	}
}
