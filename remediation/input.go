package remediation

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The maximum lengths of the input, in characters. They are those of the columns, which SQLite does not enforce itself.
const (
	maxServerID    = 100
	maxActionType  = 50
	maxServiceName = 255
	maxActor       = 50
	maxTitle       = 255
	maxKey         = 255
	maxText        = 1 << 20 // in bytes: of a command or a reason, whose columns have no maximum
)

const (
	defaultLimit = 50
	maxLimit     = 1000 // also for the ids of a bulk decision
)

// checkName validates a name. Unlike checkTitle it refuses control characters and invisible characters, with which two
// different names could look the same on a screen.
func checkName(field, s string, max int) error {
	if err := checkTitle(field, s, max); err != nil {
		return err
	}
	for _, r := range s {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return &InputError{field, fmt.Sprintf("contains %U, a control or an invisible character", r)}
		}
	}
	return nil
}

// checkTitle validates a text of 1 to max characters. It refuses a text and never changes it, because the stored text
// must be the one that a person approved.
func checkTitle(field, s string, max int) error {
	if err := checkText(field, s); err != nil {
		return err
	}
	if utf8.RuneCountInString(s) > max {
		return &InputError{field, fmt.Sprintf("is longer than %d characters", max)}
	}
	return nil
}

// checkText validates a text of up to maxText bytes.
func checkText(field, s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return &InputError{field, "is empty"}
	case len(s) > maxText:
		return &InputError{field, fmt.Sprintf("is longer than %d bytes", maxText)}
	case !utf8.ValidString(s):
		return &InputError{field, "is not valid UTF-8"}
	case strings.IndexByte(s, 0) >= 0:
		return &InputError{field, "contains a NUL byte"}
	}
	return nil
}

// checkActor validates the name of a person. It refuses "auto", also in upper case and between spaces. It does not
// detect other letters that look like those of "auto".
func checkActor(field, s string) error {
	if err := checkName(field, s, maxActor); err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(s), AutoApprover) {
		return &InputError{field, fmt.Sprintf("is %q, which is reserved for automatic approval", AutoApprover)}
	}
	return nil
}

// checkDecision validates the arguments of Reject, Withdraw and RequestCancel.
func checkDecision(by, reason string) error {
	if err := checkActor("by", by); err != nil {
		return err
	}
	return checkText("reason", reason)
}

// check validates the input of Create. The times must have been truncated.
func (a NewAction) check() error {
	if err := checkName("server_id", a.ServerID, maxServerID); err != nil {
		return err
	}
	if err := checkName("action_type", a.ActionType, maxActionType); err != nil {
		return err
	}
	if err := checkText("command", a.Command); err != nil {
		return err
	}
	if err := checkActor("created_by", a.CreatedBy); err != nil {
		return err
	}
	if a.ServiceName != nil {
		if err := checkName("service_name", *a.ServiceName, maxServiceName); err != nil {
			return err
		}
	}
	if a.DedupeKey != nil {
		if err := checkName("dedupe_key", *a.DedupeKey, maxKey); err != nil {
			return err
		}
	}
	if a.IdempotencyKey != nil {
		if err := checkName("idempotency_key", *a.IdempotencyKey, maxKey); err != nil {
			return err
		}
	}
	return a.checkLimits()
}

func (a NewAction) checkLimits() error {
	if a.NotBefore != nil {
		if err := checkYear("not_before", "is", *a.NotBefore); err != nil {
			return err
		}
	}
	if a.ExpiresAt != nil {
		if err := checkYear("expires_at", "is", *a.ExpiresAt); err != nil {
			return err
		}
	}
	if a.NotBefore != nil && a.ExpiresAt != nil && !a.ExpiresAt.After(*a.NotBefore) {
		return &InputError{"expires_at", "is not after not_before"}
	}
	if n := a.MaxRuntimeSeconds; n != nil && (*n < 1 || *n > math.MaxInt32) {
		return &InputError{"max_runtime_seconds", fmt.Sprintf("is %d, but may be 1 to %d", *n, math.MaxInt32)}
	}
	return nil
}

// truncate truncates the times to microseconds, which every engine stores.
func (a NewAction) truncate() NewAction {
	for _, t := range []**time.Time{&a.NotBefore, &a.ExpiresAt} {
		if *t != nil {
			*t = new(micros(**t))
		}
	}
	return a
}

// checkYear refuses a time that not every engine can store. verb joins the field and the time in the error: "is" or
// "says".
func checkYear(field, verb string, t time.Time) error {
	if clampYear(t).Equal(t) {
		return nil
	}
	return &InputError{field, fmt.Sprintf("%s %s, which is not in the years 1 to 9999", verb, t.Format(time.DateTime))}
}

// matches reports whether first was created from the same content as a. If the alert of a was deleted (alertGone),
// first has no alert any more and still matches.
func (a NewAction) matches(first Action, alertGone bool) bool {
	return a.ServerID == first.ServerID && a.ActionType == first.ActionType && a.Command == first.Command &&
		a.CreatedBy == first.CreatedBy && equal(a.ServiceName, first.ServiceName) &&
		(equal(a.AlertID, first.AlertID) || first.AlertID == nil && alertGone) &&
		equal(a.DedupeKey, first.DedupeKey) && equal(a.MaxRuntimeSeconds, first.MaxRuntimeSeconds) &&
		equal(a.NotBefore, first.NotBefore) && equal(a.ExpiresAt, first.ExpiresAt)
}

// equal compares the values of two optional fields. Times must be in UTC on both sides.
func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// check refuses a filter that no row can match, so that a mistake in it is not taken for an empty ledger.
func (f Filter) check() error {
	if f.ServerID != "" {
		if err := checkName("server_id", f.ServerID, maxServerID); err != nil {
			return err
		}
	}
	if f.ActionType != "" {
		if err := checkName("action_type", f.ActionType, maxActionType); err != nil {
			return err
		}
	}
	if f.Status != "" {
		if err := checkStatus(f.Status); err != nil {
			return err
		}
	}
	if f.Before < 0 {
		return &InputError{"before", "is negative"}
	}
	_, err := checkLimit(f.Limit)
	return err
}

// checkStatus accepts the six statuses and timedOut.
func checkStatus(s Status) error {
	if s.Valid() || s == timedOut {
		return nil
	}
	return &InputError{"status", fmt.Sprintf("%q is not one of the six statuses", string(s))}
}

// checkAfter validates the event id after which a read begins.
func checkAfter(after int64) error {
	if after < 0 {
		return &InputError{"after", "is negative"}
	}
	return nil
}

// checkLimit validates a limit, and returns the default for 0.
func checkLimit(limit int) (int, error) {
	if limit < 0 || limit > maxLimit {
		return 0, &InputError{"limit", fmt.Sprintf("is %d, but may be 0 to %d", limit, maxLimit)}
	}
	return cmp.Or(limit, defaultLimit), nil
}

// sanitize replaces each byte of a command's output that not every engine can store, so that no output is refused.
func sanitize(output string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 {
			return utf8.RuneError
		}
		return r // Map has turned each byte that is not UTF-8 into U+FFFD
	}, output)
}
