-- Only terminal actions, oldest first. SQLite has a single writer and needs no row locks, unlike PostgreSQL. A time
-- that predates the rules may be a number; such a row is never pruned or cleared.

-- name: PruneActions :execrows
DELETE FROM remediation_actions
WHERE id IN (
    SELECT oldest.id FROM (
        SELECT o.id, o.ended_at FROM remediation_ended AS o WHERE o.has_output = 1 AND o.ended_at >= '' AND o.ended_at < @before
        UNION ALL
        SELECT n.id, n.ended_at FROM remediation_ended AS n WHERE n.has_output = 0 AND n.ended_at >= '' AND n.ended_at < @before
        ORDER BY ended_at, id
        LIMIT CAST(@max_rows AS BIGINT)
    ) AS oldest
) AND status IN ('completed', 'failed', 'rejected', 'timed_out');

-- name: ClearOutput :execrows
UPDATE remediation_actions
SET stdout = NULL, stderr = NULL
WHERE id IN (
    SELECT e.id FROM remediation_ended AS e
    WHERE e.has_output = 1 AND e.ended_at >= '' AND e.ended_at < @before
    ORDER BY e.ended_at, e.id
    LIMIT CAST(@max_rows AS BIGINT)
) AND status IN ('completed', 'failed', 'rejected', 'timed_out');
