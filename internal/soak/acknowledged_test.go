package soak

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// acknowledged records every answer of a load, and checks that the database still has every change that was
// acknowledged.
type acknowledged struct {
	mu         sync.Mutex
	answers    int
	deliveries int
	unverified []loadAnswer                 // answers since the last call of verify
	latest     map[int64]remediation.Action // by action ID, the answer with the latest status
	delivered  map[int64]bool
	duplicates []int64                          // IDs of actions delivered twice, or created twice for one key
	unanswered map[string]remediation.NewAction // by idempotency key, requests without an answer
	created    map[string]int64                 // by idempotency key, the ID of the action
	retried    int
}

func newAcknowledged() *acknowledged {
	return &acknowledged{latest: map[int64]remediation.Action{}, delivered: map[int64]bool{},
		unanswered: map[string]remediation.NewAction{}, created: map[string]int64{}}
}

func (k *acknowledged) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fmt.Sprintf("%d answers about %d actions, %d deliveries, %d creates retried",
		k.answers, len(k.latest), k.deliveries, k.retried)
}

func (k *acknowledged) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answers
}

// add records an answer, or a Create request that is about to be sent.
func (k *acknowledged) add(a loadAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.Request != nil {
		if _, again := k.unanswered[*a.Request.IdempotencyKey]; again {
			k.retried++
		}
		k.unanswered[*a.Request.IdempotencyKey] = *a.Request
		return
	}
	k.answers++
	key := *a.Action.IdempotencyKey
	delete(k.unanswered, key)
	if first, ok := k.created[key]; ok && first != a.Action.ID {
		k.duplicates = append(k.duplicates, first, a.Action.ID)
	}
	k.created[key] = a.Action.ID
	k.unverified = append(k.unverified, a)
	if a.Delivered {
		k.deliveries++
		if k.delivered[a.Action.ID] {
			k.duplicates = append(k.duplicates, a.Action.ID)
		}
		k.delivered[a.Action.ID] = true
	}
	// Answers about one action may arrive out of order. The order of remediation.Statuses is the order of the
	// lifecycle.
	known, ok := k.latest[a.Action.ID]
	order := remediation.Statuses()
	if !ok || slices.Index(order, known.Status) < slices.Index(order, a.Action.Status) {
		k.latest[a.Action.ID] = a.Action
	}
}

// read adds the answers of a worker until its output ends. It closes working after the first answer.
func (k *acknowledged) read(t *testing.T, p *process, working chan struct{}) {
	lines := bufio.NewReader(p.out)
	for n := 0; ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // an incomplete line is no answer
		}
		var a loadAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Errorf("the worker wrote %q: %v", line, err)
			return
		}
		k.add(a)
		if a.Request == nil {
			if n++; n == 1 {
				close(working)
			}
		}
	}
}

// verify opens the ledger again and checks the answers since the last call of verify.
func (k *acknowledged) verify(t *testing.T, d database) {
	t.Helper()
	k.mu.Lock()
	unverified, duplicates := k.unverified, k.duplicates
	k.unverified = nil
	k.mu.Unlock()
	if len(duplicates) > 0 {
		t.Errorf("actions %v were delivered twice, or created twice for one key", duplicates)
	}
	verifyStored(t, d, unverified)
}

// retryCreates retries the creates that got no answer.
func (k *acknowledged) retryCreates(t *testing.T, d database) {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatalf("open the ledger again: %v", err)
	}
	defer closeStore()
	k.mu.Lock()
	open := maps.Clone(k.unanswered)
	k.mu.Unlock()
	ledger := remediation.New(store)
	for _, a := range open {
		k.add(loadAnswer{Request: &a})
		made, err := ledger.Create(t.Context(), a)
		if err != nil {
			t.Fatalf("retry create: %v", err)
		}
		k.add(loadAnswer{Action: made})
	}
}

// verifyAll checks every answer after all callers have stopped. Each key must have exactly one action.
func (k *acknowledged) verifyAll(t *testing.T, d database) {
	t.Helper()
	k.retryCreates(t, d)
	k.verify(t, d)
	var made []string
	for key, id := range k.created {
		made = append(made, fmt.Sprint(key, " ", id))
	}
	slices.Sort(made)
	found := d.column(t, "SELECT idempotency_key || ' ' || id FROM remediation_actions")
	slices.Sort(found)
	if diff := cmp.Diff(made, found); diff != "" {
		t.Errorf("keys and their actions (-acknowledged +found):\n%s", diff)
	}
	var all []loadAnswer
	for _, a := range k.latest {
		all = append(all, loadAnswer{Action: a})
	}
	verifyStored(t, d, all)
	if k.deliveries == 0 {
		t.Error("no action was delivered, so the test has checked nothing")
	}
}

// verifyStored opens the ledger again and checks that it has each answer, or a later status of the same action.
func verifyStored(t *testing.T, d database, answers []loadAnswer) {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatalf("open the ledger again: %v", err)
	}
	defer closeStore()
	ledger := remediation.New(store)
	rows := map[int64]remediation.Action{} // read after the answers, so never older than them
	for _, a := range answers {
		id := a.Action.ID
		row, ok := rows[id]
		if !ok {
			if row, err = ledger.Get(t.Context(), id); err != nil {
				t.Fatalf("get action %d, acknowledged as %s: %v", id, a.Action.Status, err)
			}
			rows[id] = row
		}
		if diff := difference(a.Action, row); diff != "" {
			t.Fatalf("action %d (-acknowledged +found):\n%s", id, diff)
		}
	}
}

// difference compares an acknowledged action with its row. They must be equal, or the row must have a later status of
// the lifecycle and the same earlier fields. A later heartbeat or request to cancel is no difference.
func difference(acked, row remediation.Action) string {
	if acked.Status != row.Status && !reachable(acked.Status, row.Status) {
		return fmt.Sprintf("- %s\n+ %s", acked.Status, row.Status)
	}
	was := asOf(acked.Status, row)
	if acked.HeartbeatAt == nil || was.HeartbeatAt != nil && was.HeartbeatAt.After(*acked.HeartbeatAt) {
		was.HeartbeatAt = acked.HeartbeatAt
	}
	if acked.CancelRequestedAt == nil {
		was.CancelRequestedAt, was.CancelRequestedBy, was.CancelReason = nil, nil, nil
	}
	return cmp.Diff(acked, was)
}

// reachable reports whether the lifecycle leads from one status to the other.
func reachable(from, to remediation.Status) bool {
	return slices.ContainsFunc(remediation.Statuses(), func(next remediation.Status) bool {
		return from.CanTransition(next) && (next == to || reachable(next, to))
	})
}

// asOf returns the row as it was in an earlier status, without the fields that later transitions set.
func asOf(s remediation.Status, row remediation.Action) remediation.Action {
	row.Status = s
	switch s {
	case remediation.Pending:
		row.ApprovedAt, row.ApprovedBy = nil, nil
		fallthrough
	case remediation.Approved:
		row.RejectedAt, row.RejectedBy, row.RejectionReason, row.ExecutedAt = nil, nil, nil, nil
		fallthrough
	case remediation.Executing:
		row.CompletedAt, row.ExitCode, row.Stdout, row.Stderr = nil, nil, nil, nil
	}
	return row
}
