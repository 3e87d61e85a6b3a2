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

// Lengths of the columns, in characters. SQLite itself does not enforce them.
const (
	maxServerID    = 100
	maxActionType  = 50
	maxServiceName = 255
	maxActor       = 50
	maxTitle       = 255
	maxKey         = 255
	maxText        = 1 << 20 // bytes of a command or a reason, whose columns have no length
)

const (
	defaultLimit = 50
	maxLimit     = 1000 // for every limit, and for the ids of a bulk decision
)

// checkName refuses what checkTitle refuses, and names that could look like another name on a screen.
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

// checkTitle refuses text that is not valid or not 1 to max characters. Text is never altered, because the approved
// text must be the stored text.
func checkTitle(field, s string, max int) error {
	if err := checkText(field, s); err != nil {
		return err
	}
	if utf8.RuneCountInString(s) > max {
		return &InputError{field, fmt.Sprintf("is longer than %d characters", max)}
	}
	return nil
}

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

// checkActor also refuses "auto" in other cases and with spaces around it. It does not compare look-alike letters.
func checkActor(field, s string) error {
	if err := checkName(field, s, maxActor); err != nil {
		return err
	}
	if strings.EqualFold(strings.TrimSpace(s), AutoApprover) {
		return &InputError{field, fmt.Sprintf("is %q, which is reserved for automatic approval", AutoApprover)}
	}
	return nil
}

func checkDecision(by, reason string) error {
	if err := checkActor("by", by); err != nil {
		return err
	}
	return checkText("reason", reason)
}

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

// truncate reduces the times to microseconds, which every engine can store. The other checks rely on it.
func (a NewAction) truncate() NewAction {
	for _, t := range []**time.Time{&a.NotBefore, &a.ExpiresAt} {
		if *t != nil {
			*t = new(micros(**t))
		}
	}
	return a
}

// checkYear refuses a time that an engine can't store. verb joins the field and the time: "is" or "says".
func checkYear(field, verb string, t time.Time) error {
	if clampYear(t).Equal(t) {
		return nil
	}
	return &InputError{field, fmt.Sprintf("%s %s, which is not in the years 1 to 9999", verb, t.Format(time.DateTime))}
}

// matches reports whether first was created from the same content. alertGone means that the alert of a no longer
// exists; first then has no alert.
func (a NewAction) matches(first Action, alertGone bool) bool {
	return a.ServerID == first.ServerID && a.ActionType == first.ActionType && a.Command == first.Command &&
		a.CreatedBy == first.CreatedBy && equal(a.ServiceName, first.ServiceName) &&
		(equal(a.AlertID, first.AlertID) || first.AlertID == nil && alertGone) &&
		equal(a.DedupeKey, first.DedupeKey) && equal(a.MaxRuntimeSeconds, first.MaxRuntimeSeconds) &&
		equal(a.NotBefore, first.NotBefore) && equal(a.ExpiresAt, first.ExpiresAt)
}

// equal compares two optional values. Times must be in UTC.
func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// check refuses a filter that no row can match, so that a mistake in it does not look like an empty ledger.
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

// checkStatus accepts the statuses of the ledger, and those that only the Python original writes.
func checkStatus(s Status) error {
	if s.Valid() || s == timedOut {
		return nil
	}
	return &InputError{"status", fmt.Sprintf("%q is not one of the six statuses", string(s))}
}

func checkAfter(after int64) error {
	if after < 0 {
		return &InputError{"after", "is negative"}
	}
	return nil
}

// checkLimit validates a limit and applies the default.
func checkLimit(limit int) (int, error) {
	if limit < 0 || limit > maxLimit {
		return 0, &InputError{"limit", fmt.Sprintf("is %d, but may be 0 to %d", limit, maxLimit)}
	}
	return cmp.Or(limit, defaultLimit), nil
}

// sanitize converts the output of a program to text that every engine can store. It refuses none.
func sanitize(output string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 {
			return utf8.RuneError
		}
		return r // Map has replaced each byte that is not valid UTF-8 with U+FFFD
	}, output)
}
