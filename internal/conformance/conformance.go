// Package conformance is what every engine of the ledger must do, as tests: the acceptance criteria AC1 to AC7 of the
// specification (a test that proves one begins with its name) and the contract around them. An engine's own test opens
// databases and hands them to Run.
//
// All SQL in here is text that every engine runs unchanged.
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

// Database is one fresh, migrated database of an engine under test. Whoever opens it also closes it, by t.Cleanup.
type Database struct {
	Store   remediation.Store                    // as a program opens it
	Raw     *sql.DB                              // a person at a shell: another connection, foreign keys on
	Begin   func(t *testing.T) Tx                // a transaction of the caller's own
	Another func(t *testing.T) remediation.Store // an independent store on the same database, as another process would open it

	Untyped bool // a column takes a value of any type, unless a rule refuses it

	// BeforeRules runs write while actions and servers have no triggers, as a program older than the rules wrote.
	BeforeRules func(t *testing.T, write func())
}

// Tx is a caller's transaction and the store that joins it.
type Tx struct {
	Store            remediation.Store
	Commit, Rollback func() error
}

// Run runs every test, each on a database of its own, which open makes. The tests are the methods of ledger whose names
// begin with Test.
func Run(t *testing.T, open func(t *testing.T) Database) {
	var done tally
	t.Cleanup(func() { t.Logf("recorded by the databases: %s", &done) })
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

// tally counts what the databases recorded, for those who want to know how much was tried.
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

// rounds is how often a race is run: less with -short, which the race detector runs with.
func rounds(n int) int {
	if testing.Short() {
		return max(1, n/5)
	}
	return n
}
