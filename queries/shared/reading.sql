-- Lists read a view that does not read stdout and stderr. Each selective filter has a query of its own, because no
-- index serves "any or equal"; an empty string means any. A row that predates the rules may have a value that the
-- driver can't read; skip_unreadable leaves such rows out.

-- name: GetAction :one
SELECT * FROM remediation_actions WHERE id = @id;

-- name: ListActions :many
SELECT * FROM remediation_listed AS a
WHERE a.id < @before
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByAlert :many
SELECT * FROM remediation_listed AS a
WHERE a.alert_id = CAST(@alert_id AS BIGINT) AND a.id < @before
    AND (CAST(@server_id AS TEXT) = '' OR a.server_id = CAST(@server_id AS TEXT))
    AND (CAST(@status AS TEXT) = '' OR a.status = CAST(@status AS TEXT))
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServer :many
SELECT * FROM remediation_listed AS a
WHERE a.server_id = @server_id AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByServerAndStatus :many
SELECT * FROM remediation_listed AS a
WHERE a.server_id = @server_id AND a.status = @status AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByStatus :many
SELECT * FROM remediation_listed AS a
WHERE a.status = @status AND a.id < @before
    AND (CAST(@action_type AS TEXT) = '' OR a.action_type = CAST(@action_type AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- name: ListActionsByType :many
SELECT * FROM remediation_listed AS a
WHERE a.action_type = @action_type AND a.id < @before
    AND (CAST(@status AS TEXT) = '' OR a.status = CAST(@status AS TEXT))
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id))
ORDER BY a.id DESC
LIMIT CAST(@max_rows AS BIGINT);

-- Tells why an insert wrote nothing: whether the server and the alert exist, and which actions have the keys (0: none).
-- name: ExplainCreate :one
SELECT
    (SELECT count(*) FROM servers AS s WHERE s.id = @server_id) AS servers,
    (SELECT count(*) FROM alerts AS l WHERE l.id = CAST(@alert_id AS BIGINT) AND l.server_id = @server_id) AS alerts,
    CAST(coalesce((
        SELECT a.id FROM remediation_actions AS a
        WHERE a.server_id = @server_id AND a.dedupe_key = CAST(@dedupe_key AS TEXT)
            AND a.status IN ('pending', 'approved', 'executing') AND a.completed_at IS NULL AND a.rejected_at IS NULL
    ), 0) AS BIGINT) AS duplicate_of,
    CAST(coalesce((
        SELECT a.id FROM remediation_actions AS a WHERE a.idempotency_key = CAST(@idempotency_key AS TEXT)
    ), 0) AS BIGINT) AS first_id;

-- On both engines the ids of an action's events are in the order of its changes, because each change waits for the one
-- before.
-- name: ListActionEvents :many
SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events
WHERE action_id = @action_id
ORDER BY id;
