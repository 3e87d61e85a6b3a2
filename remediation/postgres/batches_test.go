package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// fleet is a ledger on a pool, with a server for each concurrent call.
type fleet struct {
	*remediation.Ledger
	store   remediation.Store
	pool    *pgxpool.Pool
	servers []string
}

func newFleet(t *testing.T, servers int) *fleet {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.URL(t))
	f := &fleet{store: postgres.New(pool), pool: pool}
	f.Ledger = newLedger(f.store)
	for i := range servers {
		f.servers = append(f.servers, fmt.Sprintf("web-%d", i))
		if err := f.AddServer(t.Context(), f.servers[i]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// each runs a call for each server, all at once, and fails the test on an error.
func (f *fleet) each(t *testing.T, call func(server string) error) {
	t.Helper()
	var calls []func() error
	for _, server := range f.servers {
		calls = append(calls, func() error { return call(server) })
	}
	if err := errors.Join(postgres.Together(t, f.store, calls...)...); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentCallsShareATransaction(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 8)
	// A row's xmin is the id of the transaction that wrote it.
	wantOneTransaction := func(step string) {
		t.Helper()
		if n := column[int64](t, f.pool, "SELECT count(DISTINCT xmin::text) FROM remediation_actions"); n[0] != 1 {
			t.Errorf("%s used %d transactions, want 1", step, n[0])
		}
	}
	for _, server := range f.servers {
		if err := f.Pause(t.Context(), server); err != nil {
			t.Fatal(err)
		}
	}
	ids := sync.Map{}
	id := func(server string) int64 { v, _ := ids.Load(server); return v.(int64) }
	f.each(t, func(server string) error {
		a, err := f.Create(t.Context(), newAction(server))
		ids.Store(server, a.ID)
		if err == nil && a.ServerID != server {
			err = fmt.Errorf("Create for %s returned an action of %s", server, a.ServerID)
		}
		return err
	})
	wantOneTransaction("Create")
	f.each(t, func(server string) error { _, err := f.Approve(t.Context(), id(server), "bob"); return err })
	wantOneTransaction("Approve")
	f.each(t, func(server string) error {
		a, err := f.Claim(t.Context(), server)
		if err == nil && a.ID != id(server) {
			err = fmt.Errorf("%s claimed action %d, want %d", server, a.ID, id(server))
		}
		return err
	})
	wantOneTransaction("Claim")
	f.each(t, func(server string) error { _, err := f.Heartbeat(t.Context(), server, id(server)); return err })
	wantOneTransaction("Heartbeat")
	f.each(t, func(server string) error {
		a, err := f.Finish(t.Context(), server, id(server), remediation.Result{Stdout: "of " + server})
		if err == nil && (a.Stdout == nil || *a.Stdout != "of "+server) {
			err = fmt.Errorf("Finish for %s returned %v", server, a)
		}
		return err
	})
	wantOneTransaction("Finish")
}

// Each of pgx's query modes sends parameters in its own way. Connection poolers require some of the modes.
func TestBatchInEveryQueryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := with(t, pgtest.URL(t), "default_query_exec_mode", mode)
			pool := pgtest.Pool(t, url)
			store := postgres.New(pool)
			ledger := newLedger(store)
			if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			given := newAction("web-1")
			given.Command = "it's \\ \"{},NULL\" ünïcode\n"
			given.ServiceName, given.AlertID = new("nginx"), new(must[int64](t)(ledger.AddAlert(t.Context(), "web-1", "down")))
			given.NotBefore, given.ExpiresAt = new(now.Add(-time.Microsecond)), new(now.Add(time.Hour))
			given.MaxRuntimeSeconds = new(int64(60))
			plain, keyed := newAction("web-1"), newAction("web-1")
			keyed.IdempotencyKey = new("one")
			created := make([]remediation.Action, 3)
			var calls []func() error
			for i, a := range []remediation.NewAction{given, plain, keyed} {
				calls = append(calls, func() (err error) { created[i], err = ledger.Create(t.Context(), a); return err })
			}
			if err := errors.Join(postgres.Together(t, store, calls...)...); err != nil {
				t.Fatal(err)
			}
			same(t, "transactions", column[int64](t, pool, "SELECT count(DISTINCT xmin::text) FROM remediation_actions"), []int64{1})
			for i, a := range created {
				same(t, fmt.Sprintf("action %d", i), must[remediation.Action](t)(ledger.Get(t.Context(), a.ID)), a)
			}
			same(t, "command", created[0].Command, given.Command)
			same(t, "not_before", created[0].NotBefore, given.NotBefore)
			same(t, "alert", created[0].AlertID, given.AlertID)
			same(t, "key", created[2].IdempotencyKey, keyed.IdempotencyKey)
		})
	}
}

func TestLargeOutputIsNotPartOfABatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	ids := map[string]int64{}
	for _, server := range f.servers {
		must[remediation.Action](t)(f.Create(t.Context(), newAction(server)))
		ids[server] = must[remediation.Action](t)(f.Claim(t.Context(), server)).ID
	}
	finish := func(server string, bytes int) error {
		_, err := f.Finish(t.Context(), server, ids[server], remediation.Result{Stdout: strings.Repeat("x", bytes)})
		return err
	}
	errs := postgres.Together(t, f.store,
		func() error { return finish("web-0", 1000) },
		// The large output is not queued, so this function does not wait for it.
		func() error { return errors.Join(finish("web-1", 100_000), finish("web-2", 1000)) })
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	same(t, "the transaction of web-2", f.xmins(t, "web-2"), f.xmins(t, "web-0"))
}

func TestOnlyOneOfSeveralApprovalsInABatchSucceeds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	if err := f.Pause(t.Context(), "web-0"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		a := must[remediation.Action](t)(f.Create(t.Context(), newAction("web-0")))
		people := []string{"bob", "carol", "dave"}
		var calls []func() error
		for _, person := range people {
			calls = append(calls, func() error {
				got, err := f.Approve(t.Context(), a.ID, person)
				if err == nil && *got.ApprovedBy != person {
					err = fmt.Errorf("the approval by %s returned that %s approved", person, *got.ApprovedBy)
				}
				return err
			})
		}
		approver := ""
		for i, err := range postgres.Together(t, f.store, calls...) {
			refused := (*remediation.TransitionError)(nil)
			switch {
			case err == nil && approver == "":
				approver = people[i]
			case !errors.As(err, &refused) || refused.From != remediation.Approved:
				t.Errorf("approval by %s after %s: %v, want a TransitionError from approved", people[i], approver, err)
			}
		}
		same(t, "approved by", *must[remediation.Action](t)(f.Get(t.Context(), a.ID)).ApprovedBy, approver)
	}
}

// xmins returns the ids of the transactions that wrote the actions of a server.
func (f *fleet) xmins(t *testing.T, server string) []string {
	t.Helper()
	return column[string](t, f.pool, "SELECT xmin::text FROM remediation_actions WHERE server_id = $1", server)
}

// A call whose rows another transaction has locked runs by itself. The other calls in its batch do not wait for it.
func TestCallThatWaitsForALockDelaysNoOtherCallOfItsBatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	tx := begin(t, f.pool)
	run(t, tx, "UPDATE servers SET is_paused = TRUE WHERE id = 'web-1'")
	var waited remediation.Action
	errs := postgres.Together(t, f.store,
		func() error {
			if _, err := f.Create(t.Context(), newAction("web-0")); err != nil {
				return err
			}
			return tx.Commit(t.Context())
		},
		func() (err error) { waited, err = f.Create(t.Context(), newAction("web-1")); return err },
		func() error { _, err := f.Create(t.Context(), newAction("web-2")); return err })
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if waited.Status != remediation.Pending {
		t.Errorf("the action of the call that waited for the pause is %s, want pending", waited.Status)
	}
	same(t, "the transaction of web-2", f.xmins(t, "web-2"), f.xmins(t, "web-0"))
}

// SKIP LOCKED does not apply to foreign keys, so the batch times out and its calls run one by one.
func TestCallsRunOneByOneIfTheirBatchWaitsForAForeignKey(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	alert := must[int64](t)(f.AddAlert(t.Context(), "web-1", "disk is full"))
	tx := begin(t, f.pool)
	run(t, tx, "DELETE FROM alerts")
	forAlert := newAction("web-1")
	forAlert.AlertID = &alert
	errs := postgres.Together(t, f.store,
		func() error {
			if _, err := f.Create(t.Context(), newAction("web-0")); err != nil {
				return err
			}
			return tx.Commit(t.Context())
		},
		func() error { _, err := f.Create(t.Context(), forAlert); return err })
	if errs[0] != nil || !errors.Is(errs[1], remediation.ErrAlertNotFound) {
		t.Errorf("errors are %v, want nil and ErrAlertNotFound", errs)
	}
	same(t, "actions of web-1", f.xmins(t, "web-1"), []string{})
}

// addTrigger adds a trigger of the host program, which runs body if the command of a new action is 'no'.
func (f *fleet) addTrigger(t *testing.T, when, body string) {
	t.Helper()
	run(t, f.pool, `CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.command = 'no' THEN `+body+`; END IF; RETURN NEW; END $$;
		CREATE `+when+` FOR EACH ROW EXECUTE FUNCTION mine()`)
}

// When a trigger of addTrigger fires: at the INSERT or at the commit.
const (
	atInsert = "TRIGGER mine BEFORE INSERT ON remediation_actions"
	atCommit = "CONSTRAINT TRIGGER mine AFTER INSERT ON remediation_actions DEFERRABLE INITIALLY DEFERRED"
)

// creates returns a call for each command, which creates an action with it.
func (f *fleet) creates(ctx context.Context, commands ...string) (calls []func() error) {
	for _, command := range commands {
		calls = append(calls, func() error {
			given := newAction("web-0")
			given.Command = command
			_, err := f.Create(ctx, given)
			return err
		})
	}
	return calls
}

func (f *fleet) commands(t *testing.T) []string {
	t.Helper()
	return column[string](t, f.pool, "SELECT command FROM remediation_actions ORDER BY command")
}

func TestRefusedCallFailsNoOtherCallOfItsBatch(t *testing.T) {
	t.Parallel()
	for _, when := range []string{atInsert, atCommit} {
		f := newFleet(t, 1)
		f.addTrigger(t, when, "RAISE EXCEPTION 'mine'")
		errs := postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...)
		if errs[0] != nil || sqlState(errs[1]) != "P0001" || errs[2] != nil {
			t.Errorf("%s: errors are %v, want only the second, P0001", when, errs)
		}
		same(t, "commands", f.commands(t), []string{"a", "b"})
	}
}

// After the connection is lost, the batch may or may not have been committed, so its calls are not retried.
func TestBatchIsNotRetriedAfterALostConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.addTrigger(t, atCommit, "PERFORM pg_terminate_backend(pg_backend_pid())")
	for i, err := range postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...) {
		if err == nil {
			t.Errorf("call %d returned no error", i)
		}
	}
	same(t, "commands", f.commands(t), []string{})
}

// A row that a trigger of the host program has changed matches no call. Its action must not be created twice.
func TestCallIsNotRetriedIfATriggerChangedItsRow(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.addTrigger(t, atInsert, "NEW.command := 'other'")
	errs := postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...)
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("errors are %v, want one only for the second call", errs)
	}
	same(t, "commands", f.commands(t), []string{"a", "b", "other"})
}

func TestContextEndsOnlyItsOwnCallOfABatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.addTrigger(t, atInsert, "PERFORM pg_sleep(3600)")
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	returned := make(chan error)
	f.whileAsleep(t, func() {
		// Another batch can run while the first one hangs.
		for i, err := range postgres.Together(t, f.store, f.creates(t.Context(), "b", "c")...) {
			if err != nil {
				t.Errorf("call %d while another batch hangs: %v", i, err)
			}
		}
		cancelFirst()
		if err := <-returned; !errors.Is(err, context.Canceled) {
			t.Errorf("the first call: %v, want context.Canceled", err)
		}
		cancelSecond()
	}, func() {
		errs := postgres.Together(t, f.store,
			func() error { err := f.creates(first, "no")[0](); returned <- err; return nil },
			f.creates(second, "a")[0])
		if !errors.Is(errs[1], context.Canceled) {
			t.Errorf("the second call: %v, want context.Canceled", errs[1])
		}
	})
	same(t, "commands", f.commands(t), []string{"b", "c"})
}

// whileAsleep starts calls that make the server sleep, and runs wake once it does. Here wake must cancel the calls.
func (f *fleet) whileAsleep(t *testing.T, wake, calls func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(calls)
	asleep := func() int64 {
		return column[int64](t, f.pool,
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")[0]
	}
	for begin := time.Now(); asleep() == 0; {
		if time.Since(begin) > time.Minute {
			t.Fatal("the server does not sleep after a minute")
		}
	}
	wake()
	wg.Wait()
	for begin := time.Now(); asleep() != 0; {
		if time.Since(begin) > time.Minute {
			t.Fatal("the server still sleeps a minute after the calls were cancelled")
		}
	}
}

// Two programs approve the same actions and create the same keys in batches, in different orders.
func TestBatchesOfTwoProgramsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4)
	other := &fleet{store: postgres.New(pgtest.Pool(t, f.pool.Config().ConnString())), pool: f.pool, servers: f.servers}
	other.Ledger = newLedger(other.store)
	for _, server := range f.servers {
		if err := f.Pause(t.Context(), server); err != nil {
			t.Fatal(err)
		}
	}
	const rounds, callers = 20, 16
	for round := range rounds {
		var ids []int64
		for i := range callers {
			given := newAction(f.servers[i%4])
			given.DedupeKey = new(fmt.Sprintf("%d-%d", round, i))
			ids = append(ids, must[remediation.Action](t)(f.Create(t.Context(), given)).ID)
		}
		var approved [2][]bool
		var wg sync.WaitGroup
		for p, program := range []*fleet{f, other} {
			approved[p] = make([]bool, callers)
			var calls []func() error
			for i, id := range ids {
				calls = append(calls, func() error {
					_, err := program.Approve(t.Context(), id, "bob")
					approved[p][i] = err == nil
					if refused := (*remediation.TransitionError)(nil); errors.As(err, &refused) {
						err = nil
					}
					return err
				})
			}
			if p == 1 {
				slices.Reverse(calls)
			}
			wg.Go(func() {
				if err := errors.Join(postgres.Together(t, program.store, calls...)...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range ids {
			if approved[0][i] == approved[1][i] {
				t.Fatalf("round %d, action %d: approved by the first program: %t, by the second: %t; want one of them",
					round, ids[i], approved[0][i], approved[1][i])
			}
		}
		// Create actions with the same keys again, while the first actions are open.
		for _, program := range []*fleet{f, other} {
			var calls []func() error
			for i := range callers {
				given := newAction(f.servers[i%4])
				given.DedupeKey = new(fmt.Sprintf("%d-%d", round, i))
				calls = append(calls, func() error {
					_, err := program.Create(t.Context(), given)
					if duplicate := (*remediation.DuplicateError)(nil); errors.As(err, &duplicate) && duplicate.ExistingID == ids[i] {
						return nil
					}
					return fmt.Errorf("Create with the key of action %d: %w, want a DuplicateError", ids[i], err)
				})
			}
			if err := errors.Join(postgres.Together(t, program.store, calls...)...); err != nil {
				t.Error(err)
			}
		}
	}
}
