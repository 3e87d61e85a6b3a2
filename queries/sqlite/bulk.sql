-- SQLite only: a list of ids or statuses is one JSON parameter here, an array on PostgreSQL. A row from before the rules
-- that can't be decided, or closed, under them, or not be read, must not stop the others, so the bulk statements pass
-- over it.

-- name: ApproveActions :many
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id IN (SELECT value FROM json_each(CAST(@ids AS TEXT))) AND status = 'pending'
    AND created_at BETWEEN '0001-01-01' AND '9999-12-31'
    AND coalesce(approved_at, rejected_at, executed_at, completed_at) IS NULL
    AND coalesce(approved_by, rejected_by, rejection_reason, stdout, stderr) IS NULL AND exit_code IS NULL
RETURNING *;

-- name: RejectActions :many
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = CAST(@rejected_by AS TEXT),
    rejection_reason = CAST(@rejection_reason AS TEXT)
WHERE id IN (SELECT value FROM json_each(CAST(@ids AS TEXT))) AND status = 'pending'
    AND created_at BETWEEN '0001-01-01' AND '9999-12-31'
    AND coalesce(approved_at, rejected_at, executed_at, completed_at) IS NULL
    AND coalesce(approved_by, rejected_by, rejection_reason, stdout, stderr) IS NULL AND exit_code IS NULL
RETURNING *;

-- name: ListStatuses :many
SELECT id, status FROM remediation_actions WHERE id IN (SELECT value FROM json_each(CAST(@ids AS TEXT)));

-- name: FailOverdueActions :many
UPDATE remediation_actions
SET status = 'failed', completed_at = @completed_at, stderr = CAST(@stderr AS TEXT)
WHERE id IN (
    SELECT a.id FROM remediation_actions AS a
    WHERE a.status = 'executing' AND a.executed_at < @executed_before
        AND a.executed_at BETWEEN '0001-01-01' AND '9999-12-31'
        AND a.created_at BETWEEN '0001-01-01' AND '9999-12-31' AND a.approved_at BETWEEN '0001-01-01' AND '9999-12-31' AND a.approved_by <> ''
        AND coalesce(a.rejected_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
    ORDER BY a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status = 'executing'
RETURNING *;

-- name: CountActions :many
SELECT status, count(*) AS actions
FROM remediation_actions
WHERE status IN (SELECT value FROM json_each(CAST(@statuses AS TEXT)))
GROUP BY status;
