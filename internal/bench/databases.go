package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/homelab-cmd/actionledger/db/sqlitedb"
	"github.com/homelab-cmd/actionledger/remediation"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
)

// This file creates the databases of both engines, with a ledger or with only the generated statements.

// mode is the mode of the servers of a new ledger.
type mode bool

const (
	normal      mode = false // a new action is approved at once
	maintenance mode = true  // a new action waits for approval
)

// newLedger creates an SQLite ledger with that many servers.
func newLedger(ctx context.Context, path string, servers int, m mode) (*remediation.Ledger, *sqlite.Store, error) {
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	l := remediation.New(store)
	err = store.Migrate(ctx)
	if err == nil {
		err = addServers(ctx, l, servers, m)
	}
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return l, store, nil
}

func addServers(ctx context.Context, l *remediation.Ledger, servers int, m mode) error {
	for i := range servers {
		if err := l.AddServer(ctx, serverOf(i)); err != nil {
			return err
		}
		if m == maintenance {
			if err := l.Pause(ctx, serverOf(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sqlitePragmas are the settings of sqlite.Open. All sides use them.
const sqlitePragmas = "?_txlock=immediate&_time_format=sqlite&_dqs=0&_defensive=1" +
	"&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-16000)"

// openSQLite opens a pool of one connection: SQLite has one writer, and the peers recommend one connection.
func openSQLite(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+sqlitePragmas)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// newBare creates the same database as newLedger, and opens only the prepared statements on it.
func newBare(ctx context.Context, path string, servers int, m mode) (bareSQLite, *sql.DB, error) {
	_, store, err := newLedger(ctx, path, servers, m)
	if err != nil {
		return bareSQLite{}, nil, err
	}
	if err := store.Close(); err != nil {
		return bareSQLite{}, nil, err
	}
	db, err := openSQLite(path)
	if err != nil {
		return bareSQLite{}, nil, err
	}
	q, err := sqlitedb.Prepare(ctx, db)
	if err != nil {
		return bareSQLite{}, nil, errors.Join(err, db.Close())
	}
	return bareSQLite{q}, db, nil
}

func (c config) path(name string) string { return filepath.Join(c.dir, name+".db") }

// remove deletes SQLite files, so that large ones don't fill the disk during the next measurement.
func remove(paths ...string) {
	for _, path := range paths {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(path + suffix)
		}
	}
}

var postgresDatabases atomic.Int64

// newPostgres creates an empty database and opens a pool on it. drop closes the pool and drops the database.
func newPostgres(ctx context.Context, c config, connections int) (pool *pgxpool.Pool, drop func(), err error) {
	name := fmt.Sprintf("actionledger_bench_%d_%d", os.Getpid(), postgresDatabases.Add(1))
	admin := func(ctx context.Context, statement string) error {
		conn, err := pgx.Connect(ctx, c.postgresURL)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, statement)
		return err
	}
	if err := admin(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return nil, nil, err
	}
	drop = func() {
		if pool != nil {
			pool.Close()
		}
		if err := admin(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			progress("drop %s: %v", name, err)
		}
	}
	u, err := url.Parse(c.postgresURL)
	if err != nil {
		return nil, nil, err
	}
	u.Path = "/" + name
	options, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, nil, err
	}
	options.MaxConns = int32(connections)
	options.MinConns = int32(connections)
	options.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	if pool, err = pgxpool.NewWithConfig(ctx, options); err != nil {
		drop()
		return nil, nil, err
	}
	return pool, drop, nil
}

// newPostgresLedger creates a PostgreSQL ledger in its own database.
func newPostgresLedger(
	ctx context.Context, c config, connections, servers int, m mode,
) (*remediation.Ledger, *pgxpool.Pool, func(), error) {
	pool, drop, err := newPostgres(ctx, c, connections)
	if err != nil {
		return nil, nil, nil, err
	}
	l := remediation.New(postgres.New(pool))
	err = postgres.Migrate(ctx, pool)
	if err == nil {
		err = addServers(ctx, l, servers, m)
	}
	if err != nil {
		drop()
		return nil, nil, nil, err
	}
	return l, pool, drop, nil
}
