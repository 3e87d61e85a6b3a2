package conformance

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Every method with a limit parameter has the same default and the same maximum.
func (l *ledger) TestLimitIs50ByDefaultAnd1000AtMostInEveryMethod(t *testing.T) {
	ended, overdue := endedAt(remediation.Completed, at(4)), example(remediation.Executing)
	for _, a := range []remediation.Action{ended, overdue} {
		l.fill(t, slices.Repeat([]remediation.Action{a}, 1051)...)
	}
	l.clock.now = at(59)
	size := func(actions []remediation.Action, err error) (int, error) { return len(actions), err }
	for _, method := range []struct {
		name string
		call func(limit int) (int, error)
	}{
		{"List", func(limit int) (int, error) { return size(l.List(t.Context(), remediation.Filter{Limit: limit})) }},
		{"Events", func(limit int) (int, error) {
			events, err := l.Events(t.Context(), 0, limit)
			return len(events), err
		}},
		{"FailOverdue", func(limit int) (int, error) { return size(l.FailOverdue(t.Context(), time.Minute, limit)) }},
		{"ClearOutput", func(limit int) (int, error) {
			n, err := l.ClearOutput(t.Context(), at(50), limit)
			return int(n), err
		}},
		{"Prune", func(limit int) (int, error) {
			n, err := l.Prune(t.Context(), at(50), limit)
			return int(n), err
		}},
	} {
		for _, limit := range []int{-1, math.MinInt, 1001, math.MaxInt} {
			n, err := method.call(limit)
			badInput(t, err, "limit")
			same(t, method.name+" with a bad limit", n, 0)
		}
		for _, limit := range []int{0, 1, 1000} { // together these process all 1051 rows
			n, err := method.call(limit)
			if err != nil {
				t.Fatal(err)
			}
			same(t, method.name, n, map[int]int{0: 50, 1: 1, 1000: 1000}[limit])
		}
	}
}
