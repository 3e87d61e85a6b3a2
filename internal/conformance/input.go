package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of the validation of text arguments and list filters.

// argument is one text argument of a method. In call, all other arguments are valid.
type argument struct {
	method, field string
	most          string // the longest valid text
	call          func(ctx context.Context, s string) error
}

// The longest valid texts. One é has two bytes in UTF-8, one 日 three; limits count characters unless noted.
var (
	longestServerID    = strings.Repeat("日", 100)
	longestActionType  = strings.Repeat("é", 50)
	longestServiceName = strings.Repeat("日", 255)
	longestActor       = strings.Repeat("日", 50)
	longestTitle       = strings.Repeat("é", 255)
	longestText        = strings.Repeat("é", 1<<19) // command and reason: 1 MiB, a limit in bytes
)

// arguments lists the text arguments of the calls that act on one action, server or alert, and of List. Bulk calls and
// dedupe keys have tests of their own. The parameters are the ids of actions in those statuses.
func (l *ledger) arguments(pending, approved, executing int64) []argument {
	create := func(fill func(a *remediation.NewAction, s string)) func(context.Context, string) error {
		return func(ctx context.Context, s string) error {
			a := newAction(normal)
			fill(&a, s)
			_, err := l.Create(ctx, a)
			return err
		}
	}
	return []argument{
		{"AddServer", "server_id", longestServerID, l.AddServer},
		{"Pause", "server_id", longestServerID, l.Pause},
		{"Unpause", "server_id", longestServerID, l.Unpause},
		{"AddAlert", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.AddAlert(ctx, s, "down")
			return err
		}},
		{"AddAlert", "title", longestTitle, func(ctx context.Context, s string) error {
			_, err := l.AddAlert(ctx, normal, s)
			return err
		}},
		{"Create", "server_id", longestServerID, create(func(a *remediation.NewAction, s string) { a.ServerID = s })},
		{"Create", "action_type", longestActionType, create(func(a *remediation.NewAction, s string) { a.ActionType = s })},
		{"Create", "command", longestText, create(func(a *remediation.NewAction, s string) { a.Command = s })},
		{"Create", "created_by", longestActor, create(func(a *remediation.NewAction, s string) { a.CreatedBy = s })},
		{"Create", "service_name", longestServiceName, create(func(a *remediation.NewAction, s string) { a.ServiceName = &s })},
		{"Create", "idempotency_key", longestServiceName, create(func(a *remediation.NewAction, s string) { a.IdempotencyKey = &s })},
		{"ForbidSelfApproval", "server_id", longestServerID, func(ctx context.Context, s string) error {
			return l.ForbidSelfApproval(ctx, s, false)
		}},
		{"Server", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.Server(ctx, s)
			return err
		}},
		{"Heartbeat", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.Heartbeat(ctx, s, executing)
			return err
		}},
		{"RequestCancel", "by", longestActor, func(ctx context.Context, s string) error {
			_, err := l.RequestCancel(ctx, pending, s, "no")
			return err
		}},
		{"RequestCancel", "reason", longestText, func(ctx context.Context, s string) error {
			_, err := l.RequestCancel(ctx, pending, "ann", s)
			return err
		}},
		{"Approve", "by", longestActor, func(ctx context.Context, s string) error {
			_, err := l.Approve(ctx, pending, s)
			return err
		}},
		{"Reject", "by", longestActor, func(ctx context.Context, s string) error {
			_, err := l.Reject(ctx, pending, s, "no")
			return err
		}},
		{"Reject", "reason", longestText, func(ctx context.Context, s string) error {
			_, err := l.Reject(ctx, pending, "ann", s)
			return err
		}},
		{"Withdraw", "by", longestActor, func(ctx context.Context, s string) error {
			_, err := l.Withdraw(ctx, approved, s, "no")
			return err
		}},
		{"Withdraw", "reason", longestText, func(ctx context.Context, s string) error {
			_, err := l.Withdraw(ctx, approved, "ann", s)
			return err
		}},
		{"Claim", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.Claim(ctx, s)
			return err
		}},
		{"Finish", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.Finish(ctx, s, executing, remediation.Result{})
			return err
		}},
		{"List", "server_id", longestServerID, func(ctx context.Context, s string) error {
			_, err := l.List(ctx, remediation.Filter{ServerID: s})
			return err
		}},
		{"List", "action_type", longestActionType, func(ctx context.Context, s string) error {
			_, err := l.List(ctx, remediation.Filter{ActionType: s})
			return err
		}},
	}
}

// forbiddenInNames lists characters that a name must not contain. They make it look like another name or break a line
// of a log.
var forbiddenInNames = []string{
	"\n", "\r", "\t", "\x01", "\x1b", "\x7f", "\u0085", "\u00ad", "\u061c", "\u200b", "\u200d", "\u200e", "\u2028", "\u2029", "\u202e",
	"\u2060", "\u2066", "\u2069", "\ufeff", "\U000e0041",
}

// isName reports whether the argument is a name. Other texts may have several lines.
func (arg argument) isName() bool {
	return arg.field != "command" && arg.field != "reason" && arg.field != "title"
}

// bad returns texts that the argument must refuse, by what is wrong with them.
func (arg argument) bad() map[string]string {
	bad := map[string]string{
		"blank":               " \t\r\n",
		"blank beyond ASCII":  "\u00a0\u2003\u3000",
		"one character more":  arg.most + "x",
		"one more of several": arg.most + "日",
		"not UTF-8":           "nginx\xff",
		"not UTF-8, cut":      "nginx\xe6\x97",
		"a surrogate":         "nginx\xed\xa0\x80",
		"a NUL":               "nginx\x00; true",
		"only a NUL":          "\x00",
	}
	if arg.method != "List" { // where an empty filter matches everything
		bad["empty"] = ""
	}
	if arg.isName() {
		for _, s := range forbiddenInNames {
			bad[fmt.Sprintf("with %U", []rune(s)[0])] = "web" + s + "1"
			bad[fmt.Sprintf("ends in %U", []rune(s)[0])] = "web-1" + s
		}
	}
	if arg.most == longestActor {
		for _, s := range []string{"auto", "AUTO", "Auto", "aUtO", " auto", "auto ", "\tauto\r\n", "\u00a0Auto\u2003"} {
			bad["reserved, "+s] = s
		}
	}
	return bad
}

func (l *ledger) TestEveryTextArgumentIsValidated(t *testing.T) {
	pending, approved := l.actionIn(t, remediation.Pending).ID, l.actionIn(t, remediation.Approved).ID
	executing := l.actionIn(t, remediation.Executing).ID
	l.mustCreate(t, newAction(normal)) // an action that Claim would return
	before := l.contents(t)
	for _, arg := range l.arguments(pending, approved, executing) {
		for name, s := range arg.bad() {
			t.Run(arg.method+"/"+arg.field+"/"+name, func(t *testing.T) {
				badInput(t, arg.call(t.Context(), s), arg.field)
			})
		}
		same(t, "after the refused calls of "+arg.method, l.contents(t), before)
	}
	for _, arg := range l.arguments(pending, approved, executing) {
		good := []string{arg.most, "two words", "no\u00a0break", "e\u0301", "日本-1", "🚒", "web-1.example:22/é_+@"}
		if !arg.isName() {
			good = append(good, "lines\n\tand "+strings.Join(forbiddenInNames, " "))
		}
		for _, s := range good {
			if err := arg.call(t.Context(), s); errors.Is(err, remediation.ErrInvalidInput) {
				t.Errorf("%s: %s %.50q: %v", arg.method, arg.field, s, err)
			}
		}
	}
}

// badInput expects err to be an *InputError about the field.
func badInput(t *testing.T, err error, field string) {
	t.Helper()
	wantError(t, "bad "+field, err, remediation.ErrInvalidInput)
	in := (*remediation.InputError)(nil)
	if !errors.As(err, &in) {
		t.Errorf("error is %v, want an *InputError", err)
		return
	}
	if in.Field != field || in.Problem == "" {
		t.Errorf("the *InputError is about %q and says %q, want it about %q", in.Field, in.Problem, field)
	}
}

func (l *ledger) TestFilterIsValidated(t *testing.T) {
	for field, filters := range map[string][]remediation.Filter{
		"limit":  {{Limit: -1}, {Limit: 1001}},
		"before": {{Before: -1}},
		"status": {{Status: "paused"}, {Status: "Pending"}, {Status: " "}, {Status: "pending\x00"}, {Status: "\xff"}},
	} {
		for _, f := range filters {
			got, err := l.List(t.Context(), f)
			badInput(t, err, field)
			same(t, "the page of an invalid filter", got, []remediation.Action(nil))
		}
	}
}
