package conformance

import (
	"strings"
	"testing"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Tests of Finish: the exit code decides the status, and the output is stored.

func (l *ledger) TestAC6_ExitCodeDecidesTheStatusAndTheResultIsStored(t *testing.T) {
	for code, status := range map[int64]remediation.Status{
		0:          remediation.Completed,
		3:          remediation.Failed,
		-1:         remediation.Failed,
		3221225786: remediation.Failed, // Windows reports Ctrl-C as 0xC000013A, which overflows a 32-bit integer column
	} {
		want := l.actionIn(t, remediation.Executing)
		want.Status, want.CompletedAt, want.ExitCode = status, new(l.clock.tick()), &code
		want.Stdout, want.Stderr = new("out\n"), new("")
		got, err := l.Finish(t.Context(), paused, want.ID, remediation.Result{ExitCode: code, Stdout: "out\n"})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "Finish", got, want)
		same(t, "Get", l.mustGet(t, want.ID), want)
	}
}

func (l *ledger) TestAC6_OneMebibyteOfOutputIsStoredWhole(t *testing.T) {
	const mebibyte = 1 << 20
	stdout := strings.Repeat("nginx: ok, 100 %\n", mebibyte)[:mebibyte]
	stderr := strings.Repeat("é", mebibyte/2)
	a := l.actionIn(t, remediation.Executing)
	got, err := l.Finish(t.Context(), paused, a.ID, remediation.Result{Stdout: stdout, Stderr: stderr})
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]remediation.Action{"Finish": got, "Get": l.mustGet(t, a.ID)} {
		if *got.Stdout != stdout || *got.Stderr != stderr {
			t.Errorf("%s returns %d bytes of stdout and %d of stderr, want all of them", name,
				len(*got.Stdout), len(*got.Stderr))
		}
	}
	if n := l.count(t, "remediation_actions WHERE length(stdout) = 1048576 AND length(stderr) = 524288"); n != 1 {
		t.Error("the stored outputs have other lengths")
	}
}

func (l *ledger) TestAC6_InvalidOutputIsSanitizedAndNeverRefused(t *testing.T) {
	for name, c := range map[string]struct{ reported, kept string }{
		"clean text":                        {"naïve 日本 🚀\r\n\t\x1b[31mred\x7f", "naïve 日本 🚀\r\n\t\x1b[31mred\x7f"},
		"empty":                             {"", ""},
		"NULs":                              {"a\x00\x00b", "a\uFFFD\uFFFDb"},
		"invalid UTF-8":                     {"caf\xe9 \xff\xfe", "caf\uFFFD \uFFFD\uFFFD"},
		"a truncated character":             {"100 \xe2\x82", "100 \uFFFD\uFFFD"},
		"half a surrogate pair":             {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
		"an overlong encoding":              {"\xc0\xaf", "\uFFFD\uFFFD"},
		"a replacement character":           {"\uFFFD\x00", "\uFFFD\uFFFD"},
		"invalid bytes between valid parts": {"日\xe6\x97本\x00é", "日\uFFFD\uFFFD本\uFFFDé"},
	} {
		t.Run(name, func(t *testing.T) {
			want := l.actionIn(t, remediation.Executing)
			want.Status, want.CompletedAt, want.ExitCode = remediation.Failed, new(l.clock.tick()), new(int64(1))
			want.Stdout, want.Stderr = &c.kept, new("e"+c.kept)
			got, err := l.Finish(t.Context(), paused, want.ID,
				remediation.Result{ExitCode: 1, Stdout: c.reported, Stderr: "e" + c.reported})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "Finish", got, want)
			same(t, "Get", l.mustGet(t, want.ID), want)
		})
	}
}
