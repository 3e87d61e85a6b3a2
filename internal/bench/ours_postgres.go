package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/homelab-cmd/actionledger/db/postgresdb"
)

// oneCallerPostgres compares one caller of a PostgreSQL ledger with one caller of the generated statements. Each has
// its own database.
func oneCallerPostgres(ctx context.Context, c config) (*table, error) {
	progress("ours: one caller on PostgreSQL")
	ledger, bare, drop, err := postgresSides(ctx, c, 2, 1)
	if err != nil {
		return nil, err
	}
	defer drop()
	l, b := &side{lifecycle: ledger}, &side{lifecycle: bare}
	if err := oneCaller(ctx, 2*c.duration, l, b); err != nil {
		return nil, err
	}
	return compareSides("PostgreSQL: one caller, by the ledger and by bare pgx", fmt.Sprintf(
		"Microseconds per call, each with its own commit. %d calls of each step and side; the sides alternate with "+
			"each call. The target is 0.95 of the bare speed, so at most 1.05 times its time.", len(b.took[0])),
		l, b, func(ratio float64) string { return atMost(ratio, 1/0.95) }), nil
}

// pooledPostgres compares 64 callers of the ledger with 64 callers of the bare statements. Each side has a pool of 16
// connections.
func pooledPostgres(ctx context.Context, c config) (*table, error) {
	progress("ours: 64 callers on PostgreSQL")
	const callers = 64
	ledger, bare, drop, err := postgresSides(ctx, c, 16, callers)
	if err != nil {
		return nil, err
	}
	defer drop()
	sides := []struct {
		lifecycle
		took [4]samples
		rate rate
	}{{lifecycle: ledger}, {lifecycle: bare}}
	for range 2 * rounds {
		for s := range sides {
			var mu sync.Mutex
			r, err := concurrently(callers, func(caller int) (int, error) {
				var took [4]samples
				actions, err := during(ctx, c.duration/rounds/2, func() error {
					return timeAction(ctx, sides[s].lifecycle, serverOf(caller), &took)
				})
				mu.Lock()
				defer mu.Unlock()
				for i := range took {
					sides[s].took[i] = append(sides[s].took[i], took[i]...)
				}
				return actions * len(stepNames), err
			})
			if err != nil {
				return nil, err
			}
			sides[s].rate.add(r)
		}
	}
	t := &table{
		title: "PostgreSQL: 64 callers on a pool of 16, by the ledger and by bare pgx",
		note: "Steps per second of all callers, and the median of each step in microseconds, with the wait for a " +
			"connection. The speed is the ledger's speed as a multiple of the bare speed.",
		header: []string{"", "ledger", "bare", "speed", "target"},
	}
	l, b := &sides[0], &sides[1]
	x := l.rate.perSecond() / b.rate.perSecond()
	t.row("steps per second", perSecond(l.rate.perSecond()), perSecond(b.rate.perSecond()), times(x), atLeast(x, 0.95))
	for i, name := range stepNames {
		x := ratio(b.took[i].median(), l.took[i].median())
		t.row(name, micros(l.took[i].median()), micros(b.took[i].median()), times(x), atLeast(x, 0.95))
	}
	return t, nil
}

// postgresSides creates two databases: one for the ledger, one for the generated statements. drop drops both.
func postgresSides(
	ctx context.Context, c config, connections, servers int,
) (ledger, bare lifecycle, drop func(), err error) {
	l, _, dropLedger, err := newPostgresLedger(ctx, c, connections, servers, maintenance)
	if err != nil {
		return nil, nil, nil, err
	}
	_, pool, dropBare, err := newPostgresLedger(ctx, c, connections, servers, maintenance)
	if err != nil {
		dropLedger()
		return nil, nil, nil, err
	}
	return byLedger{l}, barePostgres{postgresdb.New(pool)}, func() { dropLedger(); dropBare() }, nil
}

// timeAction takes one action through all four steps, and appends to took how long each step took.
func timeAction(ctx context.Context, l lifecycle, server string, took *[4]samples) error {
	var id int64
	steps := [4]func() error{
		func() (err error) { id, err = l.create(ctx, server); return err },
		func() error { return l.approve(ctx, id) },
		func() (err error) { id, err = l.claim(ctx, server); return err },
		func() error { return l.finish(ctx, server, id) },
	}
	for i, step := range steps {
		if err := took[i].time(step); err != nil {
			return err
		}
	}
	return nil
}
