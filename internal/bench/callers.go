package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// manyCallers measures concurrent callers of an SQLite ledger, which share commits, against one goroutine on the bare
// driver.
func manyCallers(ctx context.Context, c config) (*table, error) {
	t := &table{
		title: "SQLite: steps per second by number of callers",
		note: "A step is Create, Approve, Claim or Finish. Each caller has its own server and calls the ledger one " +
			"step at a time. (a) is one goroutine on the bare prepared statements, with a commit for each. (b) is " +
			"the same with one commit for each round: what SQLite can do when durability costs nothing. The target " +
			"is for the ratio to (b).",
		header: []string{
			"callers", "ledger", "(a) bare, commit each", "(b) bare, one transaction",
			"ratio to (a)", "ratio to (b)", "target",
		},
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

// callersAgainstBare alternates between n callers of the ledger, one goroutine with a commit for each statement, and
// one goroutine with one transaction for each round. Each has its own file.
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
		return concurrently(callers, func(caller int) (int, error) {
			actions, err := during(ctx, slice, func() error { return runAction(ctx, l, serverOf(caller)) })
			return actions * len(stepNames), err
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
