package soak

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/internal/pgtest"
	"github.com/homelab-cmd/actionledger/remediation/postgres"
	"github.com/homelab-cmd/actionledger/remediation/sqlite"
	"github.com/homelab-cmd/actionledger/schema"
)

// This file tests that Migrate can be interrupted anywhere and that the next Migrate finishes the work.

func init() { workers["migrate"] = migrateWorker }

// migrateWorker migrates an SQLite file. It writes "begin " before the migration and "end" after it.
func migrateWorker(ctx context.Context, config []byte, _ io.Reader, out io.Writer) error {
	var path string
	if err := json.Unmarshal(config, &path); err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	fmt.Fprint(out, "begin ")
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	fmt.Fprint(out, "end")
	return store.Close()
}

// migrations counts how far the interrupted calls of Migrate had come.
type migrations struct{ before, between, after int }

func (m *migrations) String() string {
	return fmt.Sprintf("Migrate was interrupted %d times before any change, %d times in between, %d times after all changes",
		m.before, m.between, m.after)
}

// add checks the schema version that an interrupted Migrate left. acknowledged means that Migrate had returned no
// error.
func (m *migrations) add(t *testing.T, d database, acknowledged bool) {
	t.Helper()
	newest := len(must[[]string](t)(fs.Glob(schema.SQLite, "*.up.sql")))
	version, dirty := d.version(t)
	switch {
	case dirty:
		t.Errorf("left dirty at version %d", version)
	case acknowledged && version != newest:
		t.Errorf("Migrate returned no error, but the schema is at version %d, want %d", version, newest)
	case version == 0:
		m.before++
	case version == newest:
		m.after++
	default:
		m.between++
	}
}

// version returns the schema version, or 0 if the database has none yet.
func (d database) version(t *testing.T) (version int, dirty bool) {
	t.Helper()
	db := d.raw(t)
	defer db.Close()
	err := db.QueryRow("SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty)
	if err != nil && !errors.Is(err, sql.ErrNoRows) && !strings.Contains(err.Error(), "schema_migrations") {
		t.Fatal(err)
	}
	return version, dirty
}

func TestNextMigrateFinishesAKilledMigrate(t *testing.T) {
	t.Parallel()
	left := &migrations{}
	run := newRun(t, 6, left.String)
	dir := t.TempDir()
	whole := database(filepath.Join(dir, "whole.db"))
	begin := time.Now()
	store := must[*sqlite.Store](t)(sqlite.Open(t.Context(), string(whole)))
	wantNoError(t, store.Migrate(t.Context()), store.Close())
	took := time.Since(begin)
	for run.next() {
		d := database(filepath.Join(dir, fmt.Sprintf("ledger%d.db", run.rounds)))
		p := start(t, "migrate", d)
		said := make([]byte, len("begin "))
		if _, err := io.ReadFull(p.out, said); err != nil {
			t.Fatalf("%q, %v: %s", said, err, &p.stderr)
		}
		time.Sleep(time.Duration(run.Int64N(int64(took)))) // kill at a random moment
		p.Process.Kill()
		rest, _ := io.ReadAll(p.out)
		p.Wait()
		left.add(t, d, string(rest) == "end")
		store = must[*sqlite.Store](t)(sqlite.Open(t.Context(), string(d)))
		wantNoError(t, store.Migrate(t.Context()), store.Close())
		addServers(t, d)
		d.check(t)
	}
}

func TestNextMigrateFinishesAfterImmediateShutdown(t *testing.T) {
	t.Parallel()
	left := &migrations{}
	c := newCluster(t)
	begin := time.Now()
	ledgerOn(t, c)
	took := time.Since(begin)
	run := newRun(t, 2, left.String)
	for run.next() {
		name := fmt.Sprintf("ledger%d", run.rounds)
		admin := clusterURL("postgres", c).raw(t)
		_, err := admin.Exec("CREATE DATABASE " + name)
		wantNoError(t, err, admin.Close())
		d := clusterURL(name, c)
		migrated := make(chan error, 1)
		pool := pgtest.Pool(t, string(d))
		go func() { migrated <- postgres.Migrate(context.Background(), pool) }()
		time.Sleep(time.Duration(run.Int64N(int64(took)))) // stop at a random moment
		c.stop(t, "immediate")
		err = <-migrated
		pool.Close()
		c.start(t)
		left.add(t, d, err == nil)
		wantNoError(t, postgres.Migrate(t.Context(), pgtest.Pool(t, string(d))))
		addServers(t, d)
		d.check(t)
	}
}
