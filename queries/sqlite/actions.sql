-- SQLite only: SQLite has one writer at a time, where PostgreSQL needs row locks; and "CAST(@created_at AS timestamptz)",
-- without which PostgreSQL can't type the CASE, turns a time into a number here.

-- No row comes back when the server doesn't exist or has no such alert, or when an open action has the key. The mode is read
-- where the row is written, so nobody can pause the server in between.
-- name: CreateAction :one
INSERT INTO remediation_actions (
    server_id, action_type, status, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key)
SELECT s.id, @action_type, CASE WHEN s.is_paused = FALSE THEN 'approved' ELSE 'pending' END, @service_name, @command,
    @created_at, @created_by, @alert_id,
    CASE WHEN s.is_paused = FALSE THEN @created_at END,
    CASE WHEN s.is_paused = FALSE THEN 'auto' END,
    @dedupe_key
FROM servers AS s
WHERE s.id = @server_id
    AND (@alert_id IS NULL OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = @alert_id AND a.server_id = s.id))
    AND NOT EXISTS (
        SELECT 1 FROM remediation_actions AS o
        WHERE o.server_id = s.id AND o.dedupe_key = @dedupe_key AND o.status IN ('pending', 'approved', 'executing'))
RETURNING *;

-- The oldest by id. In maintenance nothing runs that no person approved. A row from before the rules that can't become
-- executing under them is passed over; so is one that the driver can't read, once one was met.
-- name: ClaimAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE id = (
    SELECT a.id
    FROM remediation_actions AS a
    JOIN servers AS s ON s.id = a.server_id
    WHERE a.server_id = @server_id AND a.status = 'approved' AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
        AND a.approved_at IS NOT NULL AND typeof(a.approved_by) = 'text' AND a.approved_by <> ''
        AND coalesce(a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
        AND (NOT CAST(@skip_unreadable AS BOOLEAN)
            OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
    ORDER BY a.id
    LIMIT 1
) AND status = 'approved'
RETURNING *;

-- name: StartAction :one
UPDATE remediation_actions
SET status = 'executing', executed_at = @executed_at
WHERE remediation_actions.id = @id AND status = 'approved'
    AND (approved_by <> 'auto' OR EXISTS (
        SELECT 1 FROM servers AS s WHERE s.id = remediation_actions.server_id AND s.is_paused = FALSE))
    AND approved_at IS NOT NULL AND typeof(approved_by) = 'text' AND approved_by <> ''
    AND coalesce(rejected_at, executed_at, completed_at) IS NULL
    AND coalesce(rejected_by, rejection_reason, stdout, stderr) IS NULL AND exit_code IS NULL
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;
