//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/homelab-cmd/actionledger/remediation"
)

// widest is how many characters of a result the table shows.
const widest = 44

func (d *demo) print(ctx context.Context) error {
	actions, err := d.ledger.List(ctx, remediation.Filter{})
	if err != nil {
		return err
	}
	slices.Reverse(actions) // List is newest first; a story reads better from its beginning
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nID\tSERVER\tSTATUS\tCOMMAND\tDECIDED BY\tEXIT\tOUTPUT OR REASON\n")
	for _, a := range actions {
		if a, err = d.ledger.Get(ctx, a.ID); err != nil { // List leaves the outputs out
			return err
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n",
			a.ID, a.ServerID, a.Status, oneLine(a.Command), deciders(a), exitCode(a), oneLine(outcome(a)))
	}
	return table.Flush()
}

func deciders(a remediation.Action) string {
	switch {
	case a.ApprovedBy != nil && a.RejectedBy != nil:
		return *a.ApprovedBy + ", then " + *a.RejectedBy
	case a.ApprovedBy != nil:
		return *a.ApprovedBy
	case a.RejectedBy != nil:
		return *a.RejectedBy
	}
	return "-"
}

func exitCode(a remediation.Action) string {
	if a.ExitCode == nil {
		return "-"
	}
	return strconv.FormatInt(*a.ExitCode, 10)
}

func outcome(a remediation.Action) string {
	for _, text := range []*string{a.RejectionReason, a.Stdout, a.Stderr} {
		if text != nil && *text != "" {
			return *text
		}
	}
	return "-"
}

// oneLine is the first line of what a program printed, safe to show: tabs would break the table, and escape sequences
// could rewrite the reader's terminal.
func oneLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, line)
	shown := []rune(strings.Join(strings.Fields(printable), " "))
	if len(shown) > widest {
		return string(shown[:widest-1]) + "…"
	}
	return string(shown)
}
