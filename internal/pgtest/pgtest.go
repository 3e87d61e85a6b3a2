// Package pgtest gives each test its own PostgreSQL database on the server at POSTGRES_URL.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/homelab-cmd/actionledger/remediation/postgres"
)

// Main runs the tests of a package and drops the template database. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if templateCreated.Load() {
		if err := admin(context.Background(), "DROP DATABASE IF EXISTS "+template); err != nil {
			fmt.Fprintln(os.Stderr, "drop the template database:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// URL returns the URL of a migrated database for this test alone, which is dropped when the test ends. Without
// POSTGRES_URL the test is skipped, or fails if POSTGRES_REQUIRED is set.
func URL(t testing.TB) string {
	t.Helper()
	needServer(t)
	if err := createTemplate(); err != nil {
		t.Fatalf("create the template database: %v", err)
	}
	return database(t, "TEMPLATE "+template)
}

// EmptyURL is like URL, for a database without a schema.
func EmptyURL(t testing.TB) string {
	t.Helper()
	needServer(t)
	return database(t, "TEMPLATE template0")
}

// Pool returns a pool on the database at url, closed when the test ends.
func Pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatalf("open pool: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func needServer(t testing.TB) {
	t.Helper()
	if os.Getenv("POSTGRES_URL") != "" {
		return
	}
	if os.Getenv("POSTGRES_REQUIRED") != "" {
		t.Fatal("POSTGRES_REQUIRED is set, but POSTGRES_URL names no server")
	}
	t.Skip("PostgreSQL is not tested: POSTGRES_URL names no server")
}

// Names contain the process id, because packages are tested concurrently on one server.
var (
	template        = fmt.Sprintf("actionledger_template_%d", os.Getpid())
	templateCreated atomic.Bool
	databases       atomic.Int64
)

var createTemplate = sync.OnceValue(func() error {
	ctx := context.Background()
	if err := admin(ctx, "CREATE DATABASE "+template+" TEMPLATE template0"); err != nil {
		return err
	}
	templateCreated.Store(true)
	pool, err := pgxpool.New(ctx, urlOf(template))
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool)
})

func database(t testing.TB, from string) string {
	t.Helper()
	name := fmt.Sprintf("actionledger_test_%d_%d", os.Getpid(), databases.Add(1))
	if err := admin(t.Context(), "CREATE DATABASE "+name+" "+from); err != nil {
		t.Fatalf("create a test's database: %v", err)
	}
	t.Cleanup(func() {
		// FORCE, because a test that killed its process or its pool may have left connections.
		if err := admin(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop a test's database: %v", err)
		}
	})
	return urlOf(name)
}

// urlOf returns the URL of a database on the server.
func urlOf(name string) string {
	u, err := url.Parse(os.Getenv("POSTGRES_URL"))
	if err != nil {
		panic(fmt.Sprintf("POSTGRES_URL is not a URL: %v", err))
	}
	u.Path = "/" + name
	return u.String()
}

// admin runs a statement on the database that POSTGRES_URL names.
func admin(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, os.Getenv("POSTGRES_URL"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}
