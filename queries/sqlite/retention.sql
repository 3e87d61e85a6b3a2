-- SQLite only: it has one writer at a time, where PostgreSQL must lock rows to take them once. Oldest first, and only
-- what is terminal. IS TRUE, as in the indexes, because without it SQLite prefers the one on status and sorts all history.

-- name: PruneActions :execrows
DELETE FROM remediation_actions
WHERE id IN (
    SELECT a.id
    FROM remediation_actions AS a
    WHERE (a.status IN ('completed', 'failed', 'rejected', 'timed_out')) IS TRUE
        AND max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)) >= '' -- a number sorts before all text
        AND max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)) < @before
    ORDER BY max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)), a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status IN ('completed', 'failed', 'rejected', 'timed_out');

-- name: ClearOutput :execrows
UPDATE remediation_actions
SET stdout = NULL, stderr = NULL
WHERE id IN (
    SELECT a.id
    FROM remediation_actions AS a
    WHERE (a.status IN ('completed', 'failed', 'rejected', 'timed_out')) IS TRUE
        AND (a.stdout IS NOT NULL OR a.stderr IS NOT NULL)
        AND max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)) >= '' -- a number sorts before all text
        AND max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)) < @before
    ORDER BY max(a.created_at, coalesce(a.approved_at, a.created_at), coalesce(a.executed_at, a.created_at),
            coalesce(a.completed_at, a.rejected_at, a.created_at)), a.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status IN ('completed', 'failed', 'rejected', 'timed_out');
