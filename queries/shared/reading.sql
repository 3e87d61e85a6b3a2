-- Lists leave stdout and stderr where they are: a page of history must not load its outputs. Each filter that narrows a
-- long history has a query of its own, because no index serves "any or equal"; the empty string means any.

-- name: GetAction :one
SELECT * FROM remediation_actions WHERE id = @id;

-- name: ListActions :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE id < @before
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByAlert :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE alert_id = CAST(@alert_id AS BIGINT) AND id < @before
    AND (CAST(@server_id AS TEXT) = '' OR server_id = CAST(@server_id AS TEXT))
    AND (CAST(@status AS TEXT) = '' OR status = CAST(@status AS TEXT))
    AND (CAST(@action_type AS TEXT) = '' OR action_type = CAST(@action_type AS TEXT))
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServer :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE server_id = @server_id AND id < @before
    AND (CAST(@action_type AS TEXT) = '' OR action_type = CAST(@action_type AS TEXT))
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServerAndStatus :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE server_id = @server_id AND status = @status AND id < @before
    AND (CAST(@action_type AS TEXT) = '' OR action_type = CAST(@action_type AS TEXT))
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByStatus :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE status = @status AND id < @before
    AND (CAST(@action_type AS TEXT) = '' OR action_type = CAST(@action_type AS TEXT))
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByType :many
SELECT id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr
FROM remediation_actions
WHERE action_type = @action_type AND id < @before
ORDER BY id DESC
LIMIT CAST(@max_rows AS BIGINT);
