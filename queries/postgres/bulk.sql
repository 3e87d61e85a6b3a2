-- PostgreSQL only: a list is an array here, one JSON parameter on SQLite; and rows are locked in the order of their ids, so
-- that two bulk decisions can't wait for each other in a circle. ARRAY(…) runs once; IN (…) may run once a row, and then
-- LIMIT limits nothing. A row from before the rules that can't be decided, or closed, under them, or has a time without
-- end, must not stop the others, so the bulk statements pass over it.

-- name: ApproveActions :many
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.id = ANY(CAST(@ids AS BIGINT[])) AND a.status = 'pending'
        AND a.created_at BETWEEN '0001-01-01' AND '9999-12-31'
        AND coalesce(a.approved_at, a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.approved_by, a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
    ORDER BY a.id
    FOR UPDATE
)) AND status = 'pending'
RETURNING *;

-- name: RejectActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = CAST(@rejected_by AS TEXT),
    rejection_reason = CAST(@rejection_reason AS TEXT)
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.id = ANY(CAST(@ids AS BIGINT[])) AND a.status = 'pending'
        AND a.created_at BETWEEN '0001-01-01' AND '9999-12-31'
        AND coalesce(a.approved_at, a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.approved_by, a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
    ORDER BY a.id
    FOR UPDATE
)) AND status = 'pending'
RETURNING *;

-- name: ListStatuses :many
SELECT id, status FROM remediation_actions WHERE id = ANY(CAST(@ids AS BIGINT[]));

-- name: FailOverdueActions :many
UPDATE remediation_actions
SET status = 'failed', completed_at = @completed_at, stderr = CAST(@stderr AS TEXT)
WHERE id = ANY(ARRAY(
    SELECT a.id FROM remediation_actions AS a
    WHERE a.status = 'executing' AND a.executed_at < @executed_before
        AND a.executed_at BETWEEN '0001-01-01' AND '9999-12-31'
        AND a.created_at BETWEEN '0001-01-01' AND '9999-12-31' AND a.approved_at BETWEEN '0001-01-01' AND '9999-12-31' AND a.approved_by <> ''
        AND coalesce(a.rejected_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
    ORDER BY a.id
    LIMIT CAST(@max_rows AS BIGINT)
    FOR UPDATE SKIP LOCKED
)) AND status = 'executing'
RETURNING *;

-- name: CountActions :many
SELECT status, count(*) AS actions
FROM remediation_actions
WHERE status = ANY(CAST(@statuses AS TEXT[]))
GROUP BY status;
