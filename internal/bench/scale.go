package main

import (
	"context"
	"fmt"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// scale measures how the time of each call and of each migration grows with the history.
func scale(ctx context.Context, c config) (*report, error) {
	if c.engine != "sqlite" && c.engine != "postgres" {
		return nil, fmt.Errorf("there is no engine %q", c.engine)
	}
	var all []*scaled
	defer func() {
		for _, d := range all {
			d.close()
		}
	}()
	for _, rows := range c.rows {
		progress("scale: build %d actions in %s", rows, c.engine)
		start := time.Now()
		d, err := c.build(ctx, rows)
		if err != nil {
			return nil, fmt.Errorf("build %d actions: %w", rows, err)
		}
		all = append(all, d)
		progress("scale: %d actions, %d MB, in %.0f s", rows, d.bytes/1e6, time.Since(start).Seconds())
		if err := pauseOdd(ctx, d.ledger); err != nil {
			return nil, err
		}
	}
	for _, o := range scaleOps {
		progress("scale: %s", o.name)
		for round := -1; round < rounds; round++ { // round -1 fills the caches and is not measured
			for _, d := range all {
				if err := o.run(ctx, d, round >= 0); err != nil {
					return nil, fmt.Errorf("%s on %d actions: %w", o.name, d.rows, err)
				}
			}
		}
	}
	return &report{tables: []*table{callTable(c, all), migrationTable(c, all)}}, nil
}

func (c config) build(ctx context.Context, rows int) (*scaled, error) {
	if c.engine == "postgres" {
		return postgresScaled(ctx, c, rows, c.open)
	}
	return buildSQLite(ctx, c.path(fmt.Sprintf("scale-%d", rows)), rows, c.open)
}

// pauseOdd puts every second server into maintenance, so that there are actions to approve.
func pauseOdd(ctx context.Context, l *remediation.Ledger) error {
	for i := 1; i < scaleServers; i += 2 {
		if err := l.Pause(ctx, serverOf(i)); err != nil {
			return err
		}
	}
	return nil
}

// run makes the calls of one round.
func (o scaleOp) run(ctx context.Context, d *scaled, measured bool) error {
	var took samples
	for range o.calls {
		if err := took.time(func() error { return o.call(ctx, d) }); err != nil {
			return err
		}
	}
	if measured {
		d.took[o.name] = append(d.took[o.name], took...)
	}
	return nil
}

func callTable(c config, all []*scaled) *table {
	first, last := all[0], all[len(all)-1]
	t := &table{
		title: fmt.Sprintf("%s: the cost of each call by the length of the history", engineName(c)),
		note: fmt.Sprintf("Median (p99) in microseconds, for one caller at random places of the history. There are %d "+
			"servers. Every history has %d open actions and the others are terminal, so only the history grows. A page "+
			"has 50 actions; by server or rare type it has 4, and by alert about 10. \"Deep\" pages begin in the middle "+
			"of the history. Growth is the median (p99) on the longest history divided by that on the shortest; the "+
			"target is 1.5 for the median. The p99 of a write is that of the disk's fsync.", scaleServers, c.open),
		header: []string{"call"},
	}
	for _, d := range all {
		t.header = append(t.header, fmt.Sprintf("%s actions, %d MB", thousands(float64(d.rows)), d.bytes/1e6))
	}
	t.header = append(t.header, "growth", "target")
	for _, o := range scaleOps {
		cells := []string{o.name}
		for _, d := range all {
			s := d.took[o.name]
			cells = append(cells, fmt.Sprintf("%s (%s)", micros(s.median()), micros(s.quantile(0.99))))
		}
		x := ratio(last.took[o.name].median(), first.took[o.name].median())
		tail := ratio(last.took[o.name].quantile(0.99), first.took[o.name].quantile(0.99))
		t.row(append(cells, fmt.Sprintf("%s (%s)", times(x), times(tail)), atMost(x, 1.5))...)
	}
	return t
}

func migrationTable(c config, all []*scaled) *table {
	t := &table{
		title: fmt.Sprintf("%s: each migration by the length of the history", engineName(c)),
		note: "Milliseconds, each file in its own transaction, with its commit. 000003 and 000004 run on the table " +
			"of version 2, the later ones on rows with audit fields. Migrate runs all pending migrations in one " +
			"transaction, so other writers wait for the sum.",
		header: []string{"migration"},
	}
	for _, d := range all {
		t.header = append(t.header, thousands(float64(d.rows))+" actions")
	}
	for i, step := range all[0].steps {
		cells := []string{step.file}
		for _, d := range all {
			cells = append(cells, millis(d.steps[i].took))
		}
		t.row(cells...)
	}
	return t
}

func engineName(c config) string {
	if c.engine == "postgres" {
		return "PostgreSQL"
	}
	return "SQLite"
}
