-- Terminal actions by whether they have output, and by the latest of their times, which is when they ended unless a
-- clock was wrong. Prune and ClearOutput share one index, because every transition checks each index that refers to the
-- status.
CREATE INDEX remediation_actions_ended ON remediation_actions (
    (stdout IS NOT NULL OR stderr IS NOT NULL),
    max(created_at, coalesce(approved_at, created_at), coalesce(executed_at, created_at),
        coalesce(completed_at, rejected_at, created_at)))
WHERE (status = 'completed' OR status = 'failed' OR status = 'rejected' OR status = 'timed_out') IS TRUE;

-- The rows of that index.
CREATE VIEW remediation_ended AS
SELECT a.id, (a.stdout IS NOT NULL OR a.stderr IS NOT NULL) AS has_output,
    max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
        coalesce(a.completed_at, a.rejected_at, a.created_at)) AS ended_at
FROM remediation_actions AS a
WHERE (a.status = 'completed' OR a.status = 'failed' OR a.status = 'rejected' OR a.status = 'timed_out') IS TRUE;
