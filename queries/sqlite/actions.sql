-- SQLite only: SQLite has one writer at a time, where PostgreSQL needs row locks; and "CAST(@created_at AS timestamptz)",
-- without which PostgreSQL can't type the CASE, turns a time into a number here.

-- No row comes back when the server doesn't exist or has no such alert, when an action has one of the keys, or when the
-- action would be expired. The mode is read where the row is written, so nobody can pause the server in between.
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
        WHERE o.server_id = s.id AND o.dedupe_key = @dedupe_key AND o.status IN ('pending', 'approved', 'executing'))
    AND NOT EXISTS (SELECT 1 FROM remediation_actions AS o WHERE o.idempotency_key = @idempotency_key)
RETURNING *;

-- The oldest by id that is due and has not expired. In maintenance nothing
-- runs that no person approved. A row that predates the rules and can't become executing under them is passed over; so is
-- one that the driver can't read, once one was met.
-- name: ClaimAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT q.id
    FROM (
        SELECT plain.id, plain.approved_by FROM remediation_startable AS plain
        WHERE plain.server_id = @server_id AND plain.not_before IS NULL AND plain.expires_at IS NULL
        UNION ALL
        SELECT expiring.id, expiring.approved_by FROM remediation_startable AS expiring
        WHERE expiring.server_id = @server_id AND expiring.not_before IS NULL AND expiring.expires_at > @executed_at
        UNION ALL
        SELECT due.id, due.approved_by FROM remediation_startable AS due
        WHERE due.server_id = @server_id AND due.not_before <= @executed_at
            AND (due.expires_at IS NULL OR due.expires_at > @executed_at)
    ) AS q
    WHERE (q.approved_by <> 'auto' OR EXISTS (SELECT 1 FROM servers AS s WHERE s.id = @server_id AND s.is_paused = FALSE))
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = q.id))
    ORDER BY q.id
    LIMIT 1
) AND status = 'approved'
RETURNING *;

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
RETURNING *;

-- The server is part of the guard, as in FinishAction. A clock that went back does not take a heartbeat back.
-- name: HeartbeatAction :one
UPDATE remediation_actions
SET heartbeat_at = CASE WHEN heartbeat_at > @heartbeat_at THEN heartbeat_at ELSE @heartbeat_at END
WHERE id = @id AND remediation_actions.server_id = @server_id AND status = 'executing'
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;
