package conformance

import (
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests that text is stored unchanged: at its maximum length, and with characters that SQL or encodings could break.

func (l *ledger) TestTextOfMaximumLengthIsStoredWhole(t *testing.T) {
	if err := l.AddServer(t.Context(), longestServerID); err != nil {
		t.Fatal(err)
	}
	l.mustPause(t, longestServerID)
	alert, err := l.AddAlert(t.Context(), longestServerID, longestTitle)
	if err != nil {
		t.Fatal(err)
	}
	for _, decide := range []func(id int64) error{
		func(id int64) error {
			_, err := l.Reject(t.Context(), id, longestActor, longestText)
			return err
		},
		func(id int64) error {
			if _, err := l.Approve(t.Context(), id, longestActor); err != nil {
				return err
			}
			_, err := l.Withdraw(t.Context(), id, longestActor, longestText)
			return err
		},
	} {
		a := l.mustCreate(t, remediation.NewAction{
			ServerID:    longestServerID,
			ActionType:  longestActionType,
			Command:     longestText,
			CreatedBy:   longestActor,
			ServiceName: &longestServiceName,
			AlertID:     &alert,
		})
		if err := decide(a.ID); err != nil {
			t.Fatal(err)
		}
		got := l.mustGet(t, a.ID)
		if got.Command != longestText || *got.RejectionReason != longestText {
			t.Errorf("got a command of %d bytes and a reason of %d, want %d each", len(got.Command),
				len(*got.RejectionReason), len(longestText))
		}
		if got.ServerID != longestServerID || got.ActionType != longestActionType || got.CreatedBy != longestActor ||
			*got.ServiceName != longestServiceName || *got.RejectedBy != longestActor {
			t.Errorf("a name changed: %q, %q, %q, %q, %q", got.ServerID, got.ActionType, got.CreatedBy, *got.ServiceName,
				*got.RejectedBy)
		}
	}
	if l.count(t, "alerts WHERE title = "+quote(longestTitle)) != 1 {
		t.Error("the title of maximum length is not stored unchanged")
	}
}

func (l *ledger) TestHostileTextIsStoredUnchanged(t *testing.T) {
	for name, s := range map[string]string{
		"quotes":           `it's "quoted" 'twice''`,
		"injection":        `'; DROP TABLE remediation_actions; --`,
		"emoji":            "🚒👩\u200d🚒 ist da",
		"newlines":         "one\ntwo\r\nthree\r",
		"backslashes":      `C:\new\table\0 \' \\`,
		"percent":          "100 % %s %d _ * ?",
		"placeholders":     "? ?1 $1 :id @id {} %(x)s",
		"outer spaces":     "  systemctl restart nginx\t ",
		"control":          "\x01\x1b[31m\x7f\u0085\u2028",
		"not normalised":   "e\u0301 \u00e9 \ufeff \u202e",
		"end of Unicode":   "\U0010ffff\uffff\ufffd",
		"a number":         "007",
		"a word of SQL":    "NULL",
		"scientific":       "1e3",
		"a date":           "2026-11-23",
		"comment":          "/* -- */ #",
		"PostgreSQL's own": `E'\n' $$x$$ U&'\0061'`,
	} {
		t.Run(name, func(t *testing.T) {
			plain := s // a name must not contain hidden characters
			for _, h := range forbiddenInNames {
				plain = strings.ReplaceAll(plain, h, "_")
			}
			serverID := "server " + plain
			if err := l.AddServer(t.Context(), serverID); err != nil {
				t.Fatal(err)
			}
			l.mustPause(t, serverID)
			alert, err := l.AddAlert(t.Context(), serverID, s)
			if err != nil {
				t.Fatal(err)
			}
			a := l.mustCreate(t, remediation.NewAction{
				ServerID: serverID, ActionType: plain, Command: s, CreatedBy: plain, ServiceName: &plain, AlertID: &alert,
			})
			now := l.clock.now
			want := remediation.Action{
				ID: a.ID, ServerID: serverID, ActionType: plain, Status: remediation.Failed, ServiceName: &plain, Command: s,
				CreatedAt: now, CreatedBy: plain, AlertID: &alert,
				ApprovedAt: &now, ApprovedBy: &plain, ExecutedAt: &now, CompletedAt: &now,
				ExitCode: new(int64(1)), Stdout: &s, Stderr: &s,
			}
			if _, err := l.Approve(t.Context(), a.ID, plain); err != nil {
				t.Fatal(err)
			}
			l.mustClaim(t, serverID)
			got, err := l.Finish(t.Context(), serverID, a.ID, remediation.Result{ExitCode: 1, Stdout: s, Stderr: s})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Finish", got, want)
			same(t, "Get", l.mustGet(t, a.ID), want)

			rejected := l.mustCreate(t, newAction(serverID))
			if _, err := l.Reject(t.Context(), rejected.ID, plain, s); err != nil {
				t.Fatal(err)
			}
			same(t, "rejection_reason", l.mustGet(t, rejected.ID).RejectionReason, &s)

			listed, err := l.List(t.Context(), remediation.Filter{ServerID: serverID, ActionType: plain})
			want.Stdout, want.Stderr = nil, nil
			if err != nil {
				t.Fatal(err)
			}
			same(t, "List", listed, []remediation.Action{want})

			var raw string
			err = l.db.Raw.QueryRowContext(t.Context(), "SELECT command FROM remediation_actions WHERE command = "+quote(s)+
				" AND service_name = "+quote(plain)+" AND stdout = "+quote(s)+" AND approved_by = "+quote(plain)).Scan(&raw)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "the raw command", raw, s)
			if l.count(t, "alerts WHERE title = "+quote(s)) != 1 {
				t.Error("the title is not stored unchanged")
			}
			byHand := example(remediation.Failed)
			byHand.Command, byHand.ApprovedBy, byHand.Stdout = s, &s, &s
			byHand = l.store(t, byHand)
			same(t, "an action inserted by raw SQL", l.mustGet(t, byHand.ID), byHand)
		})
	}
}
