package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// manyCallers lets callers share what a commit costs, and compares with one goroutine that has the driver to itself.
func manyCallers(ctx context.Context, c config) (*table, error) {
	t := &table{
		title: "SQLite: steps per second by number of callers",
		note: "A step is Create, Approve, Claim or Finish; each caller has a server of its own and calls the ledger one step at a " +
			"time. (a) is one goroutine on the bare prepared statements with a commit each, (b) the same in one transaction for the " +
			"whole turn, its commit included: what SQLite can do when durability costs nothing. The ratio is to (b).",
		header: []string{"callers", "ledger", "(a) bare, commit each", "(b) bare, one transaction", "ratio to (a)", "ratio to (b)", "target"},
	}
	for _, n := range c.callers {
		progress("ours: %d callers on SQLite", n)
		ledger, each, one, err := callersAgainstBare(ctx, c, n)
		if err != nil {
			return nil, err
		}
		x := ledger.perSecond() / one.perSecond()
		target := ""
		if n == 64 {
			target = atLeast(x, 0.8)
		}
		t.row(fmt.Sprint(n), perSecond(ledger.perSecond()), perSecond(each.perSecond()), perSecond(one.perSecond()),
			times(ledger.perSecond()/each.perSecond()), times(x), target)
	}
	return t, nil
}

// callersAgainstBare measures n callers of the ledger, a commit each, and one transaction, in turns on files of their own.
func callersAgainstBare(ctx context.Context, c config, n int) (ledger, each, one rate, err error) {
	paths := []string{c.path("callers-ledger"), c.path("callers-each"), c.path("callers-one")}
	defer remove(paths...)
	l, store, err := newLedger(ctx, paths[0], n, maintenance)
	if err != nil {
		return ledger, each, one, err
	}
	defer store.Close()
	eachBare, eachDB, err := newBare(ctx, paths[1], n, maintenance)
	if err != nil {
		return ledger, each, one, err
	}
	defer eachDB.Close()
	oneBare, oneDB, err := newBare(ctx, paths[2], n, maintenance)
	if err != nil {
		return ledger, each, one, err
	}
	defer oneDB.Close()

	slice := c.duration / rounds
	steps := func(l lifecycle, callers int) (rate, error) {
		return together(callers, func(caller int) (int, error) {
			ways, err := during(ctx, slice, func() error { return wholeWay(ctx, l, serverOf(caller)) })
			return ways * len(stepNames), err
		})
	}
	for range rounds {
		r, err := steps(byLedger{l}, n)
		if err != nil {
			return ledger, each, one, err
		}
		ledger.add(r)
		if r, err = steps(eachBare, 1); err != nil {
			return ledger, each, one, err
		}
		each.add(r)
		start := time.Now()
		tx, err := oneDB.BeginTx(ctx, nil)
		if err != nil {
			return ledger, each, one, err
		}
		r, err = steps(bareSQLite{oneBare.WithTx(tx)}, 1)
		if err = errors.Join(err, tx.Commit()); err != nil {
			return ledger, each, one, err
		}
		r.elapsed = time.Since(start)
		one.add(r)
	}
	return ledger, each, one, nil
}
