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

// acknowledged is what callers were told, and must find for ever.
type acknowledged struct {
	mu         sync.Mutex
	answers    int
	deliveries int
	unverified []loadAnswer                 // not looked for yet
	latest     map[int64]remediation.Action // the last that anybody was told of each action
	delivered  map[int64]bool
	duplicates []int64                          // delivered more than once
	unanswered map[string]remediation.NewAction // by their keys, the creates that nobody was answered
	created    map[string]int64                 // by their keys, the actions that the others made
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
	// Two answers about one action may come in either order, but the statuses' own order is that of its life.
	known, ok := k.latest[a.Action.ID]
	if !ok || slices.Index(remediation.Statuses(), known.Status) < slices.Index(remediation.Statuses(), a.Action.Status) {
		k.latest[a.Action.ID] = a.Action
	}
}

// read adds what a worker says until its output ends; the first answer closes working.
func (k *acknowledged) read(t *testing.T, p *process, working chan struct{}) {
	lines := bufio.NewReader(p.out)
	for n := 0; ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // what a kill cut off was no answer
		}
		var a loadAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Errorf("the worker said %q: %v", line, err)
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

// verify looks for what was acknowledged since the last time, as the next program to open the ledger finds it.
func (k *acknowledged) verify(t *testing.T, d database) {
	t.Helper()
	k.mu.Lock()
	unverified, duplicates := k.unverified, k.duplicates
	k.unverified = nil
	k.mu.Unlock()
	if len(duplicates) > 0 {
		t.Errorf("actions %v were delivered more than once, or were made by one create", duplicates)
	}
	verifyStored(t, d, unverified)
}

// repeat makes the creates again that were not answered, as their callers do when they are back.
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
			t.Fatalf("create again: %v", err)
		}
		k.add(loadAnswer{Action: made})
	}
}

// verifyAll looks for everything, once no caller is left: whatever was asked for is there once.
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
		t.Errorf("each key's action (-answered +found):\n%s", diff)
	}
	var all []loadAnswer
	for _, a := range k.latest {
		all = append(all, loadAnswer{Action: a})
	}
	verifyStored(t, d, all)
	if k.deliveries == 0 {
		t.Error("nothing was delivered, so the test shows nothing")
	}
}

func verifyStored(t *testing.T, d database, answers []loadAnswer) {
	t.Helper()
	store, closeStore, err := d.open(t.Context())
	if err != nil {
		t.Fatalf("open the ledger again: %v", err)
	}
	defer closeStore()
	ledger := remediation.New(store)
	rows := map[int64]remediation.Action{} // read after the answers, so never behind them
	for _, a := range answers {
		id := a.Action.ID
		row, ok := rows[id]
		if !ok {
			if row, err = ledger.Get(t.Context(), id); err != nil {
				t.Fatalf("acknowledged as %s: %v", a.Action.Status, err)
			}
			rows[id] = row
		}
		if diff := difference(a.Action, row); diff != "" {
			t.Fatalf("action %d (-acknowledged +found):\n%s", id, diff)
		}
	}
}

// missing says what row lacks of an answer: it must be that answer still, or what the lifecycle made of it later. Notes may
// have been added while it executed.
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

func reachable(from, to remediation.Status) bool {
	return slices.ContainsFunc(remediation.Statuses(), func(next remediation.Status) bool {
		return from.CanTransition(next) && (next == to || reachable(next, to))
	})
}

// asOf is the row as it was in an earlier status, before later steps filled in theirs.
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
