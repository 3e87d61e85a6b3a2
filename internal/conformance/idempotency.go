package conformance

import (
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of idempotency keys: a repeated Create with the same key and content returns the first action and writes
// nothing.

// idempotentAction returns the input for an action with an idempotency key and all other optional fields but the dedupe
// key.
func (l *ledger) idempotentAction(t *testing.T, key string) remediation.NewAction {
	t.Helper()
	a := newAction(paused)
	a.IdempotencyKey, a.AlertID, a.MaxRuntimeSeconds = &key, new(l.mustAddAlert(t, paused)), new(int64(60))
	a.NotBefore, a.ExpiresAt = new(at(-10).In(time.FixedZone("+0100", 3600)).Add(7)), new(at(600).Add(7))
	return a
}

// createAgain repeats a Create. It expects the action want and no writes.
func (l *ledger) createAgain(t *testing.T, a remediation.NewAction, want remediation.Action) {
	t.Helper()
	last, rows := l.lastEvent(t), l.count(t, "remediation_actions")
	got, err := l.Create(t.Context(), a)
	if err != nil {
		t.Fatalf("%s: %v", want.Status, err)
	}
	same(t, "repeated Create of an action that is "+string(want.Status), got, want)
	same(t, "number of new events", len(l.mustEvents(t, last)), 0)
	same(t, "number of actions", l.count(t, "remediation_actions"), rows)
}

func (l *ledger) TestIdempotentCreateReturnsTheFirstActionInAnyStatus(t *testing.T) {
	for status, path := range stepsTo {
		a := l.idempotentAction(t, "key of "+string(status))
		first := l.mustCreate(t, a)
		l.createAgain(t, a, first)
		first = l.advance(t, first, path...)
		l.createAgain(t, a, first)
		l.mustUnpause(t, paused) // the mode of the server does not matter
		l.createAgain(t, a, first)
		l.mustPause(t, paused)
		now := l.clock.now
		l.clock.now = at(700) // after its expires_at
		l.createAgain(t, a, first)
		l.clock.now = now
	}
}

func (l *ledger) TestIdempotentCreateWithOtherContentIsADuplicate(t *testing.T) {
	a := l.idempotentAction(t, "k")
	first := l.mustCreate(t, a)
	other := l.mustAddAlert(t, paused)
	for name, change := range map[string]func(a *remediation.NewAction){
		"server":         func(a *remediation.NewAction) { a.ServerID, a.AlertID = normal, nil },
		"type":           func(a *remediation.NewAction) { a.ActionType = "reboot" },
		"command":        func(a *remediation.NewAction) { a.Command += " " },
		"creator":        func(a *remediation.NewAction) { a.CreatedBy = "bob" },
		"service":        func(a *remediation.NewAction) { a.ServiceName = new("apache2") },
		"no service":     func(a *remediation.NewAction) { a.ServiceName = nil },
		"alert":          func(a *remediation.NewAction) { a.AlertID = &other },
		"no alert":       func(a *remediation.NewAction) { a.AlertID = nil },
		"dedupe key":     func(a *remediation.NewAction) { a.DedupeKey = new("apt") },
		"not_before":     func(a *remediation.NewAction) { a.NotBefore = new(a.NotBefore.Add(time.Microsecond)) },
		"no not_before":  func(a *remediation.NewAction) { a.NotBefore = nil },
		"expires_at":     func(a *remediation.NewAction) { a.ExpiresAt = new(a.ExpiresAt.Add(time.Microsecond)) },
		"no expires_at":  func(a *remediation.NewAction) { a.ExpiresAt = nil },
		"max_runtime":    func(a *remediation.NewAction) { a.MaxRuntimeSeconds = new(int64(61)) },
		"no max_runtime": func(a *remediation.NewAction) { a.MaxRuntimeSeconds = nil },
	} {
		b := a
		change(&b)
		got, err := l.Create(t.Context(), b)
		if wantDuplicate(t, err, first.ID); t.Failed() {
			t.Fatalf("Create with another value (%s): %v", name, err)
		}
		same(t, "the action of a refused Create", got, remediation.Action{})
	}
	same(t, "the rows", l.mustList(t, remediation.Filter{}), []remediation.Action{first})
	a.IdempotencyKey = new("K") // keys are case-sensitive
	l.mustCreate(t, a)
}

func (l *ledger) TestIdempotentCreateRaceMakesOneRow(t *testing.T) {
	racers := l.racers(t, 32)
	for _, serverID := range []string{normal, paused} {
		a := newAction(serverID)
		a.IdempotencyKey, a.DedupeKey = new("key on "+serverID), new("nginx")
		last := l.lastEvent(t)
		created := make([]remediation.Action, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			var err error
			if created[i], err = racer.Create(t.Context(), a); err != nil {
				t.Error(err)
			}
		})
		rows := l.mustList(t, remediation.Filter{ServerID: serverID})
		same(t, "number of actions", len(rows), 1)
		for _, got := range created {
			same(t, "the action that each caller got", got, rows[0])
		}
		sameEvents(t, "the events", l.mustEvents(t, last), history(rows[0]))
	}
}

func (l *ledger) TestIdempotentCreateIsIndependentOfDedupeKey(t *testing.T) {
	a := keyed(normal, "apt")
	a.IdempotencyKey = new("first")
	first := l.mustCreate(t, a)
	l.createAgain(t, a, first)
	b := keyed(normal, "apt")
	b.IdempotencyKey = new("second")
	_, err := l.Create(t.Context(), b)
	wantDuplicate(t, err, first.ID)
	first = l.advance(t, first, start, complete)
	second := l.mustCreate(t, b) // the refused Create did not take the idempotency key
	l.createAgain(t, a, first)
	l.createAgain(t, b, second)
	c := keyed(normal, "nginx")
	c.IdempotencyKey = new("first")
	_, err = l.Create(t.Context(), c)
	wantDuplicate(t, err, first.ID)
}

func (l *ledger) TestIdempotentCreateAfterItsReferencesAreDeleted(t *testing.T) {
	a := l.idempotentAction(t, "k")
	first := l.mustCreate(t, a)
	l.exec(t, "DELETE FROM alerts WHERE id = "+number(*a.AlertID))
	first.AlertID = nil
	l.createAgain(t, a, first)
	l.exec(t, "DELETE FROM servers WHERE id = "+quote(paused)) // which deletes its actions too
	_, err := l.Create(t.Context(), a)
	wantError(t, "Create on a deleted server", err, remediation.ErrServerNotFound)
}

func (l *ledger) TestIdempotencyKeyIsReleasedByPrune(t *testing.T) {
	a := newAction(normal)
	a.IdempotencyKey = new("k")
	first := l.advance(t, l.mustCreate(t, a), start, complete)
	l.createAgain(t, a, first)
	same(t, "number pruned", l.mustPrune(t, at(30), 10), int64(1))
	if second := l.mustCreate(t, a); second.ID == first.ID {
		t.Error("the second action has the first one's id")
	}
}

func (l *ledger) TestIdempotencyKeyInTheCallersTransaction(t *testing.T) {
	a := newAction(normal)
	a.IdempotencyKey = new("k")
	for _, commit := range []bool{false, true} {
		tx := l.db.Begin(t)
		inTx := l.on(tx.Store)
		first, err := inTx.Create(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := inTx.Create(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "in the transaction", again, first)
		b := a
		b.Command = "reboot"
		_, err = inTx.Create(t.Context(), b)
		wantDuplicate(t, err, first.ID)
		outside := make(chan remediation.Action, 1)
		go func() {
			got, err := l.Create(t.Context(), a) // waits for the transaction to end
			if err != nil {
				t.Error(err)
			}
			outside <- got
		}()
		end := tx.Rollback
		if commit {
			end = tx.Commit
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		got := <-outside
		same(t, "the actions after the transaction", l.mustList(t, remediation.Filter{}), []remediation.Action{got})
		if commit {
			same(t, "the action outside the transaction", got, first)
		}
		l.exec(t, "DELETE FROM remediation_actions")
	}
}

func (l *ledger) TestIdempotencyKeyIsValidated(t *testing.T) {
	arg := argument{field: "idempotency_key", most: longestServiceName}
	for problem, key := range arg.bad() {
		a := newAction(normal)
		a.IdempotencyKey = &key
		_, err := l.Create(t.Context(), a)
		if badInput(t, err, "idempotency_key"); t.Failed() {
			t.Fatal(problem)
		}
	}
	same(t, "number of actions", l.count(t, "remediation_actions"), 0)
}

func (l *ledger) TestIdempotencyKeyRulesApplyToRawSQL(t *testing.T) {
	for _, status := range remediation.Statuses() {
		a := example(status)
		a.IdempotencyKey = new("key of " + string(status))
		stored := l.store(t, a)
		for _, verb := range []string{"INSERT INTO", "INSERT OR REPLACE INTO"} {
			_, err := l.db.Raw.ExecContext(t.Context(), verb+` remediation_actions (server_id, action_type, status, command, created_at,
				created_by, idempotency_key) VALUES ('web-1', 'reboot', 'pending', 'reboot', `+literal(at(0))+`, 'ann', `+quote(*a.IdempotencyKey)+")")
			if err == nil {
				t.Errorf("%s: a second action with the key of a %s action was accepted", verb, status)
			}
		}
		same(t, "the row", l.mustGet(t, stored.ID), stored)
		l.wontUpdate(t, stored, "idempotency_key = NULL")
		l.wontUpdate(t, stored, "idempotency_key = 'other'")
	}
}
