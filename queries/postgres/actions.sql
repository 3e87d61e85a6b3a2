-- PostgreSQL only: writers run at the same time here, so a statement that depends on a server's mode locks its row (FOR
-- SHARE makes Pause wait, and sees a Pause that it waited for), and a claim passes over rows that others are claiming.

-- No row comes back when the server doesn't exist or has no such alert, when an action has one of the keys, when the action
-- would be expired, or when a row that was inserted with an id of its own has the id that the sequence gave.
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

-- The oldest by id that is due and has not expired. In maintenance nothing
-- runs that no person approved. The outer status guard is what delivers an action once; SKIP LOCKED only keeps claimers
-- from waiting for each other.
-- name: ClaimAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT a.id
    FROM (
        SELECT plain.id FROM remediation_startable AS plain
        WHERE plain.server_id = @server_id AND plain.not_before IS NULL AND plain.expires_at IS NULL
        UNION ALL
        SELECT expiring.id FROM remediation_startable AS expiring
        WHERE expiring.server_id = @server_id AND expiring.not_before IS NULL AND expiring.expires_at > @executed_at
        UNION ALL
        SELECT due.id FROM remediation_startable AS due
        WHERE due.server_id = @server_id AND due.not_before <= @executed_at
            AND (due.expires_at IS NULL OR due.expires_at > @executed_at)
    ) AS q
    JOIN remediation_actions AS a ON a.id = q.id
    JOIN servers AS s ON s.id = a.server_id
    WHERE a.status = 'approved' AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
    ORDER BY q.id
    LIMIT 1
    FOR SHARE OF s
    FOR UPDATE OF a SKIP LOCKED
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

-- The server is part of the guard, as in FinishAction. A clock that went back does not take a heartbeat back.
-- name: HeartbeatAction :one
UPDATE remediation_actions
SET heartbeat_at = greatest(heartbeat_at, CAST(@heartbeat_at AS TIMESTAMPTZ))
WHERE id = @id AND remediation_actions.server_id = @server_id AND status = 'executing'
    AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id)
RETURNING *;
