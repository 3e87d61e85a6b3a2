package postgres

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/batch"
)

// This file runs concurrent calls of one kind in one statement; see batcher.

// maxLead is how long a call or a batch may keep other calls of its kind from starting a batch.
const maxLead = 100 * time.Millisecond

// batchSettings are set for the transaction of a batch. Where SKIP LOCKED does not apply, on foreign and unique keys, a
// batch times out soon, because its other calls must not wait. Its plan is made once, so it must be good for a large
// table even if the table was empty then.
const batchSettings = `SELECT set_config('lock_timeout', '100ms', TRUE), set_config('plan_cache_mode', 'force_generic_plan', TRUE),
	set_config('enable_seqscan', 'off', TRUE)`

// batcher runs concurrent calls of one kind in batches. The leader sends one statement for all queued calls. A call
// that gets no row from it runs by itself, on a connection of its own.
type batcher[P any] struct {
	queue     *batch.Queue[*call[P]]
	minSize   int                                                 // fewer calls run one by one
	fits      func(P) bool                                        // whether the call may be part of a batch
	conflicts func(a, b P) bool                                   // whether two calls must not be in one batch
	each      func(context.Context, *queries, []P) ([]row, error) // one statement for all calls
	matches   func(row, P) bool                                   // whether the row is the result of the call
}

type call[P any] struct {
	params P
	row    *row // nil if the batch returned none for it
}

// grouped runs one call, in a batch with concurrent calls of its kind.
func grouped[P any](ctx context.Context, s *store, b *batcher[P], single query[P, row], params P,
) (none row, err error) {
	if s.pool == nil || !b.fits(params) {
		return change(ctx, s, single, params)
	}
	if b.minSize > 1 && b.queue.TryLead() {
		defer b.lease()()
		return change(ctx, s, single, params)
	}
	if err := s.check(ctx); err != nil {
		return none, err
	}
	own := &call[P]{params: params}
	err = b.queue.Do(ctx, own, func(own *batch.Call[*call[P]]) {
		calls := b.collect(own)
		if len(calls) < b.minSize {
			b.queue.Release()
			for _, c := range calls {
				c.Answer(nil)
			}
			return
		}
		go b.lead(s, calls)
	})
	if err == nil && own.row == nil {
		return change(ctx, s, single, params)
	}
	s.Changed() // after errors too, as in change
	if err != nil {
		return none, interpret(err)
	}
	return *own.row, nil
}

// lease limits how long the caller leads. The returned function releases the lead earlier.
func (b *batcher[P]) lease() (release func()) {
	timer := time.AfterFunc(maxLead, b.queue.Release)
	return func() {
		if timer.Stop() {
			b.queue.Release()
		}
	}
}

// collect returns the batch. A call that conflicts with an earlier one is answered without a row, and then runs by
// itself.
func (b *batcher[P]) collect(own *batch.Call[*call[P]]) (calls []*batch.Call[*call[P]]) {
	b.queue.AwaitCallers()
	for _, next := range b.queue.Collect(own) {
		if slices.ContainsFunc(calls, func(c *batch.Call[*call[P]]) bool {
			return b.conflicts(c.Value.params, next.Value.params)
		}) {
			next.Answer(nil)
		} else {
			calls = append(calls, next)
		}
	}
	return calls
}

// lead runs a batch. A context ends only the wait of its own call; when no caller waits any more, the batch is
// cancelled.
func (b *batcher[P]) lead(s *store, calls []*batch.Call[*call[P]]) {
	release := b.lease()
	ctx, cancel := context.WithCancel(context.WithoutCancel(calls[0].Ctx))
	defer cancel()
	var ended atomic.Int32
	params := make([]P, len(calls))
	for i, c := range calls {
		params[i] = c.Value.params
		stop := context.AfterFunc(c.Ctx, func() {
			c.Answer(c.Ctx.Err())
			if int(ended.Add(1)) == len(calls) {
				cancel()
			}
		})
		defer stop()
	}
	rows, err := b.each(ctx, postgresdb.New(pipeline{s.pool}), params)
	release()
	if rolledBack(err) {
		err = nil // one of the calls caused it, so each runs by itself
	}
	for _, found := range rows {
		i := slices.IndexFunc(calls, func(c *batch.Call[*call[P]]) bool {
			return c.Value.row == nil && b.matches(found, c.Value.params)
		})
		if i < 0 {
			err = errUnexpectedRow
			continue
		}
		calls[i].Value.row = &found
	}
	for _, c := range calls {
		if c.Value.row != nil {
			c.Answer(nil)
		} else {
			c.Answer(err)
		}
	}
}

// errUnexpectedRow is returned to every call without a row if the batch returned a row that matches no call. A trigger
// of the host program may have changed the content of an action, so the calls are not repeated.
var errUnexpectedRow = errors.New("the batch returned a row that matches none of its calls")

// rolledBack reports whether a failed statement certainly changed nothing. A lost connection may come after the commit.
func rolledBack(err error) bool {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refused.SeverityUnlocalized == "ERROR" || err != nil && pgconn.SafeToRetry(err)
}

// pipeline sends batchSettings and the statement in one round trip and one transaction.
type pipeline struct{ *pgxpool.Pool }

func (p pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	b := &pgx.Batch{}
	b.Queue(batchSettings)
	b.Queue(sql, args...)
	results := p.SendBatch(ctx, b)
	if _, err := results.Exec(); err != nil {
		return nil, errors.Join(err, results.Close())
	}
	rows, err := results.Query()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	return &pipelineRows{Rows: rows, results: results}, nil
}

// pipelineRows ends the transaction after the last row, and reports its error.
type pipelineRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *pipelineRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *pipelineRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
}

func (r *pipelineRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}
