package soak

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// This file tests restarts, missing connections, locks and missing privileges on PostgreSQL.

// loginRole creates a role that is not a superuser, so that privileges and limits apply to it. It returns the role's
// name and the URL of the database for it.
func loginRole(t *testing.T, d database, options string) (role string, as database) {
	t.Helper()
	at := must[*url.URL](t)(url.Parse(string(d)))
	role = strings.TrimPrefix(at.Path, "/") + "_role"
	owner := connectTo(t, d)
	_, err := owner.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'secret' "+options)
	wantNoError(t, err)
	t.Cleanup(func() {
		_, err := owner.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		wantNoError(t, err)
	})
	at.User = url.UserPassword(role, "secret")
	return role, database(at.String())
}

func connectTo(t *testing.T, d database) *pgx.Conn {
	t.Helper()
	conn := must[*pgx.Conn](t)(pgx.Connect(t.Context(), string(d)))
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// A server is stopped under load and while idle. The same pool works again after each restart, and every acknowledged
// action is stored.
func TestPoolReconnectsAfterServerRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := ledgerOn(t, c)
	l := newCreateLog(t, d.ledger(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // in case a call never fails
	defer cancel()
	wantNoError(t, l.createTogether(t, 64)...)
	uncertain, errs := make([]string, 16), make([]error, 16) // calls whose answer was lost may have happened
	var working, wg sync.WaitGroup
	working.Add(len(errs))
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = l.create(ctx, 10)
			working.Done()
			for errs[i] == nil {
				uncertain[i], errs[i] = l.create(ctx, 10)
			}
		})
	}
	working.Wait()
	c.stop(t, "immediate")
	wg.Wait()
	t.Log(errs[0])
	var err error
	for range 17 { // one call more than the pool has dead connections
		_, err = l.create(ctx, 10)
	}
	wantErrorText(t, "connection refused", err)
	c.start(t)
	wantNoError(t, l.createTogether(t, 64)...)
	l.check(t, d, uncertain...)

	c.stop(t, "fast") // no call is running, so the pool may find dead connections only later
	c.start(t)
	lost := 0
	for range 16 {
		var name string
		if name, err = l.create(ctx, 10); err != nil {
			uncertain = append(uncertain, name)
			lost++
		}
	}
	t.Logf("%d of 16 calls after the restart failed: %v", lost, err)
	wantNoError(t, l.createTogether(t, 64)...)
	l.check(t, d, uncertain...)
	d.check(t)
}

// The role's connection limit is reached. Calls get ErrBusy until a connection is free.
func TestRoleConnectionLimitIsBusyUntilAConnectionIsFree(t *testing.T) {
	t.Parallel()
	d := database(pgtest.URL(t))
	owner := connectTo(t, d)
	role, as := loginRole(t, d, "CONNECTION LIMIT 2")
	_, err := owner.Exec(t.Context(), "GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role)
	wantNoError(t, err)
	l := newCreateLog(t, d.ledger(t))
	l.Ledger = as.ledger(t)
	others := []*pgx.Conn{connectTo(t, as), connectTo(t, as)}
	wantErrorIs(t, remediation.ErrBusy, l.createTogether(t, 16)...)
	wantNoError(t, others[0].Close(t.Context()))
	wantFree(t, l, func() error { _, err := l.create(t.Context(), 10); return err })

	busy := 0
	for _, err := range l.createTogether(t, 16) { // more callers than connections: callers without one write nothing
		if errors.Is(err, remediation.ErrBusy) {
			busy++
		} else {
			wantNoError(t, err)
		}
	}
	t.Logf("%d of 16 callers were busy", busy)
	l.check(t, d)
	d.check(t)
}

// max_connections of the server is reached. Calls get ErrBusy until a connection is free.
func TestMaxConnectionsIsBusyUntilAConnectionIsFree(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "max_connections = 8")
	d := ledgerOn(t, c)
	l := newCreateLog(t, d.ledger(t))
	others := []*pgx.Conn{connectTo(t, d)}
	waitUntil(t, "every connection is taken", func() bool {
		if other, err := pgx.Connect(t.Context(), string(d)); err == nil {
			others = append(others, other)
		}
		var n int
		const count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
		wantNoError(t, others[0].QueryRow(t.Context(), count).Scan(&n))
		return n == 8
	})
	l.Ledger = d.ledger(t) // on a new pool, which has no connection yet
	wantErrorIs(t, remediation.ErrBusy, l.createTogether(t, 16)...)
	for _, other := range others {
		wantNoError(t, other.Close(t.Context()))
	}
	wantFree(t, l, func() error { _, err := l.create(t.Context(), 10); return err })
	l.check(t, d)
	d.check(t)
}

// wantFree retries a call while it gets ErrBusy, for at most a minute. The server needs a moment to notice that a
// client has disconnected.
func wantFree(t *testing.T, l *createLog, call func() error) {
	t.Helper()
	err := call()
	for begin := time.Now(); errors.Is(err, remediation.ErrBusy) && time.Since(begin) < time.Minute; {
		err = call()
	}
	wantNoError(t, err)
}

// Another session locks a row. A call that needs the row gets ErrBusy after lock_timeout and changes nothing.
func TestRowLockedByAnotherSessionIsBusyAfterTheLockTimeout(t *testing.T) {
	t.Parallel()
	d := database(pgtest.URL(t))
	l := newCreateLog(t, d.ledger(t))
	wantNoError(t, l.Pause(t.Context(), "web-1"))
	create := func() remediation.Action {
		return must[remediation.Action](t)(l.Create(t.Context(), remediation.NewAction{
			ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "ann",
		}))
	}
	locked, free := create(), create()
	config := must[*pgxpool.Config](t)(pgxpool.ParseConfig(string(d)))
	config.ConnConfig.RuntimeParams["lock_timeout"] = "50ms"
	pool := must[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), config))
	defer pool.Close()
	shortWait := remediation.New(postgres.New(pool))

	tx := must[pgx.Tx](t)(connectTo(t, d).Begin(t.Context()))
	_, err := tx.Exec(t.Context(), "SELECT FROM remediation_actions WHERE id = $1 FOR UPDATE", locked.ID)
	wantNoError(t, err)
	_, err = shortWait.Approve(t.Context(), locked.ID, "ann")
	wantErrorIs(t, remediation.ErrBusy, err)
	_, err = shortWait.ApproveMany(t.Context(), []int64{locked.ID, free.ID}, "ann")
	wantErrorIs(t, remediation.ErrBusy, err)
	for _, a := range []remediation.Action{locked, free} {
		if diff := cmp.Diff(a, must[remediation.Action](t)(shortWait.Get(t.Context(), a.ID))); diff != "" {
			t.Errorf("an action after a call that got ErrBusy (-before +after):\n%s", diff)
		}
	}
	_, err = shortWait.Approve(t.Context(), free.ID, "ann")
	wantNoError(t, err, tx.Rollback(t.Context()))
	_, err = shortWait.Approve(t.Context(), locked.ID, "ann")
	wantNoError(t, err)
	d.check(t)
}

// Without a privilege a call fails and names the table. The test grants the privileges one by one.
func TestMissingPrivilegeErrorNamesTheTable(t *testing.T) {
	t.Parallel()
	d := database(pgtest.URL(t))
	l := newCreateLog(t, d.ledger(t))
	owner := connectTo(t, d)
	role, as := loginRole(t, d, "")
	l.Ledger = as.ledger(t)
	create := func() error { _, err := l.create(t.Context(), 10); return err }
	grant := func(privileges string) {
		_, err := owner.Exec(t.Context(), "GRANT "+privileges+" TO "+role)
		wantNoError(t, err)
	}
	wantErrorText(t, "permission denied for table schema_migrations", create())
	grant("SELECT ON schema_migrations")
	wantErrorText(t, "permission denied for table remediation_actions", create())
	grant("SELECT, INSERT ON remediation_actions")
	wantErrorText(t, "permission denied for table servers", create())
	grant("SELECT ON servers, alerts")
	wantErrorText(t, "permission denied for table servers", create()) // a row lock needs UPDATE
	grant("UPDATE (paused_at) ON servers")
	wantNoError(t, create())
	_, err := l.Claim(t.Context(), "web-1")
	wantErrorText(t, "permission denied for table remediation_actions", err)
	l.check(t, d)
	d.check(t)
}
