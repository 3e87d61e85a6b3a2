-- Lists leave stdout and stderr where they are: a page of history must not load its outputs. dedupe_key lies behind them,
-- so on SQLite a list reads it from the index remediation_actions_key, which the CAST makes it take. Each filter that
-- narrows a long history has a query of its own, because no index serves "any or equal"; the empty string means any.

-- name: GetAction :one
SELECT * FROM remediation_actions WHERE id = @id;

-- name: ListActions :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    (SELECT k.dedupe_key FROM remediation_actions AS k WHERE CAST(k.id AS BIGINT) = a.id AND k.dedupe_key IS NOT NULL) AS dedupe_key
FROM remediation_actions AS a
WHERE a.id < @before
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
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- Why an insert wrote nothing: what it refers to, and the open action that has its key (0: none).
-- name: ExplainCreate :one
SELECT
    (SELECT count(*) FROM servers AS s WHERE s.id = @server_id) AS servers,
    (SELECT count(*) FROM alerts AS l WHERE l.id = CAST(@alert_id AS BIGINT)) AS alerts,
    CAST(coalesce((
        SELECT a.id FROM remediation_actions AS a
        WHERE a.server_id = @server_id AND a.dedupe_key = CAST(@dedupe_key AS TEXT)
            AND a.status IN ('pending', 'approved', 'executing')
    ), 0) AS BIGINT) AS duplicate_of;

-- Everything that Explain needs, in one look. What is ahead on the server is what an agent runs, or Claim takes first.
-- name: ExplainAction :one
SELECT a.id, a.server_id, a.status, a.created_at, a.approved_at, a.approved_by, a.rejected_at, a.rejected_by,
    a.rejection_reason, a.executed_at, a.completed_at, a.exit_code, s.is_paused, s.paused_at,
    CAST(a.created_at BETWEEN '0001-01-01' AND '9999-12-31'
        AND coalesce(a.approved_at BETWEEN '0001-01-01' AND '9999-12-31', FALSE) AND coalesce(a.approved_by, '') <> ''
        AND coalesce(a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL
        AS BOOLEAN) AS startable,
    CAST(coalesce((
        SELECT e.id FROM remediation_actions AS e
        WHERE e.server_id = a.server_id AND e.status = 'executing'
        ORDER BY e.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_executing,
    CAST(coalesce((
        SELECT q.id FROM remediation_actions AS q
        WHERE q.server_id = a.server_id AND q.status = 'approved' AND q.id < a.id
            AND (q.approved_by <> 'auto' OR s.is_paused = FALSE) AND q.approved_by <> ''
            AND q.created_at BETWEEN '0001-01-01' AND '9999-12-31' AND q.approved_at BETWEEN '0001-01-01' AND '9999-12-31'
            AND coalesce(q.rejected_at, q.executed_at, q.completed_at) IS NULL
            AND coalesce(q.rejected_by, q.rejection_reason, q.stdout, q.stderr) IS NULL AND q.exit_code IS NULL
        ORDER BY q.id
        LIMIT 1
    ), 0) AS BIGINT) AS behind_approved
FROM remediation_actions AS a
JOIN servers AS s ON s.id = a.server_id
WHERE a.id = @id;
