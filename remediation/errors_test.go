package remediation_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// sentinels are all errors that errors.Is is for.
var sentinels = []error{remediation.ErrNotFound, remediation.ErrServerNotFound, remediation.ErrAlertNotFound,
	remediation.ErrNothingToClaim, remediation.ErrInvalidTransition, remediation.ErrInvalidInput, remediation.ErrSchemaVersion}

// onlyMatches checks that err matches the sentinel want and no other sentinel.
func onlyMatches(t *testing.T, err, want error) {
	t.Helper()
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) != (sentinel == want) {
			t.Errorf("%v: errors.Is with %q is %t", err, sentinel, sentinel != want)
		}
	}
}

func TestSentinelsMatchOnlyThemselves(t *testing.T) {
	for _, sentinel := range sentinels {
		onlyMatches(t, fmt.Errorf("approve action 7: %w", sentinel), sentinel)
	}
}

func TestTransitionErrorSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  remediation.TransitionError
		want string
	}{
		{remediation.TransitionError{ID: 7, From: remediation.Rejected, To: remediation.Approved},
			"action 7 is rejected and can't become approved"},
		{remediation.TransitionError{ID: 7, From: remediation.Completed, To: remediation.Failed},
			"action 7 is completed and can't become failed"},
		{remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Executing},
			"action 7 is approved and not executing yet"},
		{remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonExpired},
			"action 7 has expired"},
		{remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonNotYetDue},
			"action 7 is not due yet"},
		{remediation.TransitionError{ID: 7, From: remediation.Pending, To: remediation.Approved, Why: remediation.ReasonSelfApproval},
			"action 7 can't be approved by the one who created it: its server forbids that"},
		{remediation.TransitionError{ID: 7, From: remediation.Pending, To: remediation.Approved, Why: remediation.ReasonNoApproval},
			"action 7 is pending, but predates the rules: its audit fields keep it from becoming approved"},
		{remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonMaintenance},
			`action 7 is held: its server is in maintenance and only "auto" approved it`},
		{remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Rejected},
			"action 7 is approved already: Withdraw takes it back"},
		{remediation.TransitionError{ID: 7, From: remediation.Pending, To: remediation.Rejected},
			"action 7 is still pending: Reject decides it"},
	} {
		err := fmt.Errorf("approve: %w", &c.err)
		onlyMatches(t, err, remediation.ErrInvalidTransition)
		transition := (*remediation.TransitionError)(nil)
		if !errors.As(err, &transition) || *transition != c.err {
			t.Errorf("errors.As finds %+v, want %+v", transition, c.err)
		}
		if got := transition.Error(); got != c.want {
			t.Errorf("the text is %q, want %q", got, c.want)
		}
	}
}

func TestInputErrorNamesTheField(t *testing.T) {
	want := remediation.InputError{Field: "command", Problem: "is empty"}
	err := fmt.Errorf("create action: %w", &want)
	onlyMatches(t, err, remediation.ErrInvalidInput)
	input := (*remediation.InputError)(nil)
	if !errors.As(err, &input) || *input != want {
		t.Errorf("errors.As finds %+v, want %+v", input, want)
	}
	if got := err.Error(); got != "create action: command is empty" {
		t.Errorf("the text is %q", got)
	}
}
