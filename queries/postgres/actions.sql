-- PostgreSQL only: writers run at the same time here, so a statement that depends on a server's mode locks its row (FOR
-- SHARE makes Pause wait, and sees a Pause that it waited for), and a claim passes over rows that others are claiming.

-- No row comes back when the server doesn't exist or has no such alert, when an open action has the key, or when a row
-- that was inserted with an id of its own has the id that the sequence gave.
-- name: CreateAction :one
INSERT INTO remediation_actions (
    server_id, action_type, status, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key)
SELECT s.id, @action_type, CASE WHEN s.is_paused = FALSE THEN 'approved' ELSE 'pending' END, sqlc.narg('service_name'), @command,
    CAST(@created_at AS TIMESTAMPTZ), @created_by, CAST(sqlc.narg('alert_id') AS BIGINT),
    CASE WHEN s.is_paused = FALSE THEN CAST(@created_at AS TIMESTAMPTZ) END,
    CASE WHEN s.is_paused = FALSE THEN 'auto' END,
    sqlc.narg('dedupe_key')
FROM servers AS s
WHERE s.id = @server_id
    AND (CAST(sqlc.narg('alert_id') AS BIGINT) IS NULL
        OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = CAST(sqlc.narg('alert_id') AS BIGINT) AND a.server_id = s.id))
FOR SHARE OF s
ON CONFLICT DO NOTHING
RETURNING *;

-- The oldest by id. In maintenance nothing runs that no person approved. The outer status guard is what delivers an
-- action once; SKIP LOCKED only keeps claimers from waiting for each other.
-- name: ClaimAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT a.id
    FROM remediation_actions AS a
    JOIN servers AS s ON s.id = a.server_id
    WHERE a.server_id = @server_id AND a.status = 'approved' AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
        -- passes over rows from before the rules that could not become executing under them, or not be read
        AND isfinite(a.created_at) AND isfinite(a.approved_at) AND a.approved_by <> ''
        AND coalesce(a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
    ORDER BY a.id
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
    AND isfinite(created_at) AND isfinite(approved_at) AND approved_by <> ''
    AND coalesce(rejected_at, executed_at, completed_at) IS NULL
    AND coalesce(rejected_by, rejection_reason, stdout, stderr) IS NULL AND exit_code IS NULL
RETURNING *;
