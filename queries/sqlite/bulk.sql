-- SQLite only: a list of ids or statuses is one JSON parameter here, an array on PostgreSQL. A row from before the rules
-- that can't be approved under them is passed over, so that it does not stop the others; so is one that the driver can't
-- read, once one was met.

-- name: ApproveActions :many
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id IN (
    SELECT a.id FROM remediation_actions AS a
    WHERE a.id IN (SELECT value FROM json_each(CAST(@ids AS TEXT))) AND a.status = 'pending'
        AND coalesce(a.approved_at, a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.approved_by, a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
)
RETURNING *;

-- name: RejectActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = coalesce(rejected_at, @rejected_at),
    rejected_by = coalesce(rejected_by, CAST(@rejected_by AS TEXT)),
    rejection_reason = coalesce(rejection_reason, CAST(@rejection_reason AS TEXT))
WHERE id IN (
    SELECT a.id FROM remediation_actions AS a
    WHERE a.id IN (SELECT value FROM json_each(CAST(@ids AS TEXT))) AND a.status = 'pending'
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
)
RETURNING *;

-- name: ListStatuses :many
SELECT id, status FROM remediation_actions WHERE id IN (SELECT value FROM json_each(CAST(@ids AS TEXT)));

-- The latest of an action's times counts, because a clock may have been wrong when it was claimed. What an older program
-- recorded stays, and decides how it ended.
-- name: FailOverdueActions :many
UPDATE remediation_actions
SET status = CASE WHEN exit_code = 0 THEN 'completed' ELSE 'failed' END,
    completed_at = coalesce(completed_at, @completed_at), stderr = coalesce(stderr, CAST(@stderr AS TEXT))
WHERE id IN (
    SELECT a.id FROM remediation_actions AS a
    WHERE a.status = 'executing'
        AND max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at)) < @executed_before
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
    ORDER BY a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status = 'executing'
RETURNING *;

-- name: CountActions :many
SELECT status, count(*) AS actions
FROM remediation_actions
WHERE status IN (SELECT value FROM json_each(CAST(@statuses AS TEXT)))
GROUP BY status;
