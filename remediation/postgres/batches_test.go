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

// fleet is a ledger on a pool, with a server for each caller.
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

// each runs a call for each server, all together, and fails on an error.
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

func TestCallsThatComeTogetherShareAStatement(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 8)
	// A row's xmin is the transaction that wrote it.
	shared := func(step string) {
		t.Helper()
		if n := column[int64](t, f.pool, "SELECT count(DISTINCT xmin::text) FROM remediation_actions"); n[0] != 1 {
			t.Errorf("%s took %d transactions, want one", step, n[0])
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
	shared("Create")
	f.each(t, func(server string) error { _, err := f.Approve(t.Context(), id(server), "bob"); return err })
	shared("Approve")
	f.each(t, func(server string) error {
		a, err := f.Claim(t.Context(), server)
		if err == nil && a.ID != id(server) {
			err = fmt.Errorf("%s claimed action %d, want %d", server, a.ID, id(server))
		}
		return err
	})
	shared("Claim")
	f.each(t, func(server string) error { _, err := f.Heartbeat(t.Context(), server, id(server)); return err })
	shared("Heartbeat")
	f.each(t, func(server string) error {
		a, err := f.Finish(t.Context(), server, id(server), remediation.Result{Stdout: "of " + server})
		if err == nil && (a.Stdout == nil || *a.Stdout != "of "+server) {
			err = fmt.Errorf("Finish for %s returned %v", server, a)
		}
		return err
	})
	shared("Finish")
}

// Connection poolers need some of pgx's query modes, and each sends parameters in its own way.
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
		func() error { return errors.Join(finish("web-1", 100_000), finish("web-2", 1000)) }) // the first one need not wait
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	same(t, "the transaction of web-2", f.xmins(t, "web-2"), f.xmins(t, "web-0"))
}

func TestOneOfTwoDecisionsInABatchHolds(t *testing.T) {
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
					err = fmt.Errorf("%s was told that %s approved", person, *got.ApprovedBy)
				}
				return err
			})
		}
		held := ""
		for i, err := range postgres.Together(t, f.store, calls...) {
			refused := (*remediation.TransitionError)(nil)
			switch {
			case err == nil && held == "":
				held = people[i]
			case !errors.As(err, &refused) || refused.From != remediation.Approved:
				t.Errorf("%s after %s: %v", people[i], held, err)
			}
		}
		same(t, "approved by", *must[remediation.Action](t)(f.Get(t.Context(), a.ID)).ApprovedBy, held)
	}
}

// xmins are the transactions that wrote the actions of a server last.
func (f *fleet) xmins(t *testing.T, server string) []string {
	t.Helper()
	return column[string](t, f.pool, "SELECT xmin::text FROM remediation_actions WHERE server_id = $1", server)
}

// What another transaction has locked is left to a call of its own: the others in the batch don't wait for it.
func TestCallThatMustWaitKeepsNoOtherCallOfItsBatchWaiting(t *testing.T) {
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
		t.Errorf("the call that waited for the pause: %s; want pending", waited.Status)
	}
	same(t, "the transaction of web-2", f.xmins(t, "web-2"), f.xmins(t, "web-0"))
}

// A foreign key can't be skipped, so the batch gives up and its calls run one by one.
func TestBatchThatWouldWaitForAForeignKeyIsTriedOneByOne(t *testing.T) {
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
		t.Errorf("%v; want nil and ErrAlertNotFound", errs)
	}
	same(t, "actions of web-1", f.xmins(t, "web-1"), []string{})
}

// hook makes a trigger of the caller's own that runs body when the command of a new action is 'no'.
func (f *fleet) hook(t *testing.T, when, body string) {
	t.Helper()
	run(t, f.pool, `CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.command = 'no' THEN `+body+`; END IF; RETURN NEW; END $$;
		CREATE `+when+` FOR EACH ROW EXECUTE FUNCTION mine()`)
}

const (
	before   = "TRIGGER mine BEFORE INSERT ON remediation_actions"
	atCommit = "CONSTRAINT TRIGGER mine AFTER INSERT ON remediation_actions DEFERRABLE INITIALLY DEFERRED"
)

// creates returns calls that create an action each, with these commands.
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

func TestCallThatIsRefusedFailsAlone(t *testing.T) {
	t.Parallel()
	for _, when := range []string{before, atCommit} {
		f := newFleet(t, 1)
		f.hook(t, when, "RAISE EXCEPTION 'mine'")
		errs := postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...)
		if errs[0] != nil || sqlState(errs[1]) != "P0001" || errs[2] != nil {
			t.Errorf("%s: %v", when, errs)
		}
		same(t, "commands", f.commands(t), []string{"a", "b"})
	}
}

// When the connection is gone nobody knows what became of the batch, so it is not tried again.
func TestBatchWhoseConnectionIsLostIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.hook(t, atCommit, "PERFORM pg_terminate_backend(pg_backend_pid())")
	for i, err := range postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...) {
		if err == nil {
			t.Errorf("call %d was acknowledged", i)
		}
	}
	same(t, "commands", f.commands(t), []string{})
}

// A row that a trigger of the caller's own has changed can't be told apart, and must not be created twice.
func TestBatchWhoseRowsAreChangedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.hook(t, before, "NEW.command := 'other'")
	errs := postgres.Together(t, f.store, f.creates(t.Context(), "a", "no", "b")...)
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("%v; want an error for the second alone", errs)
	}
	same(t, "commands", f.commands(t), []string{"a", "b", "other"})
}

func TestContextEndsTheWaitForABatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.hook(t, before, "PERFORM pg_sleep(3600)")
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	returned := make(chan error)
	f.whileAsleep(t, func() {
		// While that batch is under way, another one goes on.
		for i, err := range postgres.Together(t, f.store, f.creates(t.Context(), "b", "c")...) {
			if err != nil {
				t.Errorf("call %d beside a batch that hangs: %v", i, err)
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

// whileAsleep runs hangs, and wakes once the server is asleep in it.
func (f *fleet) whileAsleep(t *testing.T, wakes, hangs func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(hangs)
	asleep := func() int64 {
		return column[int64](t, f.pool,
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")[0]
	}
	for begin := time.Now(); asleep() == 0; {
		if time.Since(begin) > time.Minute {
			t.Fatal("nothing sleeps after a minute")
		}
	}
	wakes()
	wg.Wait()
	for begin := time.Now(); asleep() != 0; {
		if time.Since(begin) > time.Minute {
			t.Fatal("the server was not told that nobody waits any more")
		}
	}
}

// Two programs decide about, run and finish the same actions in batches, in different orders.
func TestBatchesOfTwoProgramsMeetWithoutDeadlock(t *testing.T) {
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
				t.Fatalf("round %d, action %d: approved by the programs: %t and %t", round, ids[i], approved[0][i], approved[1][i])
			}
		}
		// The same keys again, while the first actions are open.
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
					return fmt.Errorf("a duplicate of action %d: %w", ids[i], err)
				})
			}
			if err := errors.Join(postgres.Together(t, program.store, calls...)...); err != nil {
				t.Error(err)
			}
		}
	}
}
