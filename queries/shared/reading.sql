-- Lists leave stdout and stderr where they are: a page of history must not load its outputs. dedupe_key lies behind them,
-- so on SQLite a list reads it from the index remediation_actions_key, which the CAST makes it take. Each filter that
-- narrows a long history has a query of its own, because no index serves "any or equal"; the empty string means any. A
-- row from before the rules may hold a value that the driver can't read; once one was met, skip_unreadable leaves it out.

-- name: GetAction :one
SELECT * FROM remediation_actions WHERE id = @id;

-- name: ListActions :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.id < @before
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByAlert :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.alert_id = CAST(@alert_id AS BIGINT) AND a.id < @before
    AND (CAST(@server_id AS TEXT) = '' OR a.server_id = CAST(@server_id AS TEXT))
    AND (CAST(@status AS TEXT) = '' OR a.status = CAST(@status AS TEXT))
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServer :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.server_id = @server_id AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServerAndStatus :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.server_id = @server_id AND a.status = @status AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByStatus :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.status = @status AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByType :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.action_type = @action_type AND a.id < @before
    AND (CAST(@status AS TEXT) = '' OR a.status = CAST(@status AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- Why an insert wrote nothing: what it refers to, and the open action that has its key (0: none).
-- name: ExplainCreate :one
SELECT
    (SELECT count(*) FROM servers AS s WHERE s.id = @server_id) AS servers,
    (SELECT count(*) FROM alerts AS l WHERE l.id = CAST(@alert_id AS BIGINT) AND l.server_id = @server_id) AS alerts,
    CAST(coalesce((
        SELECT a.id FROM remediation_actions AS a
        WHERE a.server_id = @server_id AND a.dedupe_key = CAST(@dedupe_key AS TEXT)
            AND a.status IN ('pending', 'approved', 'executing')
    ), 0) AS BIGINT) AS duplicate_of;

-- Everything that Explain needs, in one look. What is ahead on the server is what an agent runs, or Claim takes first. What
-- the driver can't read is NULL: r is the action's row if it can be read; skip_paused_at is for a server that can't be.
-- name: ExplainAction :one
SELECT a.id, a.server_id, a.status, r.created_at, r.approved_at, r.approved_by, r.rejected_at, r.rejected_by,
    r.rejection_reason, r.executed_at, r.completed_at, r.exit_code,
    CAST(NOT (s.is_paused = FALSE) AS BOOLEAN) AS is_paused, p.paused_at,
    CAST(r.id IS NOT NULL
        AND coalesce(r.approved_at, r.rejected_at, r.executed_at, r.completed_at) IS NULL
        AND coalesce(r.approved_by, r.rejected_by, r.rejection_reason, r.stdout, r.stderr) IS NULL AND r.exit_code IS NULL
        AS BOOLEAN) AS approvable,
    CAST(r.approved_at IS NOT NULL AND coalesce(r.approved_by, '') <> ''
        AND coalesce(r.rejected_at, r.executed_at, r.completed_at) IS NULL
        AND coalesce(r.rejected_by, r.rejection_reason, r.stdout, r.stderr) IS NULL AND r.exit_code IS NULL
        AS BOOLEAN) AS startable,
    CAST(coalesce((
        SELECT e.id FROM remediation_actions AS e
        WHERE e.server_id = a.server_id AND e.status = 'executing' AND e.completed_at IS NULL AND e.exit_code IS NULL
        ORDER BY e.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_executing,
    CAST(coalesce((
        SELECT q.id FROM remediation_actions AS q
        WHERE q.server_id = a.server_id AND q.status = 'approved' AND q.id < a.id
            AND (q.approved_by <> 'auto' OR s.is_paused = FALSE)
            AND q.approved_at IS NOT NULL AND q.approved_by <> ''
            AND coalesce(q.rejected_at, q.executed_at, q.completed_at) IS NULL
            AND coalesce(q.rejected_by, q.rejection_reason, q.stdout, q.stderr) IS NULL AND q.exit_code IS NULL
            AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = q.id)
        ORDER BY q.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_approved
FROM remediation_actions AS a
JOIN servers AS s ON s.id = a.server_id
LEFT JOIN remediation_actions AS r
    ON r.id = a.id AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
LEFT JOIN servers AS p ON p.id = s.id AND NOT CAST(@skip_paused_at AS BOOLEAN)
WHERE a.id = @id;

-- The ids of one action's events are in the order of its changes on both engines, because each change waits for the one
-- before it.
-- name: ListActionEvents :many
SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events
WHERE action_id = @action_id
ORDER BY id;
