// Package conformance is the test suite that every engine of the ledger must pass. It covers the acceptance criteria
// AC1 to AC7 of the specification and the contract around them. A test of a criterion has the criterion's name as its
// prefix. An engine's own test calls Run with a function that opens a database.
//
// Every engine runs the SQL of this package unchanged.
package conformance

import (
	"database/sql"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Database is one fresh, migrated database of an engine under test. The function that opens it closes it with
// t.Cleanup.
type Database struct {
	Store   remediation.Store                    // opened as a program opens it
	Raw     *sql.DB                              // a separate connection, as a database shell has it, with foreign keys on
	Begin   func(t *testing.T) Tx                // begins a transaction of the caller
	Another func(t *testing.T) remediation.Store // opens an independent store on the database, as another process does

	Untyped bool // columns accept values of any type unless a constraint or trigger refuses them

	// BeforeRules runs write while the tables of actions and servers have no triggers. It makes rows that predate the
	// rules.
	BeforeRules func(t *testing.T, write func())
}

// Tx is a caller's transaction and the store that works in it.
type Tx struct {
	Store            remediation.Store
	Commit, Rollback func() error
}

// Run runs every test in parallel, each on its own database from open. The tests are the methods of ledger whose names
// begin with Test.
func Run(t *testing.T, open func(t *testing.T) Database) {
	var done tally
	t.Cleanup(func() { t.Logf("events by kind: %s", &done) })
	for method := range reflect.TypeFor[*ledger]().Methods() {
		name, isTest := strings.CutPrefix(method.Name, "Test")
		if !isTest {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, open(t))
			method.Func.Interface().(func(*ledger, *testing.T))(l, t)
			done.add(t, l)
		})
	}
}

// tally counts the events of all databases by kind. Run logs it to show how much the suite did.
type tally struct {
	mu    sync.Mutex
	kinds map[string]int
}

func (c *tally) add(t *testing.T, l *ledger) {
	rows, err := l.db.Raw.QueryContext(t.Context(), "SELECT kind, count(*) FROM remediation_events GROUP BY kind")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for rows.Next() {
		var kind string
		var n int
		if err := rows.Scan(&kind, &n); err != nil {
			t.Fatal(err)
		}
		if c.kinds == nil {
			c.kinds = map[string]int{}
		}
		c.kinds[kind] += n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func (c *tally) String() string { return fmt.Sprint(c.kinds) }

// rounds returns how often a test repeats a race: n times, or a fifth of n with -short. `make race` uses -short.
func rounds(n int) int {
	if testing.Short() {
		return max(1, n/5)
	}
	return n
}
