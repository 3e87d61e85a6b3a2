package postgres_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// raisePositions raises the feed positions of events, as if they were restored from a cluster with higher transaction
// ids.
func raisePositions(t *testing.T, pool *pgxpool.Pool, where string) {
	t.Helper()
	run(t, pool, "ALTER TABLE remediation_events DISABLE TRIGGER USER")
	run(t, pool, "UPDATE remediation_events SET feed_position = feed_position + 1000000000000 WHERE "+where)
	run(t, pool, "ALTER TABLE remediation_events ENABLE TRIGGER USER")
}

func TestEventsOfAnotherClusterAreReadAfterMigrate(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	for range 3 {
		create(t, ledger)
	}
	raisePositions(t, pool, "id > 2")
	wantSchemaVersion := func(when string) {
		t.Helper()
		_, err := ledger.Events(t.Context(), reader.after, 10)
		if !errors.Is(err, remediation.ErrSchemaVersion) || !strings.Contains(fmt.Sprint(err), "another PostgreSQL cluster") {
			t.Errorf("Events %s: %v, want ErrSchemaVersion", when, err)
		}
	}
	same(t, "events with positions of this cluster", len(must[[]remediation.Event](t)(ledger.Events(t.Context(), 0, 10))), 2)
	reader.after, reader.seen = 2, []int64{1, 2}
	wantSchemaVersion("before Migrate")
	same(t, "events after the last one", must[[]remediation.Event](t)(ledger.Events(t.Context(), 6, 10)), []remediation.Event{})
	tx, inTx := openTx(t, pool)
	run(t, tx, "SELECT pg_current_xact_id()") // has an id and is open during Migrate
	create(t, ledger)
	wantSchemaVersion("after a new event")
	run(t, pool, "DELETE FROM remediation_actions WHERE id = 3; DELETE FROM remediation_events WHERE action_id = 3 AND kind <> 'deleted'")
	before := one[string](t, pool, "SELECT coalesce(array_to_string(proacl, ','), '') FROM pg_proc WHERE proname = 'remediation_events_position'")
	migrate(t, pool)
	create(t, inTx)
	create(t, ledger)
	end(t, tx.Commit)
	reader.poll(t)
	reader.wantAllOnce(t, pool)
	same(t, "whether the events come in the order of their ids", slices.IsSorted(reader.seen), true)
	same(t, "privileges on remediation_events_position", one[string](t, pool,
		"SELECT coalesce(array_to_string(proacl, ','), '') FROM pg_proc WHERE proname = 'remediation_events_position'"), before)

	// The feed works as before, and also after a second restore.
	tx, inTx = openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	same(t, "new events while a transaction is open", reader.poll(t), 0)
	end(t, tx.Commit)
	same(t, "new events after its commit", reader.poll(t), 4)
	raisePositions(t, pool, "TRUE")
	create(t, ledger)
	wantSchemaVersion("after a second restore")
	migrate(t, pool)
	schema := schemaOf(t, pool)
	create(t, ledger)
	same(t, "new events after Migrate", reader.poll(t), 4)
	reader.wantAllOnce(t, pool)
	migrate(t, pool)
	same(t, "schema after Migrate with nothing to do", schemaOf(t, pool), schema)
}

// Before Migrate, new events get the position of the last old event. Migrate must wait for those that are not committed
// yet, or a reader would miss them.
func TestMigrateWaitsForOpenWritersOfEvents(t *testing.T) {
	t.Parallel()
	pool, ledger, reader := newFeed(t)
	create(t, ledger)
	raisePositions(t, pool, "TRUE")
	tx, inTx := openTx(t, pool)
	create(t, inTx)
	create(t, ledger)
	finished := make(chan error, 1)
	go func() { finished <- postgres.Migrate(t.Context(), pool) }()
	for one[int64](t, pool, "SELECT count(*) FROM pg_locks WHERE relation = 'remediation_events'::regclass AND NOT granted") == 0 && len(finished) == 0 {
		runtime.Gosched()
	}
	if len(finished) > 0 {
		reader.poll(t) // Migrate did not wait: move the reader past the open transaction, so that wantAllOnce fails
	}
	end(t, tx.Commit)
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	reader.poll(t)
	reader.wantAllOnce(t, pool)
}

// The last event that a reader got may have been deleted. If it came from another cluster, its position is higher than
// those of this cluster too, and new events must come after it.
func TestNewEventsComeAfterThoseDeletedInAnotherCluster(t *testing.T) {
	t.Parallel()
	for _, migrated := range []bool{false, true} { // whether Migrate runs before the first new event
		pool, ledger, reader := newFeed(t)
		for range 3 {
			create(t, ledger)
		}
		reader.poll(t)
		run(t, pool, "DELETE FROM remediation_actions")
		reader.poll(t)
		raisePositions(t, pool, "TRUE")
		raisePositions(t, pool, "id > 4")
		run(t, pool, "DELETE FROM remediation_events WHERE id > 4")
		if migrated {
			migrate(t, pool)
		}
		create(t, ledger)
		if !migrated {
			migrate(t, pool)
		}
		same(t, "new events", reader.poll(t), 2)
	}
}
