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

// maxOutput is the maximum number of characters of an output or a reason in the printed table.
const maxOutput = 44

// print prints all actions as a table, oldest first.
func (d *demo) print(ctx context.Context) error {
	actions, err := d.ledger.List(ctx, remediation.Filter{})
	if err != nil {
		return err
	}
	slices.Reverse(actions) // List returns the newest first
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nID\tSERVER\tSTATUS\tCOMMAND\tDECIDED BY\tEXIT\tOUTPUT OR REASON\n")
	for _, a := range actions {
		if a, err = d.ledger.Get(ctx, a.ID); err != nil { // List does not load the outputs
			return err
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n",
			a.ID, a.ServerID, a.Status, oneLine(a.Command), deciders(a), exitCode(a), oneLine(outcome(a)))
	}
	return table.Flush()
}

// deciders names who approved or rejected an action.
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

// outcome returns the rejection reason or the output of an action.
func outcome(a remediation.Action) string {
	for _, text := range []*string{a.RejectionReason, a.Stdout, a.Stderr} {
		if text != nil && *text != "" {
			return *text
		}
	}
	return "-"
}

// oneLine returns the first line of an output, shortened and without control characters: tabs would break the table,
// and escape sequences could change the terminal.
func oneLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, line)
	shown := []rune(strings.Join(strings.Fields(printable), " "))
	if len(shown) > maxOutput {
		return string(shown[:maxOutput-1]) + "…"
	}
	return string(shown)
}
