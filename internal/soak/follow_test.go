package soak

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// A follower gets an error when the server stops. It then follows again from the last event that it read.
func TestFollowerMissesAndRepeatsNothingAfterServerRestart(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"fast", "immediate"} {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t)
			d := ledgerOn(t, c)
			l := newCreateLog(t, d.ledger(t))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			follower := d.ledger(t)
			var seen []remediation.Event
			follow := func(n int) error {
				after := int64(0)
				if len(seen) > 0 {
					after = seen[len(seen)-1].ID
				}
				for e, err := range follower.Follow(ctx, after) {
					if err != nil {
						return err
					}
					if seen = append(seen, e); len(seen) == n {
						break
					}
				}
				return ctx.Err()
			}
			wantNoError(t, l.createTogether(t, 16)...)
			stored := func() []remediation.Event {
				t.Helper()
				return must[[]remediation.Event](t)(l.Events(t.Context(), 0, 1000))
			}
			wantNoError(t, follow(len(stored())))

			lost := make(chan error)
			go func() { lost <- follow(1000) }()
			c.stop(t, mode)
			err := <-lost
			t.Log(err)
			if err == nil || ctx.Err() != nil {
				t.Fatalf("Follow ended with %v after the server stopped, want an error before the timeout", err)
			}
			c.start(t)
			l = newCreateLog(t, d.ledger(t)) // on a new pool, which has no dead connections
			wantNoError(t, l.createTogether(t, 16)...)
			want := stored()
			for len(seen) < len(want) && ctx.Err() == nil { // each idle connection of the pool may fail once
				if err := follow(len(want)); err != nil {
					t.Log(err)
				}
			}
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Errorf("events that the follower read (-want +got):\n%s", diff)
			}
		})
	}
}
