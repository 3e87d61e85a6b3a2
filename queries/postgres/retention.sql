-- Only terminal actions, oldest first. On PostgreSQL concurrent runs skip each other's rows, so they don't deadlock.
-- ARRAY(…) runs once; IN (…) may run once for each row, and its LIMIT then has no effect.

-- name: PruneActions :execrows
DELETE FROM remediation_actions
WHERE id = ANY(ARRAY(
    SELECT a.id
    FROM remediation_actions AS a
    WHERE a.status IN ('completed', 'failed', 'rejected', 'timed_out')
        AND greatest(a.created_at, a.approved_at, a.rejected_at, a.executed_at, a.completed_at) < @before
    ORDER BY greatest(a.created_at, a.approved_at, a.rejected_at, a.executed_at, a.completed_at), a.id
    LIMIT CAST(@max_rows AS BIGINT)
    FOR UPDATE SKIP LOCKED
)) AND status IN ('completed', 'failed', 'rejected', 'timed_out');

-- name: ClearOutput :execrows
UPDATE remediation_actions
SET stdout = NULL, stderr = NULL
WHERE id = ANY(ARRAY(
    SELECT a.id
    FROM remediation_actions AS a
    WHERE a.status IN ('completed', 'failed', 'rejected', 'timed_out')
        AND (a.stdout IS NOT NULL OR a.stderr IS NOT NULL)
        AND greatest(a.created_at, a.approved_at, a.rejected_at, a.executed_at, a.completed_at) < @before
    ORDER BY greatest(a.created_at, a.approved_at, a.rejected_at, a.executed_at, a.completed_at), a.id
    LIMIT CAST(@max_rows AS BIGINT)
    FOR UPDATE SKIP LOCKED
)) AND status IN ('completed', 'failed', 'rejected', 'timed_out');
