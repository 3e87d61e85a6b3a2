-- PostgreSQL runs writers concurrently. A statement that depends on a server's mode therefore locks the server's row:
-- FOR SHARE makes Pause wait, and reads the mode again after waiting for Pause. A claim skips rows that other claims
-- have locked.

-- Returns no row if the server or its alert does not exist, if another action has one of the keys, if the action would
-- already be expired, or if a row inserted with an explicit id has the sequence's next id.
-- name: CreateAction :one
INSERT INTO remediation_actions (
    server_id, action_type, status, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds)
SELECT s.id, @action_type, CASE WHEN s.is_paused = FALSE THEN 'approved' ELSE 'pending' END, sqlc.narg('service_name'), @command,
    CAST(@created_at AS TIMESTAMPTZ), @created_by, CAST(sqlc.narg('alert_id') AS BIGINT),
    CASE WHEN s.is_paused = FALSE THEN CAST(@created_at AS TIMESTAMPTZ) END,
    CASE WHEN s.is_paused = FALSE THEN 'auto' END,
    sqlc.narg('dedupe_key'), sqlc.narg('idempotency_key'), sqlc.narg('not_before'),
    CAST(sqlc.narg('expires_at') AS TIMESTAMPTZ), sqlc.narg('max_runtime_seconds')
FROM servers AS s
WHERE s.id = @server_id
    AND (CAST(sqlc.narg('expires_at') AS TIMESTAMPTZ) > CAST(@created_at AS TIMESTAMPTZ)) IS NOT FALSE
    AND (CAST(sqlc.narg('alert_id') AS BIGINT) IS NULL
        OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = CAST(sqlc.narg('alert_id') AS BIGINT) AND a.server_id = s.id))
FOR SHARE OF s
ON CONFLICT DO NOTHING
RETURNING *;

-- name: ApproveAction :one
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id = (
    SELECT q.id FROM remediation_approvable AS q
    WHERE q.id = @id AND (q.expires_at IS NULL OR q.expires_at > @approved_at)
        AND (q.created_by <> CAST(@approved_by AS TEXT) OR NOT EXISTS (
            SELECT 1 FROM remediation_servers AS s WHERE s.server_id = q.server_id AND s.forbids_self_approval))
) AND status = 'pending'
RETURNING *;

-- Claims the action with the lowest id that is due, has not expired, and may run in the server's mode. The outer status
-- condition makes sure that an action is claimed once; SKIP LOCKED only avoids waiting. "early" has the candidates
-- among the first actions with limits. "late" is read only if there are none, and finds the others by their times. Each
-- list has several candidates, because other claims may have locked the first ones.
-- name: ClaimAction :one
WITH early AS (
    SELECT f.id
    FROM (
        SELECT l.id, l.approved_by, l.not_before, l.expires_at FROM remediation_actions AS l
        WHERE l.server_id = @server_id AND l.status = 'approved' AND (l.not_before IS NOT NULL OR l.expires_at IS NOT NULL)
        ORDER BY -l.id DESC
        LIMIT 32
    ) AS f
    WHERE (f.not_before IS NULL OR f.not_before <= @executed_at) AND (f.expires_at IS NULL OR f.expires_at > @executed_at)
        AND (f.approved_by <> 'auto' OR (SELECT m.is_paused = FALSE FROM servers AS m WHERE m.id = @server_id))
)
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT x.id
    FROM (
        (SELECT p.id FROM remediation_startable AS p
        WHERE p.server_id = @server_id AND p.not_before IS NULL AND p.expires_at IS NULL
            AND (p.approved_by <> 'auto' OR (SELECT m.is_paused = FALSE FROM servers AS m WHERE m.id = @server_id))
        ORDER BY -p.id DESC
        LIMIT 32)
        UNION ALL
        SELECT early.id FROM early
        UNION ALL
        (SELECT late.id
        FROM (
            SELECT e.id, e.approved_by FROM remediation_actions AS e
            WHERE e.server_id = @server_id AND e.status = 'approved' AND e.not_before IS NULL AND e.expires_at > @executed_at
            UNION ALL
            SELECT d.id, d.approved_by FROM remediation_actions AS d
            WHERE d.server_id = @server_id AND d.status = 'approved' AND d.not_before <= @executed_at
                AND (d.expires_at IS NULL OR d.expires_at > @executed_at)
        ) AS late
        WHERE NOT EXISTS (SELECT 1 FROM early)
            AND (late.approved_by <> 'auto' OR (SELECT m.is_paused = FALSE FROM servers AS m WHERE m.id = @server_id))
        ORDER BY late.id
        LIMIT 32)
    ) AS c
    CROSS JOIN LATERAL (
        SELECT a.id FROM remediation_actions AS a
        JOIN servers AS s ON s.id = a.server_id
        WHERE a.id = c.id AND a.status = 'approved' AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
        FOR SHARE OF s
        FOR UPDATE OF a SKIP LOCKED
    ) AS x
    ORDER BY c.id
    LIMIT 1
) AND status = 'approved'
RETURNING *;

-- name: StartAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE remediation_actions.id = @id AND status = 'approved'
    AND (approved_by <> 'auto' OR EXISTS (
        SELECT 1 FROM servers AS s WHERE s.id = remediation_actions.server_id AND s.is_paused = FALSE FOR SHARE))
    AND (not_before IS NULL OR not_before <= @executed_at) AND (expires_at IS NULL OR expires_at > @executed_at)
    AND EXISTS (SELECT 1 FROM remediation_startable AS q WHERE q.id = @id)
RETURNING *;

-- The server is part of the condition, as in FinishAction. A clock that was set back does not move the heartbeat back.
-- name: HeartbeatAction :one
UPDATE remediation_actions
SET heartbeat_at = greatest(heartbeat_at, CAST(@heartbeat_at AS TIMESTAMPTZ))
WHERE id = @id AND remediation_actions.server_id = @server_id AND status = 'executing'
    AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id)
RETURNING *;

-- Reads everything that Explain needs in one statement. The actions ahead are those that the server is executing and
-- the one that Claim takes next. Values that the driver can't read are NULL: r is the action's row if all its values
-- can be read, and skip_paused_at leaves out an unreadable paused_at.
-- name: ExplainAction :one
SELECT a.id, a.server_id, a.status, r.created_at, r.created_by, r.approved_at, r.approved_by, r.rejected_at, r.rejected_by,
    r.rejection_reason, r.executed_at, r.completed_at, r.exit_code, r.not_before, r.expires_at,
    r.cancel_requested_at, r.cancel_requested_by,
    CAST(NOT (s.is_paused = FALSE) AS BOOLEAN) AS is_paused, p.paused_at,
    CAST(coalesce(f.forbids_self_approval, FALSE) AS BOOLEAN) AS forbids_self_approval,
    CAST(r.id IS NOT NULL AND EXISTS (SELECT 1 FROM remediation_approvable AS o WHERE o.id = a.id) AS BOOLEAN) AS approvable,
    CAST(r.id IS NOT NULL AND EXISTS (SELECT 1 FROM remediation_startable AS q WHERE q.id = a.id) AS BOOLEAN) AS startable,
    CAST(coalesce((
        SELECT e.id FROM remediation_actions AS e
        WHERE e.server_id = a.server_id AND e.status = 'executing' AND e.completed_at IS NULL AND e.exit_code IS NULL
        ORDER BY e.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_executing,
    CAST(coalesce((
        SELECT q.id
        FROM (
            SELECT plain.id, plain.approved_by FROM remediation_startable AS plain
            WHERE plain.server_id = a.server_id AND plain.not_before IS NULL AND plain.expires_at IS NULL
            UNION ALL
            SELECT expiring.id, expiring.approved_by FROM remediation_startable AS expiring
            WHERE expiring.server_id = a.server_id AND expiring.not_before IS NULL AND expiring.expires_at > @now
            UNION ALL
            SELECT due.id, due.approved_by FROM remediation_startable AS due
            WHERE due.server_id = a.server_id AND due.not_before <= @now AND (due.expires_at IS NULL OR due.expires_at > @now)
        ) AS q
        WHERE (q.approved_by <> 'auto' OR s.is_paused = FALSE)
            AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = q.id)
        ORDER BY q.id
        LIMIT 1
    ), 0) AS BIGINT) AS next_to_claim
FROM remediation_actions AS a
JOIN servers AS s ON s.id = a.server_id
LEFT JOIN remediation_servers AS f ON f.server_id = s.id
LEFT JOIN remediation_actions AS r
    ON r.id = a.id AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
LEFT JOIN servers AS p ON p.id = s.id AND NOT CAST(@skip_paused_at AS BOOLEAN)
WHERE a.id = @id;
