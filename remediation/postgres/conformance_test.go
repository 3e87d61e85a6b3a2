package postgres_test

import (
	"context"
	"database/sql"
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named "pgx", for Database.Raw

	"github.com/homelab-cmd/actionledger/internal/conformance"
	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// TestMain runs the tests, or, as a child process of a test, the migrator.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		runMigrator()
		return
	}
	pgtest.Main(m)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openDatabase)
}

// A call must do the same in a batch as by itself.
func TestConformanceInBatches(t *testing.T) {
	if testing.Short() {
		t.Skip("the tests of batches are enough for the race detector, which makes this one slow")
	}
	t.Parallel()
	conformance.Run(t, func(t *testing.T) conformance.Database {
		d := openDatabase(t)
		another := d.Another
		d.Store = postgres.InBatches(d.Store)
		d.Another = func(t *testing.T) remediation.Store { return postgres.InBatches(another(t)) }
		return d
	})
}

func openDatabase(t *testing.T) conformance.Database {
	t.Helper()
	url := pgtest.URL(t)
	pool := pgtest.Pool(t, url)
	raw, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return conformance.Database{
		Store: postgres.New(pool),
		Raw:   raw,
		Begin: func(t *testing.T) conformance.Tx {
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tx.Rollback(context.Background()) }) // or the pool of a failed test could not close
			return conformance.Tx{
				Store:    postgres.New(tx),
				Commit:   func() error { return tx.Commit(t.Context()) },
				Rollback: func() error { return tx.Rollback(t.Context()) },
			}
		},
		Another: func(t *testing.T) remediation.Store {
			return postgres.New(pgtest.Pool(t, url))
		},
		BeforeRules: func(t *testing.T, write func()) {
			run(t, pool, "ALTER TABLE remediation_actions DISABLE TRIGGER USER; ALTER TABLE servers DISABLE TRIGGER USER")
			write()
			run(t, pool, "ALTER TABLE remediation_actions ENABLE TRIGGER USER; ALTER TABLE servers ENABLE TRIGGER USER")
		},
	}
}
