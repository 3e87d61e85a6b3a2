package main

import (
	"context"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// scaleOp is a call of the ledger that scale measures. It is made calls times in each round.
type scaleOp struct {
	name  string
	calls int
	call  func(ctx context.Context, d *scaled) error
}

// scaleOps run in this order, because the later steps of the lifecycle need the actions of the earlier ones.
var scaleOps = []scaleOp{
	{"Create", 100, func(ctx context.Context, d *scaled) error {
		server := serverOf(2 * int(upTo(scaleServers/2-1)))
		_, err := byLedger{d.ledger}.create(ctx, server)
		d.queued = append(d.queued, server)
		return err
	}},
	{"Create in maintenance", 100, func(ctx context.Context, d *scaled) error {
		id, err := byLedger{d.ledger}.create(ctx, serverOf(2*int(upTo(scaleServers/2))-1))
		d.pending = append(d.pending, id)
		return err
	}},
	{"Approve", 100, func(ctx context.Context, d *scaled) error {
		return byLedger{d.ledger}.approve(ctx, pop(&d.pending))
	}},
	{"Claim", 100, func(ctx context.Context, d *scaled) error {
		server := pop(&d.queued)
		id, err := byLedger{d.ledger}.claim(ctx, server)
		d.executing = append(d.executing, executing{server, id})
		return err
	}},
	{"Finish", 100, func(ctx context.Context, d *scaled) error {
		e := pop(&d.executing)
		return byLedger{d.ledger}.finish(ctx, e.server, e.id)
	}},
	{"Get", 500, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.Get(ctx, upTo(d.rows))
		return err
	}},
	list("List", first, pageRows, func() remediation.Filter { return remediation.Filter{} }),
	list("List, deep", deep, pageRows, func() remediation.Filter { return remediation.Filter{} }),
	list("List by server", first, fewRows, byServer),
	list("List by server, deep", deep, fewRows, byServer),
	list("List by server and status", first, fewRows, byServerAndStatus),
	list("List by server and status, deep", deep, fewRows, byServerAndStatus),
	list("List by status, open", first, pageRows, byStatus(remediation.Pending)),
	list("List by status, failed", first, pageRows, byStatus(remediation.Failed)),
	list("List by status, failed, deep", deep, pageRows, byStatus(remediation.Failed)),
	list("List by type", first, pageRows, byType),
	list("List by type, deep", deep, pageRows, byType),
	list("List by alert", first, pageRows, nil),
	list("List by status and a rare type", first, fewRows, func() remediation.Filter {
		return remediation.Filter{Status: remediation.Completed, ActionType: "reboot"}
	}),
	{"Counts of the open statuses", 100, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.Counts(ctx, remediation.Pending, remediation.Approved, remediation.Executing)
		return err
	}},
	{"Explain", 200, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.Explain(ctx, upTo(d.rows))
		return err
	}},
	{"Events, 50", 200, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.Events(ctx, upTo(3*d.rows), 50)
		return err
	}},
	{"ClearOutput of 1,000", 1, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.ClearOutput(ctx, time.Now(), 1000)
		return err
	}},
	{"Prune of 1,000", 1, func(ctx context.Context, d *scaled) error {
		_, err := d.ledger.Prune(ctx, time.Now(), 1000)
		return err
	}},
}

// executing is an action that the agent of a server executes.
type executing struct {
	server string
	id     int64
}

const (
	first = false
	deep  = true

	pageRows = 50
	fewRows  = 4 // for a server or a rare type, so that even the shortest history fills a page
)

// list measures one page. Without a filter, the page is that of a random alert.
func list(name string, fromTheMiddle bool, limit int, filter func() remediation.Filter) scaleOp {
	return scaleOp{name, 100, func(ctx context.Context, d *scaled) error {
		var f remediation.Filter
		if filter != nil {
			f = filter()
		} else {
			alert := upTo(max(d.rows/100, 1))
			f.AlertID = &alert
		}
		f.Limit = limit
		if fromTheMiddle {
			f.Before = int64(d.rows) / 2
		}
		_, err := d.ledger.List(ctx, f)
		return err
	}}
}

func byServer() remediation.Filter {
	return remediation.Filter{ServerID: serverOf(int(upTo(scaleServers)) - 1)}
}

func byServerAndStatus() remediation.Filter {
	f := byServer()
	f.Status = remediation.Completed
	return f
}

func byStatus(s remediation.Status) func() remediation.Filter {
	return func() remediation.Filter { return remediation.Filter{Status: s} }
}

func byType() remediation.Filter { return remediation.Filter{ActionType: actionType} }

// pop removes the oldest item and returns it.
func pop[T any](queue *[]T) T {
	head := (*queue)[0]
	*queue = (*queue)[1:]
	return head
}
