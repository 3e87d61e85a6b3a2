package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// This file builds the long histories that scale measures, and times the migrations on them.

// scaled is a ledger with a long history, and what was measured on it.
type scaled struct {
	rows   int
	ledger *remediation.Ledger
	close  func()
	bytes  int64 // size of the database
	steps  []migrationTime

	pending   []int64            // actions for Approve, created in maintenance
	queued    []string           // servers with an approved action, for Claim
	executing []executing        // actions for Finish
	took      map[string]samples // by the name of the call
}

// migrationTime is the duration of one migration.
type migrationTime struct {
	file string
	took time.Duration
}

// scaleServers is the number of servers in each history.
const scaleServers = 1000

// builder builds a history by SQL, in the dialect of one engine.
type builder struct {
	files fs.FS
	exec  func(ctx context.Context, statement string) error
	// notDurable is SQL that turns durability off, to fill rows faster. durable turns it on again.
	notDurable, durable string
	// at returns SQL that converts Unix seconds to a time; text returns SQL for a text of that many characters.
	at, text func(expression string) string
}

// migrate runs the migrations of these versions, each in its own transaction, and returns how long each took.
func (b builder) migrate(ctx context.Context, from, to int) (steps []migrationTime, err error) {
	for version := from; version <= to; version++ {
		found, err := fs.Glob(b.files, fmt.Sprintf("%06d_*.up.sql", version))
		if err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("migration %d is in the files %q", version, found)
		}
		body, err := fs.ReadFile(b.files, found[0])
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if err := b.exec(ctx, "BEGIN;\n"+string(body)+"\nCOMMIT;"); err != nil {
			return nil, fmt.Errorf("%s: %w", found[0], err)
		}
		steps = append(steps, migrationTime{found[0], time.Since(start)})
	}
	return steps, nil
}

// newest returns the version of the last migration.
func (b builder) newest() (int, error) {
	found, err := fs.Glob(b.files, "*.up.sql")
	return len(found), err
}

// fill runs statements without durability. They are not timed.
func (b builder) fill(ctx context.Context, statements ...string) error {
	for _, statement := range slices.Concat([]string{b.notDurable}, statements, []string{b.durable}) {
		if err := b.exec(ctx, statement); err != nil {
			return err
		}
	}
	syscall.Sync() // otherwise the first timed commit would wait for these writes
	return nil
}

// series returns SQL for a table s with the numbers n from 1 to rows.
func series(rows int) string {
	return fmt.Sprintf("WITH RECURSIVE s(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM s WHERE n < %d)", rows)
}

func (b builder) servers(ctx context.Context) error {
	return b.fill(ctx, "INSERT INTO servers (id) "+series(scaleServers)+" SELECT 'server-' || (n - 1) FROM s")
}

// history fills alerts and actions at version 4, which has no triggers yet that would run for each row. The open
// actions are spread evenly. Of the others, 90% are completed, 7% failed and 3% rejected.
func (b builder) history(ctx context.Context, rows, open int) error {
	alerts := max(rows/100, 1)
	gap := max(rows/open, 1)
	sql := series(rows) + `, m AS (SELECT n, (n + n / 1000 * 37) % 100 AS mix FROM s), a AS (
		SELECT n, n * 7919 % {servers} AS server, 1735689600 + n * {year} / {rows} AS created,
			CASE
				WHEN n % {gap} = 0 THEN CASE n / {gap} % 3 WHEN 0 THEN 'pending' WHEN 1 THEN 'approved' ELSE 'executing' END
				WHEN mix < 3 THEN 'rejected'
				WHEN mix < 10 THEN 'failed'
				ELSE 'completed'
			END AS status,
			CASE WHEN n % 1000 = 501 THEN 'reboot' WHEN n % 3 = 0 THEN 'restart_service' ELSE 'apt_upgrade' END AS type,
			CASE WHEN n % 100 = 50 THEN 4096 WHEN n % 10 = 5 THEN 1024 ELSE 192 END AS size
		FROM m
	)
	SELECT 'server-' || server, type, status, CASE WHEN n % 3 = 0 THEN 'nginx' END, 'systemctl restart nginx.service', {created},
		'alice', CASE WHEN n % 10 = 0 THEN n / 10 % {alerts} + 1 END,
		CASE WHEN status NOT IN ('pending', 'rejected') THEN {created} END,
		CASE WHEN status NOT IN ('pending', 'rejected') THEN 'bob' END,
		CASE WHEN status = 'rejected' THEN {created} END,
		CASE WHEN status = 'rejected' THEN 'bob' END,
		CASE WHEN status = 'rejected' THEN 'not tonight' END,
		CASE WHEN status IN ('executing', 'completed', 'failed') THEN {executed} END,
		CASE WHEN status IN ('completed', 'failed') THEN {completed} END,
		CASE status WHEN 'completed' THEN 0 WHEN 'failed' THEN 1 END,
		CASE WHEN status IN ('completed', 'failed') THEN {text} END,
		CASE WHEN status IN ('completed', 'failed') THEN '' END
	FROM a`
	sql = strings.NewReplacer(
		"{rows}", fmt.Sprint(rows), "{gap}", fmt.Sprint(gap), "{alerts}", fmt.Sprint(alerts), "{year}", "31000000",
		"{servers}", fmt.Sprint(scaleServers), "{created}", b.at("created"), "{executed}", b.at("created + 1"),
		"{completed}", b.at("created + 5"), "{text}", b.text("size"),
	).Replace(sql)
	return b.fill(ctx,
		"INSERT INTO alerts (server_id, title) "+series(alerts)+" SELECT 'server-' || (n % 1000), 'disk full' FROM s",
		`INSERT INTO remediation_actions (server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
			approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code, stdout, stderr) `+sql)
}

// seed fills the table of version 2, which is that of the Python original.
func (b builder) seed(ctx context.Context, rows int) error {
	return b.fill(ctx, `INSERT INTO remediation_actions (server_id, action_type, status, command, created_at, created_by) `+series(rows)+
		` SELECT 'server-' || (n % 1000), 'restart_service', 'completed', 'systemctl restart nginx.service', `+b.at("1735689600 + n")+`, 'alice' FROM s`)
}

// events inserts the events that the triggers would have inserted.
func (b builder) events(ctx context.Context) error {
	var statements []string
	for _, query := range []string{
		"SELECT id, server_id, 'created', created_by, created_at, command FROM remediation_actions",
		"SELECT id, server_id, 'approved', approved_by, approved_at, NULL FROM remediation_actions WHERE approved_at IS NOT NULL",
		"SELECT id, server_id, 'rejected', rejected_by, rejected_at, rejection_reason FROM remediation_actions WHERE rejected_at IS NOT NULL",
		"SELECT id, server_id, 'executing', server_id, executed_at, NULL FROM remediation_actions WHERE executed_at IS NOT NULL",
		"SELECT id, server_id, status, server_id, completed_at, CAST(exit_code AS TEXT) FROM remediation_actions WHERE completed_at IS NOT NULL",
	} {
		statements = append(statements,
			"INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail) "+query+" ORDER BY id")
	}
	return b.fill(ctx, statements...)
}

// timeSeed times migrations 3 and 4 on a table of version 2 that is full.
func (b builder) timeSeed(ctx context.Context, rows int) ([]migrationTime, error) {
	if _, err := b.migrate(ctx, 1, 2); err != nil {
		return nil, err
	}
	if err := b.servers(ctx); err != nil {
		return nil, err
	}
	if err := b.seed(ctx, rows); err != nil {
		return nil, err
	}
	return b.migrate(ctx, 3, 4)
}

// build fills the history at version 4, and times the migrations from there to the newest version.
func (b builder) build(ctx context.Context, rows, open int) ([]migrationTime, error) {
	newest, err := b.newest()
	if err != nil {
		return nil, err
	}
	if _, err := b.migrate(ctx, 1, 4); err != nil {
		return nil, err
	}
	if err := b.servers(ctx); err != nil {
		return nil, err
	}
	if err := b.history(ctx, rows, open); err != nil {
		return nil, err
	}
	return b.migrate(ctx, 5, newest)
}
