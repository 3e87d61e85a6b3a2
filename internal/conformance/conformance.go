// Package conformance is what every engine of the ledger must do, as tests: the acceptance criteria AC1 to AC7 of the
// specification (a test that proves one begins with its name) and the contract around them. An engine's own test opens
// databases and hands them to Run.
//
// All SQL in here is text that every engine runs unchanged.
package conformance

import (
	"database/sql"
	"slices"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Database is one fresh, migrated database of an engine under test. Whoever opens it also closes it, by t.Cleanup.
type Database struct {
	Store   remediation.Store                    // as a program opens it
	Raw     *sql.DB                              // a person at a shell: another connection, foreign keys on
	Begin   func(t *testing.T) Tx                // a transaction of the caller's own
	Another func(t *testing.T) remediation.Store // an independent store on the same database, as another process would open it
}

// Tx is a caller's transaction and the store that joins it.
type Tx struct {
	Store            remediation.Store
	Commit, Rollback func() error
}

// Run proves every behaviour on a database of its own, which open makes.
func Run(t *testing.T, open func(t *testing.T) Database) {
	for _, b := range slices.Concat(lifecycle, results, alerts, claims, errs, input, text, times, lists, transactions,
		races, rules, immutability, dedupe, bulk, overdue, explain, events, retention, counts) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.check(t, newLedger(t, open(t)))
		})
	}
}

// behaviour is one thing that the ledger must do.
type behaviour struct {
	name  string
	check func(t *testing.T, l *ledger)
}
