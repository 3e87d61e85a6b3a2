package remediation_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// The statuses and the transitions that the lifecycle allows.
func TestAC1_StatusesAreTheSixInLifecycleOrder(t *testing.T) {
	want := []remediation.Status{"pending", "approved", "rejected", "executing", "completed", "failed"}
	if diff := cmp.Diff(want, remediation.Statuses()); diff != "" {
		t.Errorf("Statuses (-want +got):\n%s", diff)
	}
	named := []remediation.Status{remediation.Pending, remediation.Approved, remediation.Rejected, remediation.Executing,
		remediation.Completed, remediation.Failed}
	if diff := cmp.Diff(want, named); diff != "" {
		t.Errorf("the constants (-want +got):\n%s", diff)
	}
	remediation.Statuses()[0] = "changed by a caller"
	if diff := cmp.Diff(want, remediation.Statuses()); diff != "" {
		t.Errorf("Statuses after a caller changed its copy (-want +got):\n%s", diff)
	}
}

func TestOnlyTheSixStatusesAreValid(t *testing.T) {
	for _, s := range remediation.Statuses() {
		if !s.Valid() {
			t.Errorf("%q is not valid", s)
		}
	}
	for _, s := range []remediation.Status{"", " ", "Pending", "pending ", "paused", "withdrawn", "auto"} {
		if s.Valid() {
			t.Errorf("%q is valid", s)
		}
	}
}

// A program that waits until an action is terminal must not wait for ever for one that the Python original timed out.
func TestTimedOutIsTerminalAndNotValid(t *testing.T) {
	timedOut := remediation.Status("timed_out")
	if !timedOut.Terminal() || timedOut.Valid() {
		t.Errorf("timed_out: Terminal is %t, want true; Valid is %t, want false", timedOut.Terminal(), timedOut.Valid())
	}
	for _, s := range remediation.Statuses() {
		if s.CanTransition(timedOut) || timedOut.CanTransition(s) {
			t.Errorf("the lifecycle allows a transition between %s and %s", s, timedOut)
		}
	}
}

// This is the whole lifecycle. internal/conformance compares every engine with CanTransition.
func TestAC1_AC4_CanTransitionIsTheLifecycle(t *testing.T) {
	next := map[remediation.Status][]remediation.Status{
		remediation.Pending:   {remediation.Approved, remediation.Rejected},
		remediation.Approved:  {remediation.Rejected, remediation.Executing},
		remediation.Executing: {remediation.Completed, remediation.Failed},
	}
	for _, from := range remediation.Statuses() {
		var got []remediation.Status
		for _, to := range remediation.Statuses() {
			if from.CanTransition(to) {
				got = append(got, to)
			}
		}
		if diff := cmp.Diff(next[from], got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", from, diff)
		}
		if from.Terminal() != (len(got) == 0) {
			t.Errorf("%s: Terminal is %t, but its next statuses are %v", from, from.Terminal(), got)
		}
		for _, unknown := range []remediation.Status{"", "paused", "Approved"} {
			if from.CanTransition(unknown) || unknown.CanTransition(from) || unknown.Terminal() {
				t.Errorf("the unknown status %q is part of the lifecycle", unknown)
			}
		}
	}
}
