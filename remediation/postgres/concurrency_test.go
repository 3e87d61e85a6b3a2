package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// meeting is one transaction that is held open, and a pool that the call under test comes from.
type meeting struct {
	pool           *pgxpool.Pool
	tx             pgx.Tx
	inside, ledger *remediation.Ledger
}

// newMeeting begins the transaction on a database with the server "web-1", after given has prepared it.
func newMeeting(t *testing.T, given func(ctx context.Context, l *remediation.Ledger) error) *meeting {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := given(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, pool)
	return &meeting{pool, tx, newLedger(postgres.New(tx)), ledger}
}

// again begins another transaction, after the one before has ended.
func (m *meeting) again(t *testing.T) {
	t.Helper()
	m.tx.Rollback(t.Context()) // if nothing else has ended it
	m.tx = begin(t, m.pool)
	m.inside = newLedger(postgres.New(m.tx))
}

// waits expects that call waits for the open transaction; then that commits, and waits returns what call came to.
func (m *meeting) waits(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	return m.waitsFor(t, m.tx.Commit, call)
}

func (m *meeting) waitsFor(t *testing.T, end func(context.Context) error, call func(ctx context.Context) error) error {
	t.Helper()
	ctx := bounded(t)
	returned := make(chan error, 1)
	go func() { returned <- call(ctx) }()
	untilWaiting(t, m.pool, 1, returned)
	if err := end(ctx); err != nil {
		t.Fatal(err)
	}
	return <-returned
}

// untilWaiting returns when n connections of the database wait for a lock, or fails because a call returned before.
func untilWaiting(t *testing.T, pool *pgxpool.Pool, n int, returned <-chan error) {
	t.Helper()
	ctx := bounded(t)
	for waiting := 0; waiting < n; {
		select {
		case err := <-returned:
			t.Fatalf("the call returned (%v) and did not wait for the other transaction", err)
		default:
		}
		err := pool.QueryRow(ctx, `SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted
			AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func createsAction(ctx context.Context, l *remediation.Ledger) error {
	_, err := l.Create(ctx, newAction("web-1"))
	return err
}

func nothing(context.Context, *remediation.Ledger) error { return nil }

func pauses(ctx context.Context, l *remediation.Ledger) error { return l.Pause(ctx, "web-1") }

func TestCreateWaitsForAPauseAndIsPending(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, nothing)
	if err := m.inside.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waits(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Create(ctx, newAction("web-1"))
		return err
	})
	if err != nil || got.Status != remediation.Pending || got.ApprovedBy != nil {
		t.Errorf("Create: %+v, %v; want it pending", got, err)
	}
}

func TestCreateWaitsForTheEndOfAPauseAndIsApproved(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, pauses)
	if err := m.inside.Unpause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waits(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Create(ctx, newAction("web-1"))
		return err
	})
	if err != nil || got.Status != remediation.Approved {
		t.Errorf("Create: %+v, %v; want it approved", got, err)
	}
}

func TestClaimWaitsForAPauseAndHoldsBack(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, createsAction)
	if err := m.inside.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	err := m.waits(t, func(ctx context.Context) error {
		_, err := m.ledger.Claim(ctx, "web-1")
		return err
	})
	if !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("Claim: %v, want ErrNothingToClaim", err)
	}
}

func TestClaimWaitsForAPauseAndTakesWhatAPersonApproved(t *testing.T) {
	t.Parallel()
	var asked remediation.Action
	m := newMeeting(t, func(ctx context.Context, l *remediation.Ledger) (err error) {
		if err := errors.Join(createsAction(ctx, l), l.Pause(ctx, "web-1")); err != nil {
			return err
		}
		if asked, err = l.Create(ctx, newAction("web-1")); err != nil {
			return err
		}
		_, err = l.Approve(ctx, asked.ID, "bob")
		return errors.Join(err, l.Unpause(ctx, "web-1"))
	})
	if err := m.inside.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waits(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Claim(ctx, "web-1")
		return err
	})
	if err != nil || got.ID != asked.ID {
		t.Errorf("Claim: action %d, %v; want %d, which a person approved", got.ID, err, asked.ID)
	}
}

func TestStartWaitsForAPauseAndIsHeld(t *testing.T) {
	t.Parallel()
	var held remediation.Action
	m := newMeeting(t, func(ctx context.Context, l *remediation.Ledger) (err error) {
		held, err = l.Create(ctx, newAction("web-1"))
		return err
	})
	if err := m.inside.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	err := m.waits(t, func(ctx context.Context) error {
		_, err := m.ledger.Start(ctx, held.ID)
		return err
	})
	got := (*remediation.TransitionError)(nil)
	errors.As(err, &got)
	same(t, "Start", got, &remediation.TransitionError{ID: held.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
	same(t, "the held action", must[remediation.Action](t)(m.ledger.Get(t.Context(), held.ID)), held)
}

// The other way round: what depends on the mode is done before the mode changes.
func TestPauseWaitsForWhatDependsOnTheMode(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, func(ctx context.Context, l *remediation.Ledger) error {
		return errors.Join(createsAction(ctx, l), createsAction(ctx, l))
	})
	for name, depends := range map[string]func(ctx context.Context, l *remediation.Ledger) error{
		"Create": createsAction,
		"Claim":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Claim(ctx, "web-1"); return err },
		"Start":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Start(ctx, 2); return err },
	} {
		t.Run(name, func(t *testing.T) {
			m.again(t)
			if err := m.ledger.Unpause(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			if err := depends(t.Context(), m.inside); err != nil {
				t.Fatal(err)
			}
			if err := m.waits(t, func(ctx context.Context) error { return m.ledger.Pause(ctx, "web-1") }); err != nil {
				t.Errorf("Pause: %v", err)
			}
		})
	}
}

// Two sweeps at once take each other's leavings instead of waiting.
func TestSweepsPassOverWhatAnotherTransactionHolds(t *testing.T) {
	t.Parallel()
	later := now.AddDate(1, 0, 0)
	for name, sweep := range map[string]struct {
		from string
		run  func(ctx context.Context, l *remediation.Ledger) (int64, error)
	}{
		"FailOverdue": {"executing", func(ctx context.Context, l *remediation.Ledger) (int64, error) {
			closed, err := l.FailOverdue(ctx, time.Hour, 10)
			return int64(len(closed)), err
		}},
		"Prune": {"completed", func(ctx context.Context, l *remediation.Ledger) (int64, error) {
			return l.Prune(ctx, later, 10)
		}},
		"ClearOutput": {"completed", func(ctx context.Context, l *remediation.Ledger) (int64, error) {
			return l.ClearOutput(ctx, later, 10)
		}},
	} {
		pool, _ := newHeap(t)
		ids := fill(t, pool, sweep.from)
		tx := begin(t, pool)
		run(t, tx, "SELECT FROM remediation_actions WHERE id = $1 FOR UPDATE", ids[1])
		ledger := remediation.New(postgres.New(pool), remediation.WithClock(func() time.Time { return later }))
		if n, err := sweep.run(bounded(t), ledger); err != nil || n != 2 {
			t.Errorf("%s beside the transaction: %d, %v, want 2", name, n, err)
		}
		end(t, tx.Rollback)
		if n, err := sweep.run(bounded(t), ledger); err != nil || n != 1 {
			t.Errorf("%s after it: %d, %v, want 1", name, n, err)
		}
	}
}

func TestServerThatAnotherAddsIsAdded(t *testing.T) {
	t.Parallel()
	m := newMeeting(t, func(context.Context, *remediation.Ledger) error { return nil })
	if err := m.inside.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	if err := m.waits(t, func(ctx context.Context) error { return m.ledger.AddServer(ctx, "web-2") }); err != nil {
		t.Errorf("beside another that adds it: %v", err)
	}
	run(t, m.pool, "ALTER TABLE servers ADD COLUMN hostname TEXT NOT NULL DEFAULT 'there'; ALTER TABLE servers ALTER COLUMN hostname DROP DEFAULT")
	if err := m.ledger.AddServer(t.Context(), "web-2"); err != nil {
		t.Errorf("that the host program has registered with more than we know: %v", err)
	}
}
