package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// The rules that the database enforces on actions, tested with raw SQL, which other programs may run.

func (l *ledger) TestAC1_DatabaseAllowsTheSameTransitionsAsCanTransition(t *testing.T) {
	for _, from := range remediation.Statuses() {
		for _, to := range remediation.Statuses() {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				before, want := l.store(t, example(from)), example(to)
				if from == remediation.Approved && to == remediation.Rejected {
					want = withdrawn()
				}
				if !from.CanTransition(to) {
					l.wontUpdate(t, before, rowOf(want).set(append(audit, "status")...))
					l.wontUpdate(t, before, rowOf(want).set("status"))
					return
				}
				want.ID = before.ID
				if err := l.update(t, before.ID, rowOf(want).set(append(audit, "status")...)); err != nil {
					t.Fatal(err)
				}
				same(t, "the row", l.mustGet(t, before.ID), want)
			})
		}
	}
}

func (l *ledger) TestAC1_DatabaseRefusesUnknownStatuses(t *testing.T) {
	for _, bad := range []string{"", " ", "paused", "Pending", "PENDING", "pending ", "done", "timed_out"} {
		for _, a := range examples() {
			r := rowOf(a)
			r["status"] = quote(bad)
			if _, err := l.insert(t, r); err == nil {
				t.Errorf("a row of status %q with the fields of %s was accepted", bad, a.Status)
			}
			l.wontUpdate(t, l.store(t, a), r.set("status"))
		}
	}
	r := rowOf(example(remediation.Pending))
	r["status"] = "NULL"
	if _, err := l.insert(t, r); err == nil {
		t.Error("a row without a status was accepted")
	}
}

// sample is a valid value for each audit field.
var sample = row{
	"approved_at": literal(at(1)), "approved_by": "'bob'",
	"rejected_at": literal(at(1)), "rejected_by": "'carol'", "rejection_reason": "'no'",
	"executed_at": literal(at(2)), "completed_at": literal(at(3)), "exit_code": "0", "stdout": "'out'", "stderr": "''",
}

// optional is the audit fields that may be NULL or filled in a status.
var optional = map[remediation.Status][]string{
	remediation.Completed: {"stdout", "stderr"},
	remediation.Failed:    {"stdout", "stderr", "exit_code"}, // an agent that died gave no exit code
}

// toggled returns a copy of the row in which a NULL column is filled, or a filled column is NULL.
func (r row) toggled(column string) row {
	r = maps.Clone(r)
	if r[column] == "NULL" {
		r[column] = sample[column]
	} else {
		r[column] = "NULL"
	}
	return r
}

func (l *ledger) TestDatabaseAcceptsOnlyRowsThatFitTheirStatus(t *testing.T) {
	for _, a := range append(examples(), withdrawn()) {
		stored := l.store(t, a)
		same(t, "the row", l.mustGet(t, stored.ID), stored)
		for _, c := range audit {
			_, err := l.insert(t, rowOf(a).toggled(c))
			if accepted := err == nil; accepted != slices.Contains(optional[a.Status], c) {
				t.Errorf("%s with %s = %s: %v", a.Status, c, rowOf(a).toggled(c)[c], err)
			}
		}
	}
	for status, columns := range map[remediation.Status][]string{
		remediation.Rejected:  {"approved_at", "approved_by"},
		remediation.Completed: {"stdout", "stderr"},
		remediation.Failed:    {"exit_code", "stdout", "stderr"},
	} {
		r := rowOf(example(status))
		for _, c := range columns {
			r = r.toggled(c)
		}
		if _, err := l.insert(t, r); err != nil {
			t.Errorf("%s with %v toggled together: %v", status, columns, err)
		}
	}
}

// transition is one allowed change of status. fills is the audit columns that it changes.
type transition struct {
	from, to remediation.Action
	fills    []string
}

func transitions() []transition {
	list := []transition{
		{from: example(remediation.Pending), to: example(remediation.Approved)},
		{from: example(remediation.Pending), to: example(remediation.Rejected)},
		{from: example(remediation.Approved), to: example(remediation.Executing)},
		{from: example(remediation.Approved), to: withdrawn()},
		{from: example(remediation.Executing), to: example(remediation.Completed)},
		{from: example(remediation.Executing), to: example(remediation.Failed)},
	}
	for i, tr := range list {
		for _, c := range audit {
			if rowOf(tr.from)[c] != rowOf(tr.to)[c] {
				list[i].fills = append(list[i].fills, c)
			}
		}
	}
	return list
}

// set is the SET list of the UPDATE that makes the transition.
func (tr transition) set() string { return rowOf(tr.to).set(append(tr.fills, "status")...) }

func (l *ledger) TestDatabaseAcceptsOnlyUpdatesThatFitTheNewStatus(t *testing.T) {
	for _, tr := range transitions() {
		want := tr.to
		want.ID = l.store(t, tr.from).ID
		if err := l.update(t, want.ID, tr.set()); err != nil {
			t.Fatal(err)
		}
		same(t, "the row", l.mustGet(t, want.ID), want)
		for _, c := range audit {
			before := l.store(t, tr.from)
			set := rowOf(tr.to).toggled(c).set(append(audit, "status")...)
			if !slices.Contains(optional[tr.to.Status], c) {
				l.wontUpdate(t, before, set)
			} else if err := l.update(t, before.ID, set); err != nil {
				t.Errorf("%s: %s: %v", tr.from.Status, set, err)
			}
		}
	}
}

func (l *ledger) TestAC6_DatabaseRefusesAnExitCodeThatContradictsTheStatus(t *testing.T) {
	for status, codes := range map[remediation.Status]map[int]bool{
		remediation.Completed: {0: true, 1: false, -1: false},
		remediation.Failed:    {0: false, 1: true, -1: true},
	} {
		for code, fits := range codes {
			r := rowOf(example(status))
			r["exit_code"] = fmt.Sprint(code)
			if _, err := l.insert(t, r); (err == nil) != fits {
				t.Errorf("a row that is %s with exit code %d: %v", status, code, err)
			}
			before := l.store(t, example(remediation.Executing))
			set := r.set("status", "completed_at", "exit_code")
			if !fits {
				l.wontUpdate(t, before, set)
			} else if err := l.update(t, before.ID, set); err != nil {
				t.Error(err)
			}
		}
	}
}

func (l *ledger) TestDatabaseRefusesAnEmptyActorOrReason(t *testing.T) {
	names := []string{"approved_by", "rejected_by", "rejection_reason"}
	for _, a := range append(examples(), withdrawn()) {
		for _, c := range names {
			r := rowOf(a)
			if r[c] == "NULL" || a.Status == remediation.Rejected && c == "approved_by" {
				continue
			}
			r[c] = "''"
			if _, err := l.insert(t, r); err == nil {
				t.Errorf("%s with an empty %s was accepted", a.Status, c)
			}
		}
	}
	for _, tr := range transitions() {
		for _, c := range tr.fills {
			if slices.Contains(names, c) {
				r := rowOf(tr.to)
				r[c] = "''"
				l.wontUpdate(t, l.store(t, tr.from), r.set(append(tr.fills, "status")...))
			}
		}
	}
}

// The database refuses a time that can't be read again, such as the output of Go's time.Time.String.
func (l *ledger) TestDatabaseRefusesTimesThatCannotBeRead(t *testing.T) {
	isTime := func(column string) bool { return strings.HasSuffix(column, "_at") }
	for _, bad := range []string{"soon", "", "13:17:09", "2461368.5", "2026-11-23 13:17:09.047807379 +0000 UTC m=+0.002"} {
		for _, a := range append(examples(), withdrawn()) {
			for c := range rowOf(a) {
				r := rowOf(a)
				if !isTime(c) || r[c] == "NULL" {
					continue
				}
				r[c] = quote(bad)
				if _, err := l.insert(t, r); err == nil {
					t.Errorf("%s with %s = %q was accepted", a.Status, c, bad)
				}
			}
		}
		for _, tr := range transitions() {
			from := l.store(t, tr.from)
			for _, c := range tr.fills {
				if !isTime(c) {
					continue
				}
				// l.update does not work here: PostgreSQL refuses the literal even if the UPDATE matches no row.
				r := rowOf(tr.to)
				r[c] = quote(bad)
				query := "UPDATE remediation_actions SET " + r.set(append(tr.fills, "status")...) + " WHERE id = " + number(from.ID)
				if _, err := l.db.Raw.ExecContext(t.Context(), query); err == nil {
					t.Errorf("%s was accepted", query)
				}
				same(t, "after "+query, l.mustGet(t, from.ID), from)
			}
		}
	}
}
