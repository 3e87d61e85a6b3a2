package main

import "regexp"

// equivalents are guards whose loss no caller can see, with the reason.
var equivalents = []struct {
	name   *regexp.Regexp
	reason string
}{
	{
		regexp.MustCompile(`^sqlite (alerts|remediation_actions|remediation_events) id without NOT NULL$`),
		"to SQLite a NULL in an INTEGER PRIMARY KEY is the next id",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions (status|created_at) without NOT NULL$`),
		"the triggers refuse NULL there too, as a status that isn't known and a time that isn't text",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions status without NOT NULL$`),
		"the trigger refuses NULL there too, as a status that isn't known",
	},
	{
		regexp.MustCompile(`^postgres (servers id|remediation_servers server_id) without NOT NULL$`),
		"a PRIMARY KEY says so too",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) remediation_actions server_id without NOT NULL$`),
		"the event of its creation would lack its server, which the table of the events refuses",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions created_at without NOT NULL$|` +
			`^sqlite remediation_actions_consistent_update without NEW\.(rejected|completed)_at IS NOT NULL`),
		"the event of it would lack its time, which the table of the events refuses",
	},
	{
		regexp.MustCompile(`^postgres remediation_actions_keep_alert without NEW\.alert_id IS NULL$`),
		"the other half holds as well: the alert that a row names exists, because of its foreign key",
	},
	{
		regexp.MustCompile(`^\w+ remediation_actions_(open_key without dedupe_key|idempotency_key without idempotency_key) IS NOT NULL$`),
		"NULL is never the same as NULL; it only keeps the index small",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_(open_key|idempotency_key) without UNIQUE$`),
		"the trigger beside it refuses the same, nothing opens an ended action again, and SQLite's one writer lets nobody in between",
	},
	{
		regexp.MustCompile(`^sqlite (ClaimAction|ExplainAction) without LIMIT 1( \(2\))?$`),
		"SQLite takes the first row of a subselect that stands for a value",
	},
	{
		regexp.MustCompile(`^sqlite (ClaimAction|FailOverdueActions|ExpireActions|PruneActions|ClearOutput) without status `),
		"the subselect says so too, and SQLite's one writer lets nobody in between",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) (CountActions without status|ListStatuses without id) `),
		"the caller looks up only what it asked for; this keeps the history from being read, which the plans are tested for",
	},
	{
		regexp.MustCompile(`^sqlite ((ClaimAction|FailOverdueActions) without ORDER BY a\.id|ExplainAction without ORDER BY [eq]\.id|` +
			`(ListEvents|Export\w+) without ORDER BY id)$`),
		"SQLite walks the primary key, or an index that ends in it, in its order",
	},
	{
		regexp.MustCompile(`^sqlite (PruneActions|ClearOutput|ExpireActions) without ORDER BY `),
		"SQLite walks the index in that order, which the plans are tested for",
	},
	{
		regexp.MustCompile(`^sqlite AddServer without ON CONFLICT `),
		"NOT EXISTS says so too, and SQLite's one writer lets nobody in between",
	},
	{
		regexp.MustCompile(`^sqlite Export\w+ without LIMIT `),
		"Import copies page by page, whatever a page holds; the limit is for its memory",
	},
	{
		regexp.MustCompile(`^postgres (ClaimAction|ApproveActions|RejectActions|FailOverdueActions|ExpireActions|PruneActions|ClearOutput) without status `),
		"the subselect locks its rows, and looks at them again when it has the lock",
	},
	{
		regexp.MustCompile(`^postgres (ApproveActions|RejectActions) without (a\.status = 'pending'|FOR UPDATE)$`),
		"the UPDATE says so too, and takes the rows in the same order as long as its plan is a search by the sorted ids",
	},
	{
		regexp.MustCompile(`^sqlite remediation_listed without coalesce`),
		"a row without all of them gives NULLs too; it lets SQLite read the index alone, which the plans are tested for",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_limits_step without NEW\.status (IN \('approved', 'executing'\)|= 'executing')$|` +
			`^postgres remediation_actions_limits_update without NEW\.(status = '\w+'|approved_at in greatest\(…)$`),
		"what fits the limits in one step fits them in every later one: none of its times changes",
	},
	{
		regexp.MustCompile(`^\w+ ListActionEvents without ORDER BY id$`),
		"the index on the action gives them in this order, and so does a scan of a table that is only appended to",
	},
	{
		regexp.MustCompile(`^\w+ remediation_events_cancel_requested without (OLD\.cancel_requested_at IS NULL|NEW\.cancel_requested_at IS NOT NULL)$`),
		"a request to cancel is made once and never taken back",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_insert without NEW\.(server_id|created_by|command) >= x''$|` +
			`^sqlite remediation_actions_step without NEW\.approved_by >= x''$`),
		"the event of the step would hold that value, which the rules of events refuse",
	},
	{
		regexp.MustCompile(`^sqlite remediation_events_append_only_insert without substr\(NEW\.occurred_at, 20\) GLOB '\.\[0-9\]\[0-9\]`),
		"the general form holds for it too; this spares most events the rest of it",
	},
	{
		regexp.MustCompile(`^sqlite remediation_actions_cancel without \(?typeof`),
		"the event of the request would hold that value, which the rules of events refuse",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_next without [eg]\.feed_position > newest$`),
		"the highest position of all is no lower; this passes over the entries that the same statement has written",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_horizon without cardinality`),
		"without ids to leave out xmin says the same; only a standby differs, where internal/soak tests it",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_elsewhere without (EXISTS \(SELECT 1 FROM pg_prepared_xact|p\.)`),
		"internal/soak tests it, on a server that has prepared transactions",
	},
	{
		regexp.MustCompile(`^postgres remediation_events_gone `),
		"its rows are copied from a table with the same constraints, once each",
	},
	{
		regexp.MustCompile(`^(sqlite|postgres) remediation_events_output_cleared without OLD\.status = NEW\.status$`),
		"a change of status clears no output",
	},
	{
		regexp.MustCompile(`^postgres ExplainEventsEnd without (feed_position|id) in `),
		"it only spares a second read, which finds the events or none",
	},
}

// reasonFor returns why a mutant changes nothing, or nothing if it should be noticed.
func reasonFor(name string) string {
	for _, e := range equivalents {
		if e.name.MatchString(name) {
			return e.reason
		}
	}
	return ""
}
