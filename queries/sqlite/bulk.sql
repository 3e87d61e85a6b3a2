-- On SQLite a list of ids or statuses is one JSON parameter, on PostgreSQL an array. Rows that predate the rules are
-- skipped if they can't be approved, so that they don't stop the others. skip_unreadable does the same for rows that
-- the driver can't read.

-- name: ApproveActions :many
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id IN (
    SELECT a.id FROM remediation_approvable AS a
    WHERE a.id IN (SELECT value FROM json_each(CAST(@ids AS TEXT)))
        AND (a.expires_at IS NULL OR a.expires_at > @approved_at)
        AND (a.created_by <> CAST(@approved_by AS TEXT) OR NOT EXISTS (
            SELECT 1 FROM remediation_servers AS s WHERE s.server_id = a.server_id AND s.forbids_self_approval))
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

-- Uses the latest of an action's times, because the clock may have been wrong when the action was claimed.
-- max_runtime_seconds is added to whole seconds. Values that an older program recorded are kept, and decide between
-- completed and failed.
-- name: FailOverdueActions :many
UPDATE remediation_actions
SET status = CASE WHEN exit_code = 0 THEN 'completed' ELSE 'failed' END,
    completed_at = coalesce(completed_at, @completed_at),
    stderr = coalesce(stderr, CASE
        WHEN max(remediation_actions.created_at, coalesce(approved_at, remediation_actions.created_at),
            coalesce(executed_at, remediation_actions.created_at), coalesce(heartbeat_at, remediation_actions.created_at))
            < @alive_before THEN CAST(@stderr AS TEXT)
        ELSE 'no result came within its ' || max_runtime_seconds || ' seconds' END)
WHERE id IN (
    SELECT a.id
    FROM (
        SELECT e.id, e.heartbeat_at, e.max_runtime_seconds,
            max(e.created_at, coalesce(e.approved_at, e.created_at), coalesce(e.executed_at, e.created_at)) AS started_at
        FROM remediation_actions AS e
        WHERE e.status = 'executing'
    ) AS a
    WHERE (max(a.started_at, coalesce(a.heartbeat_at, a.started_at)) < @alive_before
            OR datetime(substr(a.started_at, 1, 19), '+' || a.max_runtime_seconds || ' seconds') || substr(a.started_at, 20)
                < @completed_at)
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
    ORDER BY a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status = 'executing'
RETURNING *;

-- name: ExpireActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = 'auto',
    rejection_reason = 'expired at ' || substr(expires_at, 1, 19) || ' UTC'
WHERE id IN (
    SELECT a.id FROM remediation_actions AS a
    WHERE (a.status IN ('pending', 'approved')) IS TRUE AND a.executed_at IS NULL AND a.rejected_at IS NULL AND a.expires_at <= @rejected_at
    ORDER BY a.expires_at, a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status IN ('pending', 'approved')
RETURNING *;

-- name: CountActions :many
SELECT status, count(*) AS actions
FROM remediation_actions
WHERE status IN (SELECT value FROM json_each(CAST(@statuses AS TEXT)))
GROUP BY status;
