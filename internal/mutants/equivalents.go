package main

import "regexp"

// equivalents are the mutants that behave like the original, so that no test can notice them. Each has its reason.
var equivalents = []struct {
	name   *regexp.Regexp
	reason string
}{
	{
		regexp.MustCompile(`^sqlite (alerts|remediation_actions|remediation_events) id without NOT NULL$`),
		"SQLite replaces NULL in an INTEGER PRIMARY KEY by the next id",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions (status|created_at) without NOT NULL$`),
		"the triggers refuse NULL too, as an unknown status and a time that isn't text",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions status without NOT NULL$`),
		"the trigger refuses NULL too, as an unknown status",
	},
	{
		regexp.MustCompile(`^postgres (servers id|remediation_servers server_id) without NOT NULL$`),
		"a PRIMARY KEY implies NOT NULL",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) remediation_actions server_id without NOT NULL$`),
		"the event of the creation would have no server, which the table of events refuses",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions created_at without NOT NULL$|` +
			`^sqlite remediation_actions_consistent_update without NEW\.(rejected|completed)_at IS NOT NULL`),
		"the event of the step would have no time, which the table of events refuses",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions_keep_alert without NEW\.alert_id IS NULL$`),
		"the other half of the condition is then true too: the alert of a row exists, because of the foreign key",
	},
	{
		regexp.MustCompile(`^\w+ remediation_actions_(open_key without dedupe_key|idempotency_key without idempotency_key) IS NOT NULL$`),
		"a unique index allows any number of NULLs; the condition only keeps the index small",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_(open_key|idempotency_key) without UNIQUE$`),
		"a trigger refuses the same, ended actions stay ended, and SQLite has one writer, so nothing changes in between",
	},
	{
		regexp.MustCompile(`^sqlite (ClaimAction|ExplainAction) without LIMIT 1( \(2\))?$`),
		"SQLite uses only the first row of a scalar subquery",
	},
	{
		regexp.MustCompile(`^sqlite (ClaimAction|FailOverdueActions|ExpireActions|PruneActions|ClearOutput) without status `),
		"the subquery has the same condition, and SQLite has one writer, so nothing changes in between",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) (CountActions without status|ListStatuses without id) `),
		"the caller ignores other rows; the condition keeps the query from reading the history, which sqlcheck tests",
	},
	{
		regexp.MustCompile(`^sqlite ((ClaimAction|FailOverdueActions) without ORDER BY a\.id|ExplainAction without ORDER BY [eq]\.id|` +
			`(ListEvents|Export\w+) without ORDER BY id)$`),
		"SQLite reads the primary key, or an index that ends in it, in this order",
	},
	{
		regexp.MustCompile(`^sqlite (PruneActions|ClearOutput|ExpireActions) without ORDER BY `),
		"SQLite reads the index in this order, which sqlcheck tests",
	},
	{
		regexp.MustCompile(`^sqlite AddServer without ON CONFLICT `),
		"NOT EXISTS checks the same, and SQLite has one writer, so nothing changes in between",
	},
	{
		regexp.MustCompile(`^sqlite ApproveAction without NOT CAST\(\?\d AS BOOLEAN\)$`),
		"a row that can't be read is refused at the first try instead of the second; the condition only saves a lookup",
	},
	{
		regexp.MustCompile(`^postgres remediation_approvable without a\.status = 'pending'$`),
		"single and bulk approvals check the status too; a batch is refused by the trigger, and its calls then run one by one",
	},
	{
		regexp.MustCompile(`^sqlite Export\w+ without LIMIT `),
		"Import copies pages of any size; the limit only bounds its memory",
	},
	{
		regexp.MustCompile(`^postgres (ClaimAction|ApproveActions|RejectActions|FailOverdueActions|ExpireActions|PruneActions|ClearOutput) without status `),
		"the subquery has the same condition, locks its rows, and checks them again after it waited for a lock",
	},
	{
		regexp.MustCompile(`^postgres (ApproveActions|RejectActions) without (a\.status = 'pending'|FOR UPDATE)$`),
		"the UPDATE has the same condition, and locks the rows in the same order if it searches by the sorted ids",
	},
	{
		regexp.MustCompile(`^sqlite remediation_listed without coalesce`),
		"a row without any of them also gives NULLs; the condition lets SQLite read only the index, which sqlcheck tests",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_limits_step without NEW\.status (IN \('approved', 'executing'\)|= 'executing')$|` +
			`^postgres remediation_actions_limits_update without NEW\.(status = '\w+'|approved_at in greatest\(…)$`),
		"a row that meets the limits in one step meets them in every later one: none of these times changes",
	},
	{
		regexp.MustCompile(`^\w+ ListActionEvents without ORDER BY id$`),
		"the index on the action has this order, and so has a scan of the table, which is append-only",
	},
	{
		regexp.MustCompile(`^\w+ remediation_events_cancel_requested without (OLD\.cancel_requested_at IS NULL|NEW\.cancel_requested_at IS NOT NULL)$`),
		"a request to cancel is written once and never removed",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_insert without NEW\.(server_id|created_by|command) >= x''$|` +
			`^sqlite remediation_actions_step without NEW\.approved_by >= x''$`),
		"the event of the step would contain that value, which the rules of events refuse",
	},
	{
		regexp.MustCompile(`^sqlite remediation_events_append_only_insert without substr\(NEW\.occurred_at, 20\) GLOB '\.\[0-9\]\[0-9\]`),
		"the general condition is true for it too; this one only lets most events skip the rest",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_cancel without \(?typeof`),
		"the event of the request would contain that value, which the rules of events refuse",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_next without [eg]\.feed_position > newest$`),
		"the highest position of all rows is no lower; the condition skips entries that the same statement has written",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_horizon without cardinality`),
		"if no transactions are excluded, xmin is the same; it differs only on a standby, where internal/soak tests it",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_elsewhere without (EXISTS \(SELECT 1 FROM pg_prepared_xact|p\.)`),
		"internal/soak tests it, on a server that has prepared transactions",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_gone `),
		"its rows are copied, once each, from a table with the same constraints",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) remediation_events_output_cleared without OLD\.status = NEW\.status$`),
		"a change of status clears no output",
	},
	{
		regexp.MustCompile(`^postgres ExplainEventsEnd without (feed_position|id) in `),
		"it only avoids a second read, which would return the right events, or none",
	},
}

// reasonFor returns why a mutant behaves like the original, or "" if a test should notice it.
func reasonFor(name string) string {
	for _, e := range equivalents {
		if e.name.MatchString(name) {
			return e.reason
		}
	}
	return ""
}
