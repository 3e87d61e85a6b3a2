-- SQLite has a single writer and needs no row locks, unlike PostgreSQL. PostgreSQL also needs "CAST(@created_at AS
-- timestamptz)" to type the CASE, and on SQLite that cast turns a time into a number.

-- Returns no row if the server or its alert does not exist, if another action has one of the keys, or if the action
-- would already be expired. The statement reads the mode and writes the row, so no Pause can come in between. It
-- returns only the columns that the caller does not know, because each column costs the driver two allocations.
-- name: CreateAction :one
INSERT INTO remediation_actions (
    server_id, action_type, status, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds)
SELECT s.id, @action_type, CASE WHEN s.is_paused = FALSE THEN 'approved' ELSE 'pending' END, @service_name, @command,
    @created_at, @created_by, @alert_id,
    CASE WHEN s.is_paused = FALSE THEN @created_at END,
    CASE WHEN s.is_paused = FALSE THEN 'auto' END,
    @dedupe_key, @idempotency_key, @not_before, @expires_at, @max_runtime_seconds
FROM servers AS s
WHERE s.id = @server_id AND (@expires_at IS NULL OR @expires_at > @created_at)
    AND (@alert_id IS NULL OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = @alert_id AND a.server_id = s.id))
    AND NOT EXISTS (
        SELECT 1 FROM remediation_actions AS o
        WHERE o.server_id = s.id AND o.dedupe_key = @dedupe_key AND o.completed_at IS NULL AND o.rejected_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM remediation_actions AS o WHERE o.idempotency_key = @idempotency_key)
RETURNING id, server_id, status;

-- The columns that are not returned are NULL in an approved action, or known to the caller.
-- name: ApproveAction :one
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id = (
    SELECT q.id FROM remediation_approvable AS q
    WHERE q.id = @id AND (q.expires_at IS NULL OR q.expires_at > @approved_at)
        AND (q.created_by <> CAST(@approved_by AS TEXT) OR NOT EXISTS (
            SELECT 1 FROM remediation_servers AS s WHERE s.server_id = q.server_id AND s.forbids_self_approval))
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = q.id))
)
RETURNING id, server_id, action_type, service_name, command, created_at, created_by, alert_id,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds;

-- Claims the action with the lowest id that is due, has not expired, and may run in the server's mode. "early" has the
-- first actions with limits. "late" is read only if none of those may run, and finds the others by their times. INDEXED
-- BY is needed because after ANALYZE SQLite may choose an index that reads every approved action. Rows that predate the
-- rules are skipped if they may not become executing; so are rows that the driver can't read if skip_unreadable is set.
-- The columns that are not returned are NULL or known to the caller.
-- name: ClaimAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT min(coalesce(c.plain, c.limited), coalesce(c.limited, c.plain)) FROM (
        SELECT (
            SELECT a.id FROM remediation_actions AS a INDEXED BY remediation_actions_claim
            WHERE a.server_id = @server_id AND a.status = 'approved' AND a.not_before IS NULL AND a.expires_at IS NULL
                AND (a.approved_by <> 'auto' OR EXISTS (SELECT 1 FROM servers AS s WHERE s.id = @server_id AND s.is_paused = FALSE))
                AND EXISTS (SELECT 1 FROM remediation_startable AS q WHERE q.id = a.id)
                AND (NOT CAST(@skip_unreadable AS BOOLEAN)
                    OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
            ORDER BY a.id
            LIMIT 1
        ) AS plain, (
            SELECT coalesce((
                SELECT early.id FROM (
                    SELECT a.id, a.approved_by,
                        (a.not_before IS NULL OR a.not_before <= @executed_at)
                            AND (a.expires_at IS NULL OR a.expires_at > @executed_at) AS may_run
                    FROM remediation_actions AS a INDEXED BY remediation_actions_claim_limited
                    WHERE a.server_id = @server_id AND (a.not_before IS NOT NULL OR a.expires_at IS NOT NULL)
                        AND a.approved_at IS NOT NULL AND a.executed_at IS NULL AND a.rejected_at IS NULL
                    ORDER BY a.id
                    LIMIT 32
                ) AS early
                WHERE early.may_run AND (early.approved_by <> 'auto' OR EXISTS (SELECT 1 FROM servers AS s WHERE s.id = @server_id AND s.is_paused = FALSE))
                ORDER BY early.id
                LIMIT 1
            ), (
                SELECT late.id FROM (
                    SELECT e.id, e.approved_by FROM remediation_actions AS e INDEXED BY remediation_actions_claim_due
                    WHERE e.server_id = @server_id AND e.not_before IS NULL AND e.expires_at > @executed_at
                        AND e.approved_at IS NOT NULL AND e.executed_at IS NULL AND e.rejected_at IS NULL
                    UNION ALL
                    SELECT d.id, d.approved_by FROM remediation_actions AS d INDEXED BY remediation_actions_claim_due
                    WHERE d.server_id = @server_id AND d.not_before <= @executed_at AND (d.expires_at IS NULL OR d.expires_at > @executed_at)
                        AND d.approved_at IS NOT NULL AND d.executed_at IS NULL AND d.rejected_at IS NULL
                ) AS late
                WHERE late.approved_by <> 'auto' OR EXISTS (SELECT 1 FROM servers AS s WHERE s.id = @server_id AND s.is_paused = FALSE)
                ORDER BY late.id
                LIMIT 1
            ))
            WHERE EXISTS (
                SELECT 1 FROM remediation_actions AS l INDEXED BY remediation_actions_claim_limited
                WHERE l.server_id = @server_id AND (l.not_before IS NOT NULL OR l.expires_at IS NOT NULL)
                    AND l.approved_at IS NOT NULL AND l.executed_at IS NULL AND l.rejected_at IS NULL)
        ) AS limited
    ) AS c
) AND status = 'approved'
RETURNING id, server_id, action_type, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds;

-- name: StartAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE remediation_actions.id = @id AND status = 'approved'
    AND (approved_by <> 'auto' OR EXISTS (
        SELECT 1 FROM servers AS s WHERE s.id = remediation_actions.server_id AND s.is_paused = FALSE))
    AND (not_before IS NULL OR not_before <= @executed_at) AND (expires_at IS NULL OR expires_at > @executed_at)
    AND EXISTS (SELECT 1 FROM remediation_startable AS q WHERE q.id = @id)
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING id, server_id, action_type, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds;

-- The server is part of the condition, as in FinishAction. A clock that was set back does not move the heartbeat back.
-- name: HeartbeatAction :one
UPDATE remediation_actions
SET heartbeat_at = CASE WHEN heartbeat_at > @heartbeat_at THEN heartbeat_at ELSE @heartbeat_at END
WHERE id = @id AND remediation_actions.server_id = @server_id AND status = 'executing'
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;

-- Reads everything that Explain needs in one statement. The actions ahead are those that the server is executing and
-- the one that Claim takes next. Values that the driver can't read are NULL: r is the action's row if all its values
-- can be read, and skip_paused_at leaves out an unreadable paused_at.
-- name: ExplainAction :one
SELECT t.id, t.server_id, t.status, r.created_at, r.created_by, r.approved_at, r.approved_by, r.rejected_at, r.rejected_by,
    r.rejection_reason, r.executed_at, r.completed_at, r.exit_code, r.not_before, r.expires_at,
    r.cancel_requested_at, r.cancel_requested_by,
    CAST(NOT (s.is_paused = FALSE) AS BOOLEAN) AS is_paused, p.paused_at,
    CAST(coalesce(f.forbids_self_approval, FALSE) AS BOOLEAN) AS forbids_self_approval,
    CAST(r.id IS NOT NULL AND EXISTS (SELECT 1 FROM remediation_approvable AS o WHERE o.id = t.id) AS BOOLEAN) AS approvable,
    CAST(r.id IS NOT NULL AND EXISTS (SELECT 1 FROM remediation_startable AS q WHERE q.id = t.id) AS BOOLEAN) AS startable,
    CAST(coalesce((
        SELECT e.id FROM remediation_actions AS e
        WHERE e.server_id = t.server_id AND e.status = 'executing' AND e.completed_at IS NULL AND e.exit_code IS NULL
        ORDER BY e.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_executing,
    CAST(coalesce((
        SELECT min(coalesce(c.plain, c.limited), coalesce(c.limited, c.plain)) FROM (
            SELECT (
                SELECT a.id FROM remediation_actions AS a INDEXED BY remediation_actions_claim
                WHERE a.server_id = t.server_id AND a.status = 'approved' AND a.not_before IS NULL AND a.expires_at IS NULL
                    AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
                    AND EXISTS (SELECT 1 FROM remediation_startable AS n WHERE n.id = a.id)
                    AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
                ORDER BY a.id
                LIMIT 1
            ) AS plain, (
                SELECT coalesce((
                    SELECT early.id FROM (
                        SELECT a.id, a.approved_by,
                            (a.not_before IS NULL OR a.not_before <= @now)
                                AND (a.expires_at IS NULL OR a.expires_at > @now) AS may_run
                        FROM remediation_actions AS a INDEXED BY remediation_actions_claim_limited
                        WHERE a.server_id = t.server_id AND (a.not_before IS NOT NULL OR a.expires_at IS NOT NULL)
                            AND a.approved_at IS NOT NULL AND a.executed_at IS NULL AND a.rejected_at IS NULL
                        ORDER BY a.id
                        LIMIT 32
                    ) AS early
                    WHERE early.may_run AND (early.approved_by <> 'auto' OR s.is_paused = FALSE)
                    ORDER BY early.id
                    LIMIT 1
                ), (
                    SELECT late.id FROM (
                        SELECT e.id, e.approved_by FROM remediation_actions AS e INDEXED BY remediation_actions_claim_due
                        WHERE e.server_id = t.server_id AND e.not_before IS NULL AND e.expires_at > @now
                            AND e.approved_at IS NOT NULL AND e.executed_at IS NULL AND e.rejected_at IS NULL
                        UNION ALL
                        SELECT d.id, d.approved_by FROM remediation_actions AS d INDEXED BY remediation_actions_claim_due
                        WHERE d.server_id = t.server_id AND d.not_before <= @now AND (d.expires_at IS NULL OR d.expires_at > @now)
                            AND d.approved_at IS NOT NULL AND d.executed_at IS NULL AND d.rejected_at IS NULL
                    ) AS late
                    WHERE late.approved_by <> 'auto' OR s.is_paused = FALSE
                    ORDER BY late.id
                    LIMIT 1
                ))
                WHERE EXISTS (
                    SELECT 1 FROM remediation_actions AS l INDEXED BY remediation_actions_claim_limited
                    WHERE l.server_id = t.server_id AND (l.not_before IS NOT NULL OR l.expires_at IS NOT NULL)
                        AND l.approved_at IS NOT NULL AND l.executed_at IS NULL AND l.rejected_at IS NULL)
            ) AS limited
        ) AS c
    ), 0) AS BIGINT) AS next_to_claim
FROM remediation_actions AS t
JOIN servers AS s ON s.id = t.server_id
LEFT JOIN remediation_servers AS f ON f.server_id = s.id
LEFT JOIN remediation_actions AS r
    ON r.id = t.id AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = t.id)
LEFT JOIN servers AS p ON p.id = s.id AND NOT CAST(@skip_paused_at AS BOOLEAN)
WHERE t.id = @id;
