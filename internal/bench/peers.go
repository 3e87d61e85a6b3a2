package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
	"github.com/homelab-cmd/actionledger/remediation"
)

// This file compares the ledger with other queues on the same database. peers_others.go has the other queues.

// queue is a job queue that is measured: the ledger, its bare statements, goqite or River.
type queue interface {
	// insert adds one job, in one call, and returns when the job is durable.
	insert(ctx context.Context, caller int) error
	// drain takes and completes all inserted jobs, with that many workers.
	drain(ctx context.Context, workers int) (rate, error)
	close()
}

// peer is one of the compared queues, with its targets and its results.
type peer struct {
	name string
	open func(ctx context.Context, c config, callers int) (queue, error)

	targets          map[int]target // by number of callers
	inserted, worked rate
}

// perStep returns steps per second over both phases. A job has three steps: insert, take, complete.
func (p *peer) perStep() float64 { return 3 / (1/p.inserted.perSecond() + 1/p.worked.perSecond()) }

// engine is a database engine and the queues that are compared on it.
type engine struct {
	name, title, note string
	peers             []peer
}

var peerEngines = []engine{
	{
		name:  "SQLite",
		title: "SQLite: the ledger, the bare statements and other queues",
		note: "The ledger runs Create, Claim and Finish, with every guard and event. Bare runs the same statements " +
			"on one connection, with a commit for each. goqite runs Send, Receive and Delete on one connection; it " +
			"keeps no history, and its Receive is a lease. River runs Insert by the callers, then its client with as " +
			"many workers, which do nothing. The client takes up to one job per worker in one transaction, completes " +
			"jobs in batches, every 50 ms in one transaction, and fetches at most once a millisecond, its minimum. " +
			"River's time is from Start to the last completion. Insert and work are jobs per second, in separate " +
			"phases. Steps are three per job, over both phases.",
		peers: []peer{
			{name: "ledger", open: openLedgerQueue},
			{name: "bare", open: openBareQueue},
			{name: "goqite", open: openGoqite, targets: map[int]target{1: {steps: 0.9}, 64: {steps: 4.5}}},
			{name: "River", open: openRiverSQLite},
		},
	},
	{
		name:  "PostgreSQL",
		title: "PostgreSQL: the ledger, bare pgx and River, on 16 connections",
		note: "As above. Each of the ledger's workers claims and finishes one action at a time, and each step is " +
			"durable when its call returns. River's client fetches up to 64 jobs in one statement and completes jobs " +
			"in batches. So a crash can lose a result that waits in a batch, and River then runs that job again. On " +
			"every side, an insert is one call.",
		peers: []peer{
			{name: "ledger", open: openLedgerPostgres},
			{name: "bare", open: openBarePostgres},
			{name: "River", open: openRiverPostgres, targets: map[int]target{64: {insert: 3, work: 1, steps: 2}}},
		},
	},
}

// target is how many times as fast as a peer the ledger should be. 0 means no target.
type target struct{ insert, work, steps float64 }

// peers measures the ledger against other queues on the same databases.
func peers(ctx context.Context, c config) (*report, error) {
	r := &report{}
	var panels []panel
	for _, e := range peerEngines {
		if c.only != "" && c.only != e.name {
			continue
		}
		if e.name == "PostgreSQL" && c.postgresURL == "" {
			progress("PostgreSQL is not measured: POSTGRES_URL is not set")
			continue
		}
		t := &table{title: e.title, note: e.note, header: peerHeader}
		points := map[string][]float64{}
		for _, n := range c.callers {
			all := make([]*peer, len(e.peers))
			for i, p := range e.peers {
				all[i] = &p
			}
			if err := comparePeers(ctx, c, e.name, n, all); err != nil {
				return nil, err
			}
			peerRows(t, n, all)
			for _, p := range all {
				points[p.name] = append(points[p.name], p.perStep())
			}
		}
		r.add(t)
		panels = append(panels, panel{e.name, points})
	}
	if c.chart != "" {
		if err := writeChart(c.chart, c.callers, panels); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// comparePeers measures all peers with that many callers. Each has its own database; they alternate with each round.
func comparePeers(ctx context.Context, c config, engine string, callers int, all []*peer) error {
	var queues []queue
	defer func() {
		for _, q := range queues {
			q.close()
		}
	}()
	for _, p := range all {
		q, err := p.open(ctx, c, callers)
		if err != nil {
			return fmt.Errorf("open %s: %w", p.name, err)
		}
		queues = append(queues, q)
	}
	for round := range rounds {
		for i, p := range all {
			progress("peers: %s, %d callers, round %d: %s", engine, callers, round+1, p.name)
			if err := p.round(ctx, c, queues[i], callers); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

// round fills the queue and drains it.
func (p *peer) round(ctx context.Context, c config, q queue, callers int) error {
	inserted, err := concurrently(callers, func(caller int) (int, error) {
		return during(ctx, c.duration/rounds, func() error { return q.insert(ctx, caller) })
	})
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	p.inserted.add(inserted)
	drained, err := q.drain(ctx, callers)
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	if drained.done != inserted.done {
		return fmt.Errorf("%d jobs were inserted and %d worked", inserted.done, drained.done)
	}
	p.worked.add(drained)
	return nil
}

var peerHeader = []string{
	"callers", "", "insert/s", "work/s", "steps/s", "ledger's insert", "ledger's work", "ledger's steps", "target",
}

// peerRows adds a row for each peer, with the ratios of the ledger's speed to the peer's. The ledger is the first peer.
func peerRows(t *table, callers int, all []*peer) {
	ledger := all[0]
	for _, p := range all {
		cells := []string{
			fmt.Sprint(callers), p.name,
			perSecond(p.inserted.perSecond()), perSecond(p.worked.perSecond()), perSecond(p.perStep()),
		}
		var verdicts []string
		faster := func(name string, ours, theirs, target float64) string {
			if p == ledger {
				return ""
			}
			if target > 0 {
				verdicts = append(verdicts, name+" "+atLeast(ours/theirs, target))
			}
			return times(ours/theirs) + "x"
		}
		want := p.targets[callers]
		cells = append(cells,
			faster("insert", ledger.inserted.perSecond(), p.inserted.perSecond(), want.insert),
			faster("work", ledger.worked.perSecond(), p.worked.perSecond(), want.work),
			faster("steps", ledger.perStep(), p.perStep(), want.steps),
			strings.Join(verdicts, ", "))
		t.row(cells...)
	}
}

// steps is the ledger, or its bare statements, as a queue. Each caller inserts for its own server, and each worker is
// the agent of one server.
type steps struct {
	lifecycle
	done func()
}

func (s steps) insert(ctx context.Context, caller int) error {
	_, err := s.create(ctx, serverOf(caller))
	return err
}

func (s steps) drain(ctx context.Context, workers int) (rate, error) {
	return concurrently(workers, func(worker int) (n int, err error) {
		for ; ; n++ {
			id, err := s.claim(ctx, serverOf(worker))
			if nothingLeft(err) {
				return n, nil
			}
			if err != nil {
				return n, err
			}
			if err := s.finish(ctx, serverOf(worker), id); err != nil {
				return n, err
			}
		}
	})
}

func (s steps) close() { s.done() }

func openLedgerQueue(ctx context.Context, c config, callers int) (queue, error) {
	path := c.path("peer-ledger")
	l, store, err := newLedger(ctx, path, callers, normal)
	return steps{byLedger{l}, func() { store.Close(); remove(path) }}, err
}

func openBareQueue(ctx context.Context, c config, callers int) (queue, error) {
	path := c.path("peer-bare")
	q, db, err := newBare(ctx, path, callers, normal)
	return steps{q, func() { db.Close(); remove(path) }}, err
}

func openLedgerPostgres(ctx context.Context, c config, callers int) (queue, error) {
	l, _, drop, err := newPostgresLedger(ctx, c, 16, callers, normal)
	return steps{byLedger{l}, drop}, err
}

func openBarePostgres(ctx context.Context, c config, callers int) (queue, error) {
	_, pool, drop, err := newPostgresLedger(ctx, c, 16, callers, normal)
	return steps{barePostgres{postgresdb.New(pool)}, drop}, err
}

// nothingLeft reports whether a claim failed because the queue is empty.
func nothingLeft(err error) bool {
	return errors.Is(err, remediation.ErrNothingToClaim) || isNoRows(err)
}
