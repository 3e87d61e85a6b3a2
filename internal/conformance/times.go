package conformance

import (
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of how times are read from the clock, truncated to microseconds and stored.

func (l *ledger) TestTimesAreUTCInWholeMicroseconds(t *testing.T) {
	kathmandu := time.FixedZone("+0545", 5*3600+45*60)
	l.clock.now = time.Date(2026, 11, 24, 2, 15, 7, 123456789, kathmandu)
	for name, path := range map[string][]step{
		"completed": {approve, start, complete},
		"withdrawn": {approve, withdraw},
	} {
		want := l.mustCreate(t, newAction(paused))
		now := time.Date(2026, 11, 23, 20, 30, 7, 123456000, time.UTC)
		same(t, name+": created_at", want.CreatedAt, now)
		for _, s := range path {
			want = s.after(want, now)
			got, err := s.call(t.Context(), l.Ledger, paused, want.ID)
			if err != nil {
				t.Fatal(err)
			}
			same(t, name+": "+s.name, got, want)
		}
		same(t, name+": Get", l.mustGet(t, want.ID), want)
		listed, err := l.List(t.Context(), remediation.Filter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		want.Stdout, want.Stderr = nil, nil
		same(t, name+": List", listed, []remediation.Action{want})
	}
	auto := l.mustCreate(t, newAction(normal))
	same(t, "approved_at", auto.ApprovedAt, &auto.CreatedAt)
	l.mustPause(t, normal)

	const stored = " = '2026-11-23 20:30:07.123456+00:00'"
	for from, n := range map[string]int{
		"remediation_actions WHERE created_at" + stored:                   3,
		"remediation_actions WHERE approved_at" + stored:                  3,
		"remediation_actions WHERE rejected_at" + stored:                  1,
		"remediation_actions WHERE executed_at" + stored:                  1,
		"remediation_actions WHERE completed_at" + stored:                 1,
		"servers WHERE id = " + quote(normal) + " AND paused_at" + stored: 1,
	} {
		if got := l.count(t, from); got != n {
			t.Errorf("%s: %d rows, want %d", from, got, n)
		}
	}
}

// Programs in other languages sort and compare the stored times by SQL.
func (l *ledger) TestStoredTimesSortChronologically(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	created := map[time.Duration]int64{}
	for _, d := range []time.Duration{
		time.Second, time.Microsecond, 0, 100 * time.Millisecond, -time.Microsecond, 99 * time.Millisecond, -24 * time.Hour,
	} {
		l.clock.now = noon.Add(d)
		created[d] = l.mustCreate(t, newAction(normal)).ID
	}
	var want []int64
	for _, d := range []time.Duration{
		-24 * time.Hour, -time.Microsecond, 0, time.Microsecond, 99 * time.Millisecond, 100 * time.Millisecond, time.Second,
	} {
		want = append(want, created[d])
	}
	rows, err := l.db.Raw.QueryContext(t.Context(), "SELECT id FROM remediation_actions ORDER BY created_at")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	same(t, "ORDER BY created_at", got, want)
	if n := l.count(t, "remediation_actions WHERE created_at >= "+literal(noon)); n != 5 {
		t.Errorf("%d actions since noon, want 5", n)
	}
}

func (l *ledger) TestEachChangeReadsTheClockOnce(t *testing.T) {
	count := func(name string, want int, call func() error) {
		t.Helper()
		before := l.clock.readings
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := l.clock.readings - before; got != want {
			t.Errorf("%s read the clock %d times, want %d", name, got, want)
		}
	}
	for _, serverID := range []string{normal, paused} {
		count("Create", 1, func() error { _, err := l.Create(t.Context(), newAction(serverID)); return err })
	}
	count("Claim", 1, func() error { _, err := l.Claim(t.Context(), normal); return err })
	count("Pause", 1, func() error { return l.Pause(t.Context(), normal) })
	for _, s := range steps {
		a := l.actionIn(t, s.from)
		count(s.name, 1, func() error { _, err := s.call(t.Context(), l.Ledger, paused, a.ID); return err })
		count(s.name+", refused", 1, func() error {
			_, err := s.call(t.Context(), l.Ledger, paused, a.ID)
			refused(t, err, remediation.TransitionError{ID: a.ID, From: s.to, To: s.to})
			return nil
		})
		count("Get", 0, func() error { _, err := l.Get(t.Context(), a.ID); return err })
	}
	count("List", 0, func() error { _, err := l.List(t.Context(), remediation.Filter{}); return err })
}
