package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"maragu.dev/goqite"
)

// This file has the queues of other libraries: goqite on SQLite, River on both engines.

// job is the payload of a job in the other queues: the fields of a new action.
type job struct {
	Server    string `json:"server_id"`
	Type      string `json:"action_type"`
	Command   string `json:"command"`
	CreatedBy string `json:"created_by"`
}

func newJob(caller int) job { return job{serverOf(caller), actionType, command, person} }

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) || errors.Is(err, pgx.ErrNoRows) }

// goqitePeer is a goqite queue on one connection, as its README advises.
type goqitePeer struct {
	*goqite.Queue
	db   *sql.DB
	path string
}

func openGoqite(ctx context.Context, c config, _ int) (queue, error) {
	path := c.path("peer-goqite")
	db, err := openSQLite(path)
	if err != nil {
		return nil, err
	}
	schema, err := goqiteSchema(ctx)
	if err == nil {
		_, err = db.ExecContext(ctx, schema)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// The lease outlasts the run, so that no job is delivered twice.
	return goqitePeer{goqite.New(goqite.NewOpts{DB: db, Name: "bench", Timeout: time.Hour}), db, path}, nil
}

func (p goqitePeer) insert(ctx context.Context, caller int) error {
	body, err := json.Marshal(newJob(caller))
	if err != nil {
		return err
	}
	return p.Send(ctx, goqite.Message{Body: body})
}

func (p goqitePeer) drain(ctx context.Context, workers int) (rate, error) {
	return concurrently(workers, func(int) (n int, err error) {
		for ; ; n++ {
			m, err := p.Receive(ctx)
			if err != nil || m == nil {
				return n, err
			}
			if err := p.Delete(ctx, m.ID); err != nil {
				return n, err
			}
		}
	})
}

func (p goqitePeer) close() {
	p.db.Close()
	remove(p.path)
}

// goqiteSchema reads schema_sqlite.sql from goqite's module, which doesn't export it.
func goqiteSchema(ctx context.Context) (string, error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "maragu.dev/goqite").Output()
	if err != nil {
		return "", fmt.Errorf("find goqite's module: %w", err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema_sqlite.sql"))
	return string(schema), err
}

// riverPeer is a River queue. One client inserts; each drain starts another client, which works.
type riverPeer[TTx any] struct {
	driver   riverdriver.Driver[TTx]
	inserter *river.Client[TTx]
	waiting  atomic.Int64 // jobs that are inserted and not worked yet
	poll     bool
	done     func()
}

func (job) Kind() string { return "bench" }

// worker does nothing, so that only the queue is measured.
type worker struct{ river.WorkerDefaults[job] }

func (worker) Work(context.Context, *river.Job[job]) error { return nil }

func openRiverSQLite(ctx context.Context, c config, _ int) (queue, error) {
	path := c.path("peer-river")
	db, err := openSQLite(path)
	if err != nil {
		return nil, err
	}
	return newRiver(ctx, riversqlite.New(db), true, func() { db.Close(); remove(path) })
}

func openRiverPostgres(ctx context.Context, c config, _ int) (queue, error) {
	pool, drop, err := newPostgres(ctx, c, 16)
	if err != nil {
		return nil, err
	}
	return newRiver(ctx, riverpgxv5.New(pool), false, drop)
}

func newRiver[TTx any](ctx context.Context, driver riverdriver.Driver[TTx], poll bool, done func()) (queue, error) {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("migrate River: %w", err)
	}
	inserter, err := river.NewClient(driver, &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return &riverPeer[TTx]{driver: driver, inserter: inserter, poll: poll, done: done}, nil
}

func (p *riverPeer[TTx]) insert(ctx context.Context, caller int) error {
	_, err := p.inserter.Insert(ctx, newJob(caller), nil)
	if err == nil {
		p.waiting.Add(1)
	}
	return err
}

func (p *riverPeer[TTx]) drain(ctx context.Context, workers int) (rate, error) {
	all := rate{done: int(p.waiting.Swap(0))}
	registry := river.NewWorkers()
	river.AddWorker(registry, worker{})
	client, err := river.NewClient(p.driver, &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		Workers:           registry,
		FetchCooldown:     river.FetchCooldownMin, // the defaults, such as 100 ms here, would dominate the result
		FetchPollInterval: river.FetchPollIntervalMin,
		PollOnly:          p.poll,
		Logger:            slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return rate{}, err
	}
	ended, cancel := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: all.done + 1, Kinds: []river.EventKind{river.EventKindJobCompleted, river.EventKindJobFailed},
	})
	defer cancel()
	start := time.Now()
	if err := client.Start(ctx); err != nil {
		return rate{}, err
	}
	for range all.done {
		select {
		case e := <-ended:
			if e.Kind != river.EventKindJobCompleted {
				return rate{}, fmt.Errorf("job %d ended as %s", e.Job.ID, e.Job.State)
			}
		case <-ctx.Done():
			return rate{}, ctx.Err()
		}
	}
	all.elapsed = time.Since(start)
	// Stop is not measured. It must end before the next peer runs, so that only one peer uses the machine.
	return all, client.Stop(ctx)
}

func (p *riverPeer[TTx]) close() { p.done() }
