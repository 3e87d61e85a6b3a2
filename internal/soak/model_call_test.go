package soak

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/homelab-cmd/actionledger/remediation"
)

// call is one call of a ledger and its answer.
type call struct {
	Method    string
	Server    string                `json:",omitzero"`
	ID        int64                 `json:",omitzero"`
	By        string                `json:",omitzero"`
	Reason    string                `json:",omitzero"`
	Forbid    bool                  `json:",omitzero"`
	New       remediation.NewAction `json:",omitzero"`
	Result    remediation.Result    `json:",omitzero"`
	OlderThan time.Duration         `json:",omitzero"`
	Limit     int                   `json:",omitzero"`
	At        time.Time             // time of the ledger's clock
	Answer    answer

	// The actions that Claim, FailOverdue and Expire may skip because a concurrent call may have locked them.
	skippable     map[int64]bool
	skippableAuto bool // also all actions that "auto" approved
}

// answer is the result of a call, in a form that has a JSON encoding.
type answer struct {
	Actions  []remediation.Action `json:",omitempty"`
	Err      string               `json:",omitzero"` // text of the error's sentinel, or else of the error
	ID       int64                `json:",omitzero"` // action that the error names
	From, To remediation.Status   `json:",omitzero"`
	Why      remediation.Reason   `json:",omitzero"`
}

func (c call) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// sentinels are the errors that an answer reduces errors to.
var sentinels = []error{remediation.ErrNotFound, remediation.ErrServerNotFound, remediation.ErrAlertNotFound,
	remediation.ErrNothingToClaim, remediation.ErrInvalidTransition, remediation.ErrInvalidInput, remediation.ErrDuplicate}

// answerOf converts the results of a call. It keeps an action that was returned with an error, because no call may do
// that.
func answerOf(err error, actions ...remediation.Action) answer {
	var a answer
	for _, action := range actions {
		if err == nil || action.ID != 0 { // with an error, the zero Action is no result
			a.Actions = append(a.Actions, action)
		}
	}
	if err == nil {
		return a
	}
	a.Err = err.Error()
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			a.Err = sentinel.Error()
		}
	}
	if refused := (*remediation.TransitionError)(nil); errors.As(err, &refused) {
		a.ID, a.From, a.To, a.Why = refused.ID, refused.From, refused.To, refused.Why
	}
	if duplicate := (*remediation.DuplicateError)(nil); errors.As(err, &duplicate) {
		a.ID = duplicate.ExistingID
	}
	return a
}

// make calls the ledger.
func (c call) make(ctx context.Context, l *remediation.Ledger) answer {
	var a remediation.Action
	var err error
	switch c.Method {
	case "AddServer":
		return answerOf(l.AddServer(ctx, c.Server))
	case "Pause":
		return answerOf(l.Pause(ctx, c.Server))
	case "Unpause":
		return answerOf(l.Unpause(ctx, c.Server))
	case "FailOverdue":
		failed, err := l.FailOverdue(ctx, c.OlderThan, c.Limit)
		return answerOf(err, failed...)
	case "Expire":
		expired, err := l.Expire(ctx, c.Limit)
		return answerOf(err, expired...)
	case "ForbidSelfApproval":
		return answerOf(l.ForbidSelfApproval(ctx, c.Server, c.Forbid))
	case "Create":
		a, err = l.Create(ctx, c.New)
	case "Approve":
		a, err = l.Approve(ctx, c.ID, c.By)
	case "Reject":
		a, err = l.Reject(ctx, c.ID, c.By, c.Reason)
	case "Withdraw":
		a, err = l.Withdraw(ctx, c.ID, c.By, c.Reason)
	case "Claim":
		a, err = l.Claim(ctx, c.Server)
	case "Start":
		a, err = l.Start(ctx, c.ID)
	case "Finish":
		a, err = l.Finish(ctx, c.Server, c.ID, c.Result)
	case "Heartbeat":
		a, err = l.Heartbeat(ctx, c.Server, c.ID)
	case "RequestCancel":
		a, err = l.RequestCancel(ctx, c.ID, c.By, c.Reason)
	case "Get":
		a, err = l.Get(ctx, c.ID)
	}
	return answerOf(err, a)
}

// skips reports whether the call was allowed to skip an action and did not return it.
func (c call) skips(a remediation.Action) bool {
	return (c.skippable[a.ID] || c.skippableAuto && *a.ApprovedBy == remediation.AutoApprover) &&
		!slices.ContainsFunc(c.Answer.Actions, func(took remediation.Action) bool { return took.ID == a.ID })
}
