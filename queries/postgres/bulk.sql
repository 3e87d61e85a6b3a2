-- On PostgreSQL a list is an array, on SQLite a JSON parameter. Rows are locked in the order of their ids, so that bulk
-- decisions don't deadlock. ARRAY(…) runs once; IN (…) may run once for each row, and its LIMIT then has no effect.
-- Rows that predate the rules are skipped if they can't be approved or read, so that they don't stop the others.

-- name: ApproveActions :many
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_approvable AS a
    WHERE a.id = ANY(CAST(@ids AS BIGINT[]))
        AND (a.expires_at IS NULL OR a.expires_at > @approved_at)
        AND (a.created_by <> CAST(@approved_by AS TEXT) OR NOT EXISTS (
            SELECT 1 FROM remediation_servers AS s WHERE s.server_id = a.server_id AND s.forbids_self_approval))
        AND isfinite(a.created_at)
    ORDER BY a.id
    FOR UPDATE
)) AND status = 'pending'
RETURNING *;

-- name: RejectActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = coalesce(rejected_at, @rejected_at),
    rejected_by = coalesce(rejected_by, CAST(@rejected_by AS TEXT)),
    rejection_reason = coalesce(rejection_reason, CAST(@rejection_reason AS TEXT))
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.id = ANY(CAST(@ids AS BIGINT[])) AND a.status = 'pending'
        AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
    ORDER BY a.id
    FOR UPDATE
)) AND status = 'pending'
RETURNING *;

-- name: ListStatuses :many
SELECT id, status FROM remediation_actions WHERE id = ANY(CAST(@ids AS BIGINT[]));

-- Uses the latest of an action's times, because the clock may have been wrong when the action was claimed. Values that
-- an older program recorded are kept, and decide between completed and failed.
-- name: FailOverdueActions :many
UPDATE remediation_actions
SET status = CASE WHEN exit_code = 0 THEN 'completed' ELSE 'failed' END,
    completed_at = coalesce(completed_at, @completed_at),
    stderr = coalesce(stderr, CASE
        WHEN greatest(remediation_actions.created_at, approved_at, executed_at, heartbeat_at) < @alive_before THEN CAST(@stderr AS TEXT)
        ELSE 'no result came within its ' || max_runtime_seconds || ' seconds' END)
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.status = 'executing'
        AND (greatest(a.created_at, a.approved_at, a.executed_at, a.heartbeat_at) < @alive_before
            OR greatest(a.created_at, a.approved_at, a.executed_at) + a.max_runtime_seconds * INTERVAL '1 second' < @completed_at)
        AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
    ORDER BY a.id
    LIMIT CAST(@max_rows AS BIGINT)
    FOR UPDATE SKIP LOCKED
)) AND status = 'executing'
RETURNING *;

-- name: ExpireActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = 'auto',
    rejection_reason = 'expired at ' || to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.status IN ('pending', 'approved') AND a.expires_at <= @rejected_at
    ORDER BY a.expires_at, a.id
    LIMIT CAST(@max_rows AS BIGINT)
    FOR UPDATE SKIP LOCKED
)) AND status IN ('pending', 'approved')
RETURNING *;

-- name: CountActions :many
SELECT status, count(*) AS actions
FROM remediation_actions
WHERE status = ANY(CAST(@statuses AS TEXT[]))
GROUP BY status;
