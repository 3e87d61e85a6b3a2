package postgres

import (
	"context"
	"time"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/internal/batch"
	"github.com/homelab-cmd/actionledger/remediation"
)

// batches are the calls of a pool that run together if they come at the same time, by kind.
type batches struct {
	create    *batcher[postgresdb.CreateActionParams]
	approve   *batcher[postgresdb.ApproveActionParams]
	reject    *batcher[postgresdb.RejectActionParams]
	withdraw  *batcher[postgresdb.WithdrawActionParams]
	claim     *batcher[postgresdb.ClaimActionParams]
	start     *batcher[postgresdb.StartActionParams]
	finish    *batcher[postgresdb.FinishActionParams]
	heartbeat *batcher[postgresdb.HeartbeatActionParams]
}

// maxText is how many bytes of a command or an output a batch takes, so that it stays a message of some megabytes.
const maxText = 16 << 10

func newBatches() batches {
	return batches{
		create: newBatcher(batcher[postgresdb.CreateActionParams]{
			// A batch that holds one key must not wait for another one out of order.
			fits: func(p postgresdb.CreateActionParams) bool {
				return len(p.Command) <= maxText && (p.DedupeKey == nil || p.IdempotencyKey == nil) && (p.AlertID == nil || *p.AlertID > 0)
			},
			clash: func(_, _ postgresdb.CreateActionParams) bool { return false },
			each: func(ctx context.Context, q *queries, ps []postgresdb.CreateActionParams) ([]row, error) {
				return q.CreateEach(ctx, postgresdb.CreateEachParams{
					ServerID:          column(ps, func(p postgresdb.CreateActionParams) string { return p.ServerID }),
					ActionType:        column(ps, func(p postgresdb.CreateActionParams) string { return p.ActionType }),
					ServiceName:       column(ps, func(p postgresdb.CreateActionParams) string { return orZero(p.ServiceName) }),
					Command:           column(ps, func(p postgresdb.CreateActionParams) string { return p.Command }),
					CreatedAt:         column(ps, func(p postgresdb.CreateActionParams) time.Time { return p.CreatedAt }),
					CreatedBy:         column(ps, func(p postgresdb.CreateActionParams) string { return p.CreatedBy }),
					AlertID:           column(ps, func(p postgresdb.CreateActionParams) int64 { return orZero(p.AlertID) }),
					DedupeKey:         column(ps, func(p postgresdb.CreateActionParams) string { return orZero(p.DedupeKey) }),
					IdempotencyKey:    column(ps, func(p postgresdb.CreateActionParams) string { return orZero(p.IdempotencyKey) }),
					NotBefore:         column(ps, func(p postgresdb.CreateActionParams) string { return orEmpty(p.NotBefore) }),
					ExpiresAt:         column(ps, func(p postgresdb.CreateActionParams) string { return orEmpty(p.ExpiresAt) }),
					MaxRuntimeSeconds: column(ps, func(p postgresdb.CreateActionParams) int64 { return orZero(p.MaxRuntimeSeconds) }),
				})
			},
			answers: func(a row, p postgresdb.CreateActionParams) bool {
				return a.ServerID == p.ServerID && a.ActionType == p.ActionType && same(a.ServiceName, p.ServiceName) &&
					a.Command == p.Command && a.CreatedAt.Equal(p.CreatedAt) && a.CreatedBy == p.CreatedBy &&
					same(a.AlertID, p.AlertID) && same(a.DedupeKey, p.DedupeKey) && same(a.IdempotencyKey, p.IdempotencyKey) &&
					orEmpty(a.NotBefore) == orEmpty(p.NotBefore) && orEmpty(a.ExpiresAt) == orEmpty(p.ExpiresAt) &&
					same(a.MaxRuntimeSeconds, p.MaxRuntimeSeconds)
			},
		}),
		approve: byID(func(p postgresdb.ApproveActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.ApproveActionParams) ([]row, error) {
				return q.ApproveEach(ctx, postgresdb.ApproveEachParams{
					ID:         column(ps, func(p postgresdb.ApproveActionParams) int64 { return p.ID }),
					ApprovedBy: column(ps, func(p postgresdb.ApproveActionParams) string { return p.ApprovedBy }),
					ApprovedAt: column(ps, func(p postgresdb.ApproveActionParams) time.Time { return *p.ApprovedAt }),
				})
			}),
		reject: byID(func(p postgresdb.RejectActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.RejectActionParams) ([]row, error) {
				return rejectEach(ctx, q, remediation.Pending, ps)
			}),
		withdraw: byID(func(p postgresdb.WithdrawActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.WithdrawActionParams) ([]row, error) {
				return rejectEach(ctx, q, remediation.Approved,
					column(ps, func(p postgresdb.WithdrawActionParams) postgresdb.RejectActionParams {
						return postgresdb.RejectActionParams(p)
					}))
			}),
		claim: newBatcher(batcher[postgresdb.ClaimActionParams]{
			fits:  func(postgresdb.ClaimActionParams) bool { return true },
			clash: func(a, b postgresdb.ClaimActionParams) bool { return a.ServerID == b.ServerID },
			each: func(ctx context.Context, q *queries, ps []postgresdb.ClaimActionParams) ([]row, error) {
				return q.ClaimEach(ctx, postgresdb.ClaimEachParams{
					ServerID:   column(ps, func(p postgresdb.ClaimActionParams) string { return p.ServerID }),
					ExecutedAt: column(ps, func(p postgresdb.ClaimActionParams) time.Time { return *p.ExecutedAt }),
				})
			},
			answers: func(a row, p postgresdb.ClaimActionParams) bool { return a.ServerID == p.ServerID },
		}),
		start: byID(func(p postgresdb.StartActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.StartActionParams) ([]row, error) {
				return q.StartEach(ctx, postgresdb.StartEachParams{
					ID:         column(ps, func(p postgresdb.StartActionParams) int64 { return p.ID }),
					ExecutedAt: column(ps, func(p postgresdb.StartActionParams) time.Time { return *p.ExecutedAt }),
				})
			}),
		finish: byID(func(p postgresdb.FinishActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.FinishActionParams) ([]row, error) {
				return q.FinishEach(ctx, postgresdb.FinishEachParams{
					ID:          column(ps, func(p postgresdb.FinishActionParams) int64 { return p.ID }),
					ServerID:    column(ps, func(p postgresdb.FinishActionParams) string { return p.ServerID }),
					CompletedAt: column(ps, func(p postgresdb.FinishActionParams) time.Time { return *p.CompletedAt }),
					ExitCode:    column(ps, func(p postgresdb.FinishActionParams) int64 { return p.ExitCode }),
					Stdout:      column(ps, func(p postgresdb.FinishActionParams) string { return p.Stdout }),
					Stderr:      column(ps, func(p postgresdb.FinishActionParams) string { return p.Stderr }),
				})
			}),
		heartbeat: byID(func(p postgresdb.HeartbeatActionParams) int64 { return p.ID },
			func(ctx context.Context, q *queries, ps []postgresdb.HeartbeatActionParams) ([]row, error) {
				return q.HeartbeatEach(ctx, postgresdb.HeartbeatEachParams{
					ID:          column(ps, func(p postgresdb.HeartbeatActionParams) int64 { return p.ID }),
					ServerID:    column(ps, func(p postgresdb.HeartbeatActionParams) string { return p.ServerID }),
					HeartbeatAt: column(ps, func(p postgresdb.HeartbeatActionParams) time.Time { return p.HeartbeatAt }),
				})
			}),
	}
}

// byID is a batcher of calls about one action each.
func byID[P any](id func(P) int64, each func(context.Context, *queries, []P) ([]row, error)) *batcher[P] {
	return newBatcher(batcher[P]{
		fits:    func(P) bool { return true },
		clash:   func(a, b P) bool { return id(a) == id(b) },
		each:    each,
		answers: func(a row, p P) bool { return a.ID == id(p) },
	})
}

func newBatcher[P any](b batcher[P]) *batcher[P] {
	b.queue, b.least = batch.NewQueue[*call[P]](), 2
	return &b
}

func rejectEach(ctx context.Context, q *queries, from remediation.Status, ps []postgresdb.RejectActionParams) ([]row, error) {
	return q.RejectEach(ctx, postgresdb.RejectEachParams{
		ID:              column(ps, func(p postgresdb.RejectActionParams) int64 { return p.ID }),
		RejectedBy:      column(ps, func(p postgresdb.RejectActionParams) string { return p.RejectedBy }),
		RejectionReason: column(ps, func(p postgresdb.RejectActionParams) string { return p.RejectionReason }),
		RejectedAt:      column(ps, func(p postgresdb.RejectActionParams) time.Time { return *p.RejectedAt }),
		FromStatus:      string(from),
	})
}

// column turns parameters into an array.
func column[P, T any](params []P, of func(P) T) []T {
	values := make([]T, len(params))
	for i, p := range params {
		values[i] = of(p)
	}
	return values
}

// sqlc's arrays have no NULL, so that the statement makes one of each zero value and empty text, which no action has.
func orZero[T any](p *T) (zero T) {
	if p == nil {
		return zero
	}
	return *p
}

func orEmpty(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
