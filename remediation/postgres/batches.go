package postgres

import (
	"context"
	"time"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/batch"
	"github.com/homelab-cmd/actionledger/remediation"
)

// The parameters of each kind of call that a pool batches.
type (
	createParams    = postgresdb.CreateActionParams
	approveParams   = postgresdb.ApproveActionParams
	rejectParams    = postgresdb.RejectActionParams
	withdrawParams  = postgresdb.WithdrawActionParams
	claimParams     = postgresdb.ClaimActionParams
	startParams     = postgresdb.StartActionParams
	finishParams    = postgresdb.FinishActionParams
	heartbeatParams = postgresdb.HeartbeatActionParams
)

// batches has a batcher for each kind of call on a pool.
type batches struct {
	create    *batcher[createParams]
	approve   *batcher[approveParams]
	reject    *batcher[rejectParams]
	withdraw  *batcher[withdrawParams]
	claim     *batcher[claimParams]
	start     *batcher[startParams]
	finish    *batcher[finishParams]
	heartbeat *batcher[heartbeatParams]
}

// maxText is the most text that a call in a batch may have, in bytes. It limits the message to a few megabytes.
const maxText = 16 << 10

func newBatches() batches {
	b := batches{
		create: newBatcher(batcher[createParams]{
			// Batches insert keys in one order, which an action with two keys would break.
			fits: func(p createParams) bool {
				return len(p.Command) <= maxText && (p.DedupeKey == nil || p.IdempotencyKey == nil) && (p.AlertID == nil || *p.AlertID > 0)
			},
			conflicts: func(_, _ createParams) bool { return false },
			each: func(ctx context.Context, q *queries, ps []createParams) ([]row, error) {
				return q.CreateEach(ctx, postgresdb.CreateEachParams{
					ServerID:          column(ps, func(p createParams) string { return p.ServerID }),
					ActionType:        column(ps, func(p createParams) string { return p.ActionType }),
					ServiceName:       column(ps, func(p createParams) string { return orZero(p.ServiceName) }),
					Command:           column(ps, func(p createParams) string { return p.Command }),
					CreatedAt:         column(ps, func(p createParams) time.Time { return p.CreatedAt }),
					CreatedBy:         column(ps, func(p createParams) string { return p.CreatedBy }),
					AlertID:           column(ps, func(p createParams) int64 { return orZero(p.AlertID) }),
					DedupeKey:         column(ps, func(p createParams) string { return orZero(p.DedupeKey) }),
					IdempotencyKey:    column(ps, func(p createParams) string { return orZero(p.IdempotencyKey) }),
					NotBefore:         column(ps, func(p createParams) string { return orEmpty(p.NotBefore) }),
					ExpiresAt:         column(ps, func(p createParams) string { return orEmpty(p.ExpiresAt) }),
					MaxRuntimeSeconds: column(ps, func(p createParams) int64 { return orZero(p.MaxRuntimeSeconds) }),
				})
			},
			matches: func(a row, p createParams) bool {
				return a.ServerID == p.ServerID && a.ActionType == p.ActionType && same(a.ServiceName, p.ServiceName) &&
					a.Command == p.Command && a.CreatedAt.Equal(p.CreatedAt) && a.CreatedBy == p.CreatedBy &&
					same(a.AlertID, p.AlertID) && same(a.DedupeKey, p.DedupeKey) && same(a.IdempotencyKey, p.IdempotencyKey) &&
					orEmpty(a.NotBefore) == orEmpty(p.NotBefore) && orEmpty(a.ExpiresAt) == orEmpty(p.ExpiresAt) &&
					same(a.MaxRuntimeSeconds, p.MaxRuntimeSeconds)
			},
		}),
		approve: byID(func(p approveParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []approveParams) ([]row, error) {
				return q.ApproveEach(ctx, postgresdb.ApproveEachParams{
					ID:         column(ps, func(p approveParams) int64 { return p.ID }),
					ApprovedBy: column(ps, func(p approveParams) string { return p.ApprovedBy }),
					ApprovedAt: column(ps, func(p approveParams) time.Time { return *p.ApprovedAt }),
				})
			}),
		reject: byID(func(p rejectParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []rejectParams) ([]row, error) {
				return rejectEach(ctx, q, remediation.Pending, ps)
			}),
		withdraw: byID(func(p withdrawParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []withdrawParams) ([]row, error) {
				return rejectEach(ctx, q, remediation.Approved,
					column(ps, func(p withdrawParams) rejectParams { return rejectParams(p) }))
			}),
		claim: newBatcher(batcher[claimParams]{
			fits:      func(claimParams) bool { return true },
			conflicts: func(a, b claimParams) bool { return a.ServerID == b.ServerID },
			each: func(ctx context.Context, q *queries, ps []claimParams) ([]row, error) {
				return q.ClaimEach(ctx, postgresdb.ClaimEachParams{
					ServerID:   column(ps, func(p claimParams) string { return p.ServerID }),
					ExecutedAt: column(ps, func(p claimParams) time.Time { return *p.ExecutedAt }),
				})
			},
			matches: func(a row, p claimParams) bool { return a.ServerID == p.ServerID },
		}),
		start: byID(func(p startParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []startParams) ([]row, error) {
				return q.StartEach(ctx, postgresdb.StartEachParams{
					ID:         column(ps, func(p startParams) int64 { return p.ID }),
					ExecutedAt: column(ps, func(p startParams) time.Time { return *p.ExecutedAt }),
				})
			}),
		finish: byID(func(p finishParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []finishParams) ([]row, error) {
				return q.FinishEach(ctx, postgresdb.FinishEachParams{
					ID:          column(ps, func(p finishParams) int64 { return p.ID }),
					ServerID:    column(ps, func(p finishParams) string { return p.ServerID }),
					CompletedAt: column(ps, func(p finishParams) time.Time { return *p.CompletedAt }),
					ExitCode:    column(ps, func(p finishParams) int64 { return p.ExitCode }),
					Stdout:      column(ps, func(p finishParams) string { return p.Stdout }),
					Stderr:      column(ps, func(p finishParams) string { return p.Stderr }),
				})
			}),
		heartbeat: byID(func(p heartbeatParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []heartbeatParams) ([]row, error) {
				return q.HeartbeatEach(ctx, postgresdb.HeartbeatEachParams{
					ID:          column(ps, func(p heartbeatParams) int64 { return p.ID }),
					ServerID:    column(ps, func(p heartbeatParams) string { return p.ServerID }),
					HeartbeatAt: column(ps, func(p heartbeatParams) time.Time { return p.HeartbeatAt }),
				})
			}),
	}
	b.reject.fits = func(p rejectParams) bool { return len(p.RejectionReason) <= maxText }
	b.withdraw.fits = func(p withdrawParams) bool { return len(p.RejectionReason) <= maxText }
	b.finish.fits = func(p finishParams) bool { return len(p.Stdout)+len(p.Stderr) <= maxText }
	return b
}

// byID returns a batcher of calls that each concern one action.
func byID[P any](id func(P) int64, each func(context.Context, *queries, []P) ([]row, error)) *batcher[P] {
	return newBatcher(batcher[P]{
		fits:      func(P) bool { return true },
		conflicts: func(a, b P) bool { return id(a) == id(b) },
		each:      each,
		matches:   func(a row, p P) bool { return a.ID == id(p) },
	})
}

func newBatcher[P any](b batcher[P]) *batcher[P] {
	b.queue, b.minSize = batch.NewQueue[*call[P]](), 2
	return &b
}

func rejectEach(ctx context.Context, q *queries, from remediation.Status, ps []rejectParams) ([]row, error) {
	return q.RejectEach(ctx, postgresdb.RejectEachParams{
		ID:              column(ps, func(p rejectParams) int64 { return p.ID }),
		RejectedBy:      column(ps, func(p rejectParams) string { return p.RejectedBy }),
		RejectionReason: column(ps, func(p rejectParams) string { return p.RejectionReason }),
		RejectedAt:      column(ps, func(p rejectParams) time.Time { return *p.RejectedAt }),
		FromStatus:      string(from),
	})
}

// column converts one parameter of all calls to an array.
func column[P, T any](params []P, of func(P) T) []T {
	values := make([]T, len(params))
	for i, p := range params {
		values[i] = of(p)
	}
	return values
}

// sqlc's arrays have no NULL. A zero value or an empty text represents it, because no action has one.
func orZero[T any](p *T) (zero T) {
	if p == nil {
		return zero
	}
	return *p
}

// orEmpty formats a time, or returns "" for nil.
func orEmpty(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
