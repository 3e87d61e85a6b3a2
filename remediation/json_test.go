package remediation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Every value that a Ledger returns marshals to JSON in the spelling of the columns.
func TestValuesMarshalInSnakeCaseWithoutUnsetFields(t *testing.T) {
	at := time.Date(2026, 1, 19, 15, 36, 1, 617957000, time.UTC)
	action := remediation.Action{
		ID: 7, ServerID: "web-1", ActionType: "check", Status: remediation.Completed, ServiceName: new("nginx"), Command: "true",
		CreatedAt: at, CreatedBy: "ann", AlertID: new(int64(3)), ApprovedAt: &at, ApprovedBy: new("bob"), RejectedAt: &at,
		RejectedBy: new("eve"), RejectionReason: new("no"), ExecutedAt: &at, CompletedAt: &at, ExitCode: new(int64(0)),
		Stdout: new(""), Stderr: new("oops\n"), DedupeKey: new("apt"),
	}
	refused := &remediation.TransitionError{ID: 7, From: remediation.Rejected, To: remediation.Approved}
	held := &remediation.TransitionError{ID: 7, From: remediation.Approved, To: remediation.Executing, Why: remediation.ReasonExpired}
	input := &remediation.InputError{Field: "command", Problem: "is empty"}
	duplicate := &remediation.DuplicateError{ExistingID: 8}
	const approval = `{"id":7,"server_id":"web-1","action_type":"check","status":"pending","command":"true",` +
		`"created_at":"2026-01-19T15:36:01Z","created_by":"ann"}`
	for _, c := range []struct {
		value any
		want  string
	}{
		{action, `{"id":7,"server_id":"web-1","action_type":"check","status":"completed","service_name":"nginx","command":"true",` +
			`"created_at":"2026-01-19T15:36:01.617957Z","created_by":"ann","alert_id":3,` +
			`"approved_at":"2026-01-19T15:36:01.617957Z","approved_by":"bob","rejected_at":"2026-01-19T15:36:01.617957Z",` +
			`"rejected_by":"eve","rejection_reason":"no","executed_at":"2026-01-19T15:36:01.617957Z",` +
			`"completed_at":"2026-01-19T15:36:01.617957Z","exit_code":0,"stdout":"","stderr":"oops\n","dedupe_key":"apt"}`},
		{remediation.Action{ID: 7, ServerID: "web-1", ActionType: "check", Status: remediation.Pending, Command: "true",
			CreatedAt: at.Truncate(time.Second), CreatedBy: "ann"}, approval},
		{remediation.Action{IdempotencyKey: new("k"), NotBefore: &at, ExpiresAt: &at, MaxRuntimeSeconds: new(int64(9)), HeartbeatAt: &at,
			CancelRequestedAt: &at, CancelRequestedBy: new("eve"), CancelReason: new("no")},
			`{"id":0,"server_id":"","action_type":"","status":"","command":"","created_at":"0001-01-01T00:00:00Z","created_by":"",` +
				`"idempotency_key":"k","not_before":"2026-01-19T15:36:01.617957Z","expires_at":"2026-01-19T15:36:01.617957Z",` +
				`"max_runtime_seconds":9,"heartbeat_at":"2026-01-19T15:36:01.617957Z","cancel_requested_at":"2026-01-19T15:36:01.617957Z",` +
				`"cancel_requested_by":"eve","cancel_reason":"no"}`},
		{remediation.Server{ID: "web-1"}, `{"id":"web-1","paused":false,"forbids_self_approval":false}`},
		{remediation.Event{ID: 1, ActionID: 7, ServerID: "web-1", Kind: remediation.EventDeleted, OccurredAt: at},
			`{"id":1,"action_id":7,"server_id":"web-1","kind":"deleted","occurred_at":"2026-01-19T15:36:01.617957Z"}`},
		{remediation.Event{ID: 1, ActionID: 7, ServerID: "web-1", Kind: remediation.EventFailed, Actor: new("web-1"), OccurredAt: at,
			Detail: new("3")}, `{"id":1,"action_id":7,"server_id":"web-1","kind":"failed","actor":"web-1",` +
			`"occurred_at":"2026-01-19T15:36:01.617957Z","detail":"3"}`},
		{remediation.Explanation{ActionID: 7, ServerID: "web-1", Status: remediation.Approved, Reason: remediation.ReasonBehind},
			`{"action_id":7,"server_id":"web-1","status":"approved","reason":"behind"}`},
		{remediation.Explanation{ActionID: 7, ServerID: "web-1", Status: remediation.Approved, Reason: remediation.ReasonBehind,
			Since: at, By: "bob", Behind: 5, Detail: "x"}, `{"action_id":7,"server_id":"web-1","status":"approved",` +
			`"reason":"behind","since":"2026-01-19T15:36:01.617957Z","by":"bob","behind":5,"detail":"x"}`},
		{remediation.NewAction{ServerID: "web-1", ActionType: "check", Command: "true", CreatedBy: "ann"},
			`{"server_id":"web-1","action_type":"check","command":"true","created_by":"ann"}`},
		{remediation.NewAction{ServiceName: new("nginx"), AlertID: new(int64(3)), DedupeKey: new("apt")},
			`{"server_id":"","action_type":"","command":"","created_by":"","service_name":"nginx","alert_id":3,"dedupe_key":"apt"}`},
		{remediation.Result{}, `{"exit_code":0,"stdout":"","stderr":""}`},
		{remediation.Filter{}, `{}`},
		{remediation.Filter{ServerID: "web-1", ActionType: "check", Status: remediation.Failed, AlertID: new(int64(0)), Before: 9, Limit: 5},
			`{"server_id":"web-1","action_type":"check","status":"failed","alert_id":0,"before":9,"limit":5}`},

		{refused, `{"error":"action 7 is rejected and can't become approved","id":7,"from":"rejected","to":"approved"}`},
		{held, `{"error":"action 7 has expired","id":7,"from":"approved","to":"executing","why":"expired"}`},
		{input, `{"error":"command is empty","field":"command","problem":"is empty"}`},
		{duplicate, `{"error":"action 8 has this key already","existing_id":8}`},

		{remediation.Outcome{ID: 7, Action: remediation.Action{ID: 7, ServerID: "web-1", ActionType: "check", Status: remediation.Pending,
			Command: "true", CreatedAt: at.Truncate(time.Second), CreatedBy: "ann"}}, `{"id":7,"action":` + approval + `}`},
		{[]remediation.Outcome{{ID: 7, Err: refused}}, `[{"id":7,"error":{"error":"action 7 is rejected and can't become approved",` +
			`"id":7,"from":"rejected","to":"approved"}}]`},
		{remediation.Outcome{ID: 7, Err: fmt.Errorf("approve: %w", refused)},
			`{"id":7,"error":{"error":"approve: action 7 is rejected and can't become approved","id":7,"from":"rejected","to":"approved"}}`},
		{&remediation.Outcome{ID: 7, Err: fmt.Errorf("approve action 7: %w", remediation.ErrNotFound)},
			`{"id":7,"error":{"error":"approve action 7: no such action"}}`},
		{remediation.Outcome{ID: 7, Err: errors.Join(input, duplicate)},
			`{"id":7,"error":{"error":"command is empty\naction 8 has this key already","field":"command",` +
				`"problem":"is empty","existing_id":8}}`},
	} {
		text, err := json.Marshal(c.value)
		if err != nil {
			t.Errorf("%+v: %v", c.value, err)
		}
		if diff := cmp.Diff(c.want, string(text)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.value, diff)
		}
	}
}

func TestEveryFieldHasAJSONName(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for _, value := range []any{remediation.Action{}, remediation.Event{}, remediation.Explanation{}, remediation.NewAction{},
		remediation.Result{}, remediation.Filter{}, remediation.Server{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(value)) {
			tag, option, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !name.MatchString(tag) || strings.ReplaceAll(tag, "_", "") != strings.ToLower(field.Name) {
				t.Errorf("%T.%s is %q in JSON", value, field.Name, tag)
			}
			if field.Type.Kind() == reflect.Pointer && option != "omitempty" {
				t.Errorf("%T.%s is a pointer without omitempty", value, field.Name)
			}
		}
	}
}

func TestActionSurvivesARoundTripThroughJSON(t *testing.T) {
	at := time.Date(2026, 1, 19, 15, 36, 1, 617957000, time.UTC)
	want := remediation.Action{ID: 7, ServerID: "web-1", Status: remediation.Completed, CreatedAt: at, CompletedAt: &at, ExitCode: new(int64(0)),
		Stdout: new("")}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got remediation.Action
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the action (-want +got):\n%s", diff)
	}
}
