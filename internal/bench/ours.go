package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ours measures the ledger against the same statements on the bare driver: one caller, many callers, readers,
// bulk decisions and lists.
func ours(ctx context.Context, c config) (*report, error) {
	r := &report{}
	for _, m := range []struct {
		name    string
		measure func(context.Context, config) (*table, error)
	}{
		{"one", oneCallerSQLite},
		{"callers", manyCallers},
		{"readers", readers},
		{"many", approveMany},
		{"outputs", listOutputs},
		{"pg-one", oneCallerPostgres},
		{"pg-callers", pooledPostgres},
	} {
		if c.only != "" && c.only != m.name {
			continue
		}
		if c.postgresURL == "" && strings.HasPrefix(m.name, "pg-") {
			progress("%s is not measured: POSTGRES_URL is not set", m.name)
			continue
		}
		t, err := m.measure(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		r.add(t)
	}
	return r, nil
}

// stepNames are the steps of an action, in order.
var stepNames = [4]string{"Create", "Approve", "Claim", "Finish"}

// side is one side of a comparison, with the cost of each step.
type side struct {
	lifecycle
	took   [4]samples
	allocs [4]float64 // per call
}

// steps returns the four calls of one action.
func (s *side) steps(ctx context.Context) [4]func() error {
	var id int64
	server := serverOf(0)
	return [4]func() error{
		func() (err error) { id, err = s.create(ctx, server); return err },
		func() error { return s.approve(ctx, id) },
		func() (err error) { id, err = s.claim(ctx, server); return err },
		func() error { return s.finish(ctx, server, id) },
	}
}

// oneCaller measures both sides for d in total. The sides alternate with each call, and the side that begins alternates
// with each action, so that a busy machine slows both.
func oneCaller(ctx context.Context, d time.Duration, ledger, bare *side) error {
	first, second := ledger, bare
	action := func() error {
		first, second = second, first
		a, b := first.steps(ctx), second.steps(ctx)
		for i, name := range stepNames {
			if err := errors.Join(first.took[i].time(a[i]), second.took[i].time(b[i])); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
	for range 20 { // warm up: connections, prepared statements, caches
		if err := action(); err != nil {
			return err
		}
	}
	ledger.took, bare.took = [4]samples{}, [4]samples{}
	if _, err := during(ctx, d, action); err != nil {
		return err
	}
	return errors.Join(ledger.countAllocs(ctx), bare.countAllocs(ctx))
}

// countAllocs counts the allocations of each step. It is separate from the timing because the count stops the world.
func (s *side) countAllocs(ctx context.Context) error {
	const actions = 20
	for range actions {
		for i, step := range s.steps(ctx) {
			before := mallocs()
			if err := step(); err != nil {
				return err
			}
			s.allocs[i] += float64(mallocs()-before) / actions
		}
	}
	return nil
}

func oneCallerSQLite(ctx context.Context, c config) (*table, error) {
	progress("ours: one caller on SQLite")
	l, store, err := newLedger(ctx, c.path("one-ledger"), 1, maintenance)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	q, db, err := newBare(ctx, c.path("one-bare"), 1, maintenance)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	ledger, bare := &side{lifecycle: byLedger{l}}, &side{lifecycle: q}
	if err := oneCaller(ctx, 2*c.duration, ledger, bare); err != nil {
		return nil, err
	}
	return compareSides("SQLite: one caller, by the ledger and by the bare prepared statement", fmt.Sprintf(
		"Microseconds per call, each with its own commit. %d calls of each step and side; the sides alternate with each "+
			"call.", len(bare.took[0])), ledger, bare, func(ratio float64) string { return atMost(ratio, 1.10) }), nil
}

// compareSides returns a table of both sides. It includes the ratio of the tenth percentiles (p10), which other load on
// the machine affects least.
func compareSides(title, note string, ledger, bare *side, judge func(float64) string) *table {
	t := &table{title: title, note: note, header: []string{
		"step", "ledger median", "bare median", "ratio", "target", "ratio of p10",
		"ledger p99", "bare p99", "ledger allocs/op", "bare allocs/op",
	}}
	for i, name := range stepNames {
		l, b := ledger.took[i], bare.took[i]
		x := ratio(l.median(), b.median())
		t.row(name, micros(l.median()), micros(b.median()), times(x), judge(x),
			times(ratio(l.quantile(0.1), b.quantile(0.1))),
			micros(l.quantile(0.99)), micros(b.quantile(0.99)),
			fmt.Sprintf("%.0f", ledger.allocs[i]), fmt.Sprintf("%.0f", bare.allocs[i]))
	}
	return t
}

// approveMany compares one ApproveMany of 1,000 actions with 1,000 calls of Approve by one caller.
func approveMany(ctx context.Context, c config) (*table, error) {
	progress("ours: ApproveMany")
	const n = 1000
	l, store, err := newLedger(ctx, c.path("many"), 1, maintenance)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	pending := func() ([]int64, error) {
		var ids []int64
		for range n {
			id, err := byLedger{l}.create(ctx, serverOf(0))
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	var bulk, single samples
	for range rounds {
		a, err := pending()
		if err != nil {
			return nil, err
		}
		b, err := pending()
		if err != nil {
			return nil, err
		}
		err = bulk.time(func() error {
			outcomes, err := l.ApproveMany(ctx, a, person)
			for _, o := range outcomes {
				if err == nil {
					err = o.Err
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		err = single.time(func() error {
			for _, id := range b {
				if _, err := l.Approve(ctx, id, person); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	t := &table{
		title:  "SQLite: one ApproveMany of 1,000 against 1,000 Approve",
		note:   fmt.Sprintf("Milliseconds for all 1,000, median of %d.", rounds),
		header: []string{"", "ApproveMany", "Approve", "times faster", "target"},
	}
	x := ratio(single.median(), bulk.median())
	t.row("1,000 actions", millis(bulk.median()), millis(single.median()), times(x), atLeast(x, 10))
	return t, nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1e3) }
