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

// lockTest has an open transaction, and a ledger on a pool whose calls wait for the transaction's locks.
type lockTest struct {
	pool         *pgxpool.Pool
	tx           pgx.Tx
	inTx, ledger *remediation.Ledger
}

// newLockTest adds the server "web-1" to a new database, runs prepare, and begins the transaction.
func newLockTest(t *testing.T, prepare func(ctx context.Context, l *remediation.Ledger) error) *lockTest {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.URL(t))
	ledger := newLedger(postgres.New(pool))
	if err := ledger.AddServer(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := prepare(t.Context(), ledger); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, pool)
	return &lockTest{pool, tx, newLedger(postgres.New(tx)), ledger}
}

// beginAgain begins another transaction, and rolls back the one before if it is still open.
func (m *lockTest) beginAgain(t *testing.T) {
	t.Helper()
	m.tx.Rollback(t.Context()) // fails if it has ended, which is fine
	m.tx = begin(t, m.pool)
	m.inTx = newLedger(postgres.New(m.tx))
}

// waitsForCommit expects call to wait for the open transaction, commits that, and returns the error of call.
func (m *lockTest) waitsForCommit(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	return m.waitsFor(t, m.tx.Commit, call)
}

// waitsFor is like waitsForCommit, but end ends the transaction.
func (m *lockTest) waitsFor(t *testing.T, end func(context.Context) error, call func(ctx context.Context) error) error {
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

// untilWaiting returns when n connections of the database wait for a lock. It fails the test if a call returns before.
func untilWaiting(t *testing.T, pool *pgxpool.Pool, n int, returned <-chan error) {
	t.Helper()
	ctx := bounded(t)
	for waiting := 0; waiting < n; {
		select {
		case err := <-returned:
			t.Fatalf("the call did not wait for the other transaction; it returned %v", err)
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

func prepareNothing(context.Context, *remediation.Ledger) error { return nil }

func pauses(ctx context.Context, l *remediation.Ledger) error { return l.Pause(ctx, "web-1") }

func TestCreateWaitsForAPauseAndIsPending(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, prepareNothing)
	if err := m.inTx.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waitsForCommit(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Create(ctx, newAction("web-1"))
		return err
	})
	if err != nil || got.Status != remediation.Pending || got.ApprovedBy != nil {
		t.Errorf("Create: %+v, %v; want it pending", got, err)
	}
}

func TestCreateWaitsForTheEndOfAPauseAndIsApproved(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, pauses)
	if err := m.inTx.Unpause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waitsForCommit(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Create(ctx, newAction("web-1"))
		return err
	})
	if err != nil || got.Status != remediation.Approved {
		t.Errorf("Create: %+v, %v; want it approved", got, err)
	}
}

func TestClaimWaitsForAPauseAndClaimsNothing(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, createsAction)
	if err := m.inTx.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	err := m.waitsForCommit(t, func(ctx context.Context) error {
		_, err := m.ledger.Claim(ctx, "web-1")
		return err
	})
	if !errors.Is(err, remediation.ErrNothingToClaim) {
		t.Errorf("Claim: %v, want ErrNothingToClaim", err)
	}
}

func TestClaimWaitsForAPauseAndClaimsAnActionThatAPersonApproved(t *testing.T) {
	t.Parallel()
	var approved remediation.Action
	m := newLockTest(t, func(ctx context.Context, l *remediation.Ledger) (err error) {
		if err := errors.Join(createsAction(ctx, l), l.Pause(ctx, "web-1")); err != nil {
			return err
		}
		if approved, err = l.Create(ctx, newAction("web-1")); err != nil {
			return err
		}
		_, err = l.Approve(ctx, approved.ID, "bob")
		return errors.Join(err, l.Unpause(ctx, "web-1"))
	})
	if err := m.inTx.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	err := m.waitsForCommit(t, func(ctx context.Context) (err error) {
		got, err = m.ledger.Claim(ctx, "web-1")
		return err
	})
	if err != nil || got.ID != approved.ID {
		t.Errorf("Claim: action %d, %v; want %d, which a person approved", got.ID, err, approved.ID)
	}
}

func TestStartWaitsForAPauseAndIsRefused(t *testing.T) {
	t.Parallel()
	var approved remediation.Action
	m := newLockTest(t, func(ctx context.Context, l *remediation.Ledger) (err error) {
		approved, err = l.Create(ctx, newAction("web-1"))
		return err
	})
	if err := m.inTx.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	err := m.waitsForCommit(t, func(ctx context.Context) error {
		_, err := m.ledger.Start(ctx, approved.ID)
		return err
	})
	got := (*remediation.TransitionError)(nil)
	errors.As(err, &got)
	same(t, "Start", got, &remediation.TransitionError{ID: approved.ID, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance})
	same(t, "the refused action", must[remediation.Action](t)(m.ledger.Get(t.Context(), approved.ID)), approved)
}

// Pause waits for open transactions that have read the server's mode.
func TestPauseWaitsForTransactionsThatDependOnTheMode(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, func(ctx context.Context, l *remediation.Ledger) error {
		return errors.Join(createsAction(ctx, l), createsAction(ctx, l))
	})
	for name, depends := range map[string]func(ctx context.Context, l *remediation.Ledger) error{
		"Create": createsAction,
		"Claim":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Claim(ctx, "web-1"); return err },
		"Start":  func(ctx context.Context, l *remediation.Ledger) error { _, err := l.Start(ctx, 2); return err },
	} {
		t.Run(name, func(t *testing.T) {
			m.beginAgain(t)
			if err := m.ledger.Unpause(t.Context(), "web-1"); err != nil {
				t.Fatal(err)
			}
			if err := depends(t.Context(), m.inTx); err != nil {
				t.Fatal(err)
			}
			if err := m.waitsForCommit(t, func(ctx context.Context) error { return m.ledger.Pause(ctx, "web-1") }); err != nil {
				t.Errorf("Pause: %v", err)
			}
		})
	}
}

// A sweep does not wait for rows that another transaction has locked. The next sweep finds them.
func TestSweepsSkipRowsThatAnotherTransactionHasLocked(t *testing.T) {
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
			t.Errorf("%s while the transaction is open: %d, %v, want 2", name, n, err)
		}
		end(t, tx.Rollback)
		if n, err := sweep.run(bounded(t), ledger); err != nil || n != 1 {
			t.Errorf("%s after the transaction has ended: %d, %v, want 1", name, n, err)
		}
	}
}

func TestAddServerIsIdempotentBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	m := newLockTest(t, func(context.Context, *remediation.Ledger) error { return nil })
	if err := m.inTx.AddServer(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	if err := m.waitsForCommit(t, func(ctx context.Context) error { return m.ledger.AddServer(ctx, "web-2") }); err != nil {
		t.Errorf("AddServer after another transaction has added the server: %v", err)
	}
	run(t, m.pool, "ALTER TABLE servers ADD COLUMN hostname TEXT NOT NULL DEFAULT 'there'; ALTER TABLE servers ALTER COLUMN hostname DROP DEFAULT")
	if err := m.ledger.AddServer(t.Context(), "web-2"); err != nil {
		t.Errorf("AddServer of a server in a table with a required column of the host program: %v", err)
	}
}
