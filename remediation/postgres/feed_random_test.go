package postgres_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// Four writers run random transactions, up to three at once, which end in random order.
func TestFeedOfRandomTransactionsIsComplete(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	if err := ledger.Pause(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	url := pool.Config().ConnString()
	var writers sync.WaitGroup
	for w := range 4 {
		conns := [3]*pgx.Conn{connect(t, url), connect(t, url), connect(t, url)}
		writers.Go(func() {
			if err := writeAtRandom(t.Context(), conns, rand.New(rand.NewPCG(seed, uint64(w)))); err != nil {
				t.Error(err)
			}
		})
	}
	finished := make(chan struct{})
	go func() { writers.Wait(); close(finished) }()
	for done, polls := false, 0; ; polls++ {
		n := 0
		if polls%2 == 0 {
			n = reader.poll(t)
		} else {
			tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}))
			n = reader.pollOn(t, newLedger(postgres.New(tx)))
			end(t, tx.Commit)
		}
		if done && n == 0 && polls%2 == 0 {
			break
		}
		select {
		case <-finished:
			done = true // poll once more
		default:
		}
	}
	reader.wantAllOnce(t, pool)
}

// writeAtRandom has at most one open transaction per connection, and does one random step on a random connection at a
// time.
func writeAtRandom(ctx context.Context, conns [3]*pgx.Conn, random *rand.Rand) error {
	var txs [3]pgx.Tx
	for range 150 {
		i := random.IntN(len(conns))
		var err error
		switch tx := txs[i]; {
		case tx == nil && random.IntN(2) == 0:
			_, err = newLedger(postgres.New(conns[i])).Create(ctx, newAction("web-1"))
		case tx == nil:
			if txs[i], err = conns[i].Begin(ctx); err == nil && random.IntN(2) == 0 {
				_, err = txs[i].Exec(ctx, "SELECT pg_current_xact_id()") // gets its id long before it writes
			}
		case random.IntN(5) == 0:
			txs[i], err = nil, tx.Rollback(ctx)
		case random.IntN(4) == 0:
			txs[i], err = nil, tx.Commit(ctx)
		case random.IntN(3) == 0: // a savepoint
			var nested pgx.Tx
			if nested, err = tx.Begin(ctx); err != nil {
				return err
			}
			if _, err = newLedger(postgres.New(nested)).Create(ctx, newAction("web-1")); err != nil {
				return err
			}
			if random.IntN(2) == 0 {
				err = nested.Commit(ctx)
			} else {
				err = nested.Rollback(ctx)
			}
		default:
			_, err = newLedger(postgres.New(tx)).Create(ctx, newAction("web-1"))
		}
		if err != nil {
			return err
		}
	}
	for _, tx := range txs {
		if tx != nil {
			if err := tx.Commit(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
