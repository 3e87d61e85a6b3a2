package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of dedupe keys: at most one open action per server and key. Create reports the open one as a *DuplicateError.

// keyed is newAction with a dedupe key.
func keyed(serverID, key string) remediation.NewAction {
	a := newAction(serverID)
	a.DedupeKey = &key
	return a
}

// wantDuplicate expects err to be a *DuplicateError that names the action with this id.
func wantDuplicate(t *testing.T, err error, id int64) {
	t.Helper()
	d := (*remediation.DuplicateError)(nil)
	if !errors.Is(err, remediation.ErrDuplicate) || !errors.As(err, &d) {
		t.Errorf("error is %v, want a *DuplicateError", err)
		return
	}
	same(t, "DuplicateError", *d, remediation.DuplicateError{ExistingID: id})
	if !strings.Contains(err.Error(), number(id)) {
		t.Errorf("%q doesn't name action %d", err, id)
	}
}

func (l *ledger) TestDedupeRaceOfCreatesHasOneWinner(t *testing.T) {
	racers := l.racers(t, 32)
	for _, serverID := range []string{normal, paused} {
		created, errs := make([]remediation.Action, len(racers)), make([]error, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			created[i], errs[i] = racer.Create(t.Context(), keyed(serverID, "apt"))
		})
		var won []remediation.Action
		for i, err := range errs {
			if err == nil {
				won = append(won, created[i])
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d creates succeeded on %s: %v", len(won), serverID, errs)
		}
		same(t, "dedupe_key", won[0].DedupeKey, new("apt"))
		for i, err := range errs {
			if err != nil {
				wantDuplicate(t, err, won[0].ID)
				same(t, "the action of a refused Create", created[i], remediation.Action{})
			}
		}
		same(t, "the rows of the server", l.mustList(t, remediation.Filter{ServerID: serverID}), won)
		same(t, "Get", l.mustGet(t, won[0].ID), won[0])
	}
}

func (l *ledger) TestDedupeIsPerServerAndKey(t *testing.T) {
	holder := l.mustCreate(t, keyed(normal, "apt"))
	for _, a := range []remediation.NewAction{
		keyed(paused, "apt"), keyed(normal, "apt2"), keyed(normal, "APT"), keyed(normal, "apt "), newAction(normal), newAction(normal),
	} {
		l.mustCreate(t, a)
	}
	// Only the server and the key count, not the other fields.
	other := keyed(normal, "apt")
	other.ActionType, other.Command, other.CreatedBy, other.ServiceName = "upgrade", "apt-get upgrade", "bob", nil
	for _, a := range []remediation.NewAction{keyed(normal, "apt"), other} {
		_, err := l.Create(t.Context(), a)
		wantDuplicate(t, err, holder.ID)
	}
	same(t, "number of actions", len(l.mustList(t, remediation.Filter{})), 7)
}

func (l *ledger) TestDedupeKeyIsReleasedWhenTheActionEnds(t *testing.T) {
	for name, path := range map[string][]step{
		"completed": {approve, start, complete},
		"failed":    {approve, start, fail},
		"rejected":  {reject},
		"withdrawn": {approve, withdraw},
	} {
		holder := l.mustCreate(t, keyed(paused, name))
		for _, s := range path {
			_, err := l.Create(t.Context(), keyed(paused, name))
			wantDuplicate(t, err, holder.ID)
			holder = l.advance(t, holder, s)
			same(t, name+": dedupe_key after "+s.name, holder.DedupeKey, &name)
			listed := holder
			listed.Stdout, listed.Stderr = nil, nil
			same(t, name+": listed after "+s.name, l.mustList(t, remediation.Filter{Limit: 1}), []remediation.Action{listed})
		}
		next := l.mustCreate(t, keyed(paused, name))
		if next.ID == holder.ID {
			t.Errorf("%s: the next action has the same id", name)
		}
		_, err := l.Create(t.Context(), keyed(paused, name))
		wantDuplicate(t, err, next.ID)
	}
}

func (l *ledger) TestDedupeRefusalKeepsTheTransactionUsable(t *testing.T) {
	holder := l.mustCreate(t, keyed(normal, "apt"))
	tx := l.db.Begin(t)
	inTx := l.on(tx.Store)
	_, err := inTx.Create(t.Context(), keyed(normal, "apt"))
	wantDuplicate(t, err, holder.ID)
	own, err := inTx.Create(t.Context(), keyed(normal, "nginx"))
	if err != nil {
		t.Fatalf("after the refusal: %v", err)
	}
	_, err = inTx.Create(t.Context(), keyed(normal, "nginx"))
	wantDuplicate(t, err, own.ID)
	if _, err := inTx.Withdraw(t.Context(), holder.ID, "dave", "no"); err != nil {
		t.Fatal(err)
	}
	next, err := inTx.Create(t.Context(), keyed(normal, "apt"))
	if err != nil {
		t.Fatalf("Create with the released key in the same transaction: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []remediation.Action{own, next} {
		same(t, "after the commit", l.mustGet(t, a.ID), a)
		_, err := l.Create(t.Context(), keyed(normal, *a.DedupeKey))
		wantDuplicate(t, err, a.ID)
	}

	tx = l.db.Begin(t)
	if _, err := l.on(tx.Store).Create(t.Context(), keyed(paused, "apt")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	l.mustCreate(t, keyed(paused, "apt")) // a Create that was rolled back takes no key
}

// While an open transaction takes or releases the key, Create waits. The result depends on commit or rollback.
func (l *ledger) TestDedupeWaitsForAnOpenTransaction(t *testing.T) {
	for _, releases := range []bool{false, true} {
		for _, commits := range []bool{false, true} {
			key := fmt.Sprintf("releases %t, commits %t", releases, commits)
			var holder remediation.Action
			if releases {
				holder = l.mustCreate(t, keyed(normal, key))
			}
			tx := l.db.Begin(t)
			inTx := l.on(tx.Store)
			var err error
			if releases {
				_, err = inTx.Withdraw(t.Context(), holder.ID, "dave", "no")
			} else {
				holder, err = inTx.Create(t.Context(), keyed(normal, key))
			}
			if err != nil {
				t.Fatal(err)
			}
			created := make(chan error, 1)
			go func() {
				_, err := l.Create(t.Context(), keyed(normal, key))
				created <- err
			}()
			end := tx.Rollback
			if commits {
				end = tx.Commit
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if err := <-created; releases == commits && err != nil {
				t.Errorf("%s: %v, want a new action", key, err)
			} else if releases != commits {
				wantDuplicate(t, err, holder.ID)
			}
		}
	}
}

// insertKeyed inserts an action with a dedupe key by raw SQL.
func (l *ledger) insertKeyed(t *testing.T, a remediation.Action, key string) error {
	t.Helper()
	a.DedupeKey = &key
	_, err := l.insert(t, rowOf(a))
	return err
}

func (l *ledger) TestDedupeAppliesToRawSQL(t *testing.T) {
	for _, held := range examples() {
		key := string(held.Status)
		if err := l.insertKeyed(t, held, key); err != nil {
			t.Fatal(err)
		}
		for _, a := range examples() {
			if held.Status.Terminal() && !a.Status.Terminal() {
				continue // the first open action would take the key and block the next one
			}
			err := l.insertKeyed(t, a, key)
			if free := held.Status.Terminal() || a.Status.Terminal(); (err == nil) != free {
				t.Errorf("insert of a %s action with the key of a %s one: %v", a.Status, held.Status, err)
			}
		}
	}
	if n := l.count(t, "(SELECT 1 FROM remediation_actions WHERE dedupe_key IS NOT NULL AND status IN "+
		"('pending', 'approved', 'executing') GROUP BY server_id, dedupe_key HAVING count(*) > 1) AS twice"); n != 0 {
		t.Errorf("%d keys have more than one open action", n)
	}
}

func (l *ledger) TestDedupeKeyNeverChanges(t *testing.T) {
	for _, status := range remediation.Statuses() {
		bare := l.actionIn(t, status)
		with := l.advance(t, l.mustCreate(t, keyed(paused, string(status))), stepsTo[status]...)
		l.wontUpdate(t, bare, "dedupe_key = 'other'")
		for _, set := range []string{"dedupe_key = 'other'", "dedupe_key = NULL", "dedupe_key = dedupe_key || 'x'"} {
			l.wontUpdate(t, with, set)
		}
		if err := l.update(t, with.ID, "dedupe_key = "+quote(string(status))); err != nil {
			t.Errorf("%s: writing the same dedupe_key again: %v", status, err)
		}
	}
	pending := l.actionIn(t, remediation.Pending)
	l.wontUpdate(t, pending, "status = 'approved', approved_at = created_at, approved_by = 'bob', dedupe_key = 'smuggled'")
}

func (l *ledger) TestDedupeKeyDoesNotHideAnUnknownReference(t *testing.T) {
	holder := l.mustCreate(t, keyed(normal, "apt"))
	before := l.contents(t)
	_, err := l.Create(t.Context(), keyed("nowhere", "apt"))
	wantError(t, "unknown server", err, remediation.ErrServerNotFound)
	a := keyed(normal, "nginx")
	a.AlertID = new(int64(1 << 62))
	_, err = l.Create(t.Context(), a)
	wantError(t, "unknown alert", err, remediation.ErrAlertNotFound)
	same(t, "after the refused calls", l.contents(t), before)

	alert := l.mustAddAlert(t, normal)
	a = keyed(normal, "apt")
	a.AlertID = &alert
	_, err = l.Create(t.Context(), a)
	wantDuplicate(t, err, holder.ID)
}

func (l *ledger) TestDedupeCreateRacingWithFinishIsNewOrDuplicate(t *testing.T) {
	racers := l.racers(t, 4)
	for range rounds(25) {
		holder := l.mustCreate(t, keyed(normal, "apt"))
		if _, err := l.Start(t.Context(), holder.ID); err != nil {
			t.Fatal(err)
		}
		created, errs := make([]remediation.Action, len(racers)), make([]error, len(racers))
		race(racers, func(i int, racer *remediation.Ledger) {
			if i == 0 {
				created[i], errs[i] = racer.Finish(t.Context(), normal, holder.ID, remediation.Result{})
				return
			}
			created[i], errs[i] = racer.Create(t.Context(), keyed(normal, "apt"))
		})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		var won []int64
		for i := 1; i < len(racers); i++ {
			if errs[i] == nil {
				won = append(won, created[i].ID)
			}
		}
		if len(won) > 1 {
			t.Fatalf("actions %v have the same key", won)
		}
		for _, err := range errs[1:] {
			d := (*remediation.DuplicateError)(nil)
			if err != nil && !errors.As(err, &d) {
				t.Errorf("Create: %v, want a new action or a *DuplicateError", err)
			} else if err != nil && d.ExistingID != holder.ID && (len(won) == 0 || d.ExistingID != won[0]) {
				t.Errorf("Create names %d, but only %d and then %v had the key", d.ExistingID, holder.ID, won)
			}
		}
		for _, id := range won {
			if _, err := l.Withdraw(t.Context(), id, "dave", "next round"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (l *ledger) TestDedupeKeyIsValidated(t *testing.T) {
	longest := strings.Repeat("日", 255)
	arg := argument{method: "Create", field: "dedupe_key", most: longest}
	before := l.contents(t)
	for name, s := range arg.bad() {
		t.Run(name, func(t *testing.T) {
			_, err := l.Create(t.Context(), keyed(normal, s))
			badInput(t, err, "dedupe_key")
		})
	}
	same(t, "after the refused calls", l.contents(t), before)
	for _, key := range []string{longest, "restart_service:nginx", "it's \"quoted\" \\ %_ 🚀", " x "} {
		a := l.mustCreate(t, keyed(normal, key))
		same(t, "the key", l.mustGet(t, a.ID).DedupeKey, &key)
		_, err := l.Create(t.Context(), keyed(normal, key))
		wantDuplicate(t, err, a.ID)
	}
}
