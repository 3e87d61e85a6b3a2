-- Each statement here makes one kind of change for a batch of calls. It skips calls that must be refused and calls
-- whose rows another transaction has locked; those calls then run one by one. SKIP LOCKED keeps a batch from waiting
-- for one of its calls and from deadlocking with another batch.
--
-- Each statement is planned once, perhaps while the tables are empty, and without sequential scans. LATERAL, and
-- ANY(ARRAY(…)) beside the join, leave the planner no choice but an index lookup for each row.
--
-- A key that another transaction is inserting can't be skipped. Batches insert their keys in the same order, so they
-- don't deadlock.

-- A key that another transaction is inserting can't be skipped. Every batch inserts its keys in the same order, so that two
-- can't deadlock.
-- name: CreateEach :many
WITH given AS (
    SELECT unnest(CAST(@server_id AS TEXT[])) AS server_id,
        unnest(CAST(@action_type AS TEXT[])) AS action_type,
        nullif(unnest(CAST(@service_name AS TEXT[])), '') AS service_name,
        unnest(CAST(@command AS TEXT[])) AS command,
        unnest(CAST(@created_at AS TIMESTAMPTZ[])) AS created_at,
        unnest(CAST(@created_by AS TEXT[])) AS created_by,
        nullif(unnest(CAST(@alert_id AS BIGINT[])), 0) AS alert_id,
        nullif(unnest(CAST(@dedupe_key AS TEXT[])), '') AS dedupe_key,
        nullif(unnest(CAST(@idempotency_key AS TEXT[])), '') AS idempotency_key,
        CAST(nullif(unnest(CAST(@not_before AS TEXT[])), '') AS TIMESTAMPTZ) AS not_before,
        CAST(nullif(unnest(CAST(@expires_at AS TEXT[])), '') AS TIMESTAMPTZ) AS expires_at,
        nullif(unnest(CAST(@max_runtime_seconds AS BIGINT[])), 0) AS max_runtime_seconds
), found AS (
    SELECT g.server_id, g.action_type, g.service_name, g.command, g.created_at, g.created_by, g.alert_id, g.dedupe_key,
        g.idempotency_key, g.not_before, g.expires_at, g.max_runtime_seconds, s.is_paused
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT m.is_paused FROM servers AS m WHERE m.id = g.server_id FOR SHARE SKIP LOCKED
    ) AS s
    LEFT JOIN LATERAL (
        SELECT a.id, a.server_id FROM alerts AS a WHERE a.id = g.alert_id LIMIT 1
    ) AS l ON l.server_id = g.server_id
    WHERE (g.expires_at > g.created_at) IS NOT FALSE AND l.id IS NOT DISTINCT FROM g.alert_id
)
INSERT INTO remediation_actions (
    server_id, action_type, status, service_name, command, created_at, created_by, alert_id, approved_at, approved_by,
    dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds)
SELECT f.server_id, f.action_type, CASE WHEN f.is_paused = FALSE THEN 'approved' ELSE 'pending' END, f.service_name, f.command,
    f.created_at, f.created_by, f.alert_id,
    CASE WHEN f.is_paused = FALSE THEN f.created_at END,
    CASE WHEN f.is_paused = FALSE THEN 'auto' END,
    f.dedupe_key, f.idempotency_key, f.not_before, f.expires_at, f.max_runtime_seconds
FROM found AS f
ORDER BY f.idempotency_key, f.server_id, f.dedupe_key
ON CONFLICT DO NOTHING
RETURNING *;

-- name: ApproveEach :many
WITH given AS (
    SELECT unnest(CAST(@id AS BIGINT[])) AS id,
        unnest(CAST(@approved_by AS TEXT[])) AS approved_by,
        unnest(CAST(@approved_at AS TIMESTAMPTZ[])) AS approved_at
), found AS (
    SELECT g.id, g.approved_by, g.approved_at
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id FROM remediation_approvable AS a
        WHERE a.id = g.id AND (a.expires_at IS NULL OR a.expires_at > g.approved_at)
            AND (a.created_by <> g.approved_by OR NOT EXISTS (
                SELECT 1 FROM remediation_servers AS s WHERE s.server_id = a.server_id AND s.forbids_self_approval))
        FOR UPDATE SKIP LOCKED
    ) AS pending
)
UPDATE remediation_actions AS t
SET status = 'approved', approved_at = f.approved_at, approved_by = f.approved_by
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;

-- name: RejectEach :many
WITH given AS (
    SELECT unnest(CAST(@id AS BIGINT[])) AS id,
        unnest(CAST(@rejected_by AS TEXT[])) AS rejected_by,
        unnest(CAST(@rejection_reason AS TEXT[])) AS rejection_reason,
        unnest(CAST(@rejected_at AS TIMESTAMPTZ[])) AS rejected_at
), found AS (
    SELECT g.id, g.rejected_by, g.rejection_reason, g.rejected_at
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id FROM remediation_actions AS a
        WHERE a.id = g.id AND a.status = CAST(@from_status AS TEXT)
        FOR UPDATE SKIP LOCKED
    ) AS a
)
UPDATE remediation_actions AS t
SET status = 'rejected', rejected_at = coalesce(t.rejected_at, f.rejected_at),
    rejected_by = coalesce(t.rejected_by, f.rejected_by),
    rejection_reason = coalesce(t.rejection_reason, f.rejection_reason)
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;

-- Servers with approved actions that have limits are left to ClaimAction, because one of those may have the lowest id.
-- name: ClaimEach :many
WITH given AS (
    SELECT unnest(CAST(@server_id AS TEXT[])) AS server_id,
        unnest(CAST(@executed_at AS TIMESTAMPTZ[])) AS executed_at
), found AS (
    SELECT c.id, g.executed_at
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id
        FROM remediation_startable AS a
        JOIN servers AS s ON s.id = a.server_id
        WHERE a.server_id = g.server_id AND a.not_before IS NULL AND a.expires_at IS NULL
            AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
            AND NOT EXISTS (
                SELECT 1 FROM remediation_actions AS l
                WHERE l.server_id = g.server_id AND l.status = 'approved' AND (l.not_before IS NOT NULL OR l.expires_at IS NOT NULL))
        ORDER BY -a.id DESC
        LIMIT 1
        FOR SHARE OF s SKIP LOCKED
        FOR UPDATE OF a SKIP LOCKED
    ) AS c
)
UPDATE remediation_actions AS t
SET status = 'executing', executed_at = f.executed_at
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;

-- name: StartEach :many
WITH given AS (
    SELECT unnest(CAST(@id AS BIGINT[])) AS id,
        unnest(CAST(@executed_at AS TIMESTAMPTZ[])) AS executed_at
), found AS (
    SELECT g.id, g.executed_at
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id
        FROM remediation_startable AS a
        JOIN servers AS s ON s.id = a.server_id
        WHERE a.id = g.id AND (a.approved_by <> 'auto' OR s.is_paused = FALSE)
            AND (a.not_before IS NULL OR a.not_before <= g.executed_at)
            AND (a.expires_at IS NULL OR a.expires_at > g.executed_at)
        FOR SHARE OF s SKIP LOCKED
        FOR UPDATE OF a SKIP LOCKED
    ) AS x
)
UPDATE remediation_actions AS t
SET status = 'executing', executed_at = f.executed_at
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;

-- name: FinishEach :many
WITH given AS (
    SELECT unnest(CAST(@id AS BIGINT[])) AS id,
        unnest(CAST(@server_id AS TEXT[])) AS server_id,
        unnest(CAST(@completed_at AS TIMESTAMPTZ[])) AS completed_at,
        unnest(CAST(@exit_code AS BIGINT[])) AS exit_code,
        unnest(CAST(@stdout AS TEXT[])) AS stdout,
        unnest(CAST(@stderr AS TEXT[])) AS stderr
), found AS (
    SELECT g.id, g.completed_at, g.exit_code, g.stdout, g.stderr
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id FROM remediation_actions AS a
        WHERE a.id = g.id AND a.server_id = g.server_id AND a.status = 'executing'
        FOR UPDATE SKIP LOCKED
    ) AS x
)
UPDATE remediation_actions AS t
SET status = CASE WHEN coalesce(t.exit_code, f.exit_code) = 0 THEN 'completed' ELSE 'failed' END,
    completed_at = coalesce(t.completed_at, f.completed_at),
    exit_code = coalesce(t.exit_code, f.exit_code),
    stdout = coalesce(t.stdout, f.stdout),
    stderr = coalesce(t.stderr, f.stderr)
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;

-- name: HeartbeatEach :many
WITH given AS (
    SELECT unnest(CAST(@id AS BIGINT[])) AS id,
        unnest(CAST(@server_id AS TEXT[])) AS server_id,
        unnest(CAST(@heartbeat_at AS TIMESTAMPTZ[])) AS heartbeat_at
), found AS (
    SELECT g.id, g.heartbeat_at
    FROM given AS g
    CROSS JOIN LATERAL (
        SELECT a.id FROM remediation_actions AS a
        WHERE a.id = g.id AND a.server_id = g.server_id AND a.status = 'executing'
            AND NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = a.id)
        FOR UPDATE SKIP LOCKED
    ) AS x
)
UPDATE remediation_actions AS t
SET heartbeat_at = greatest(t.heartbeat_at, f.heartbeat_at)
FROM found AS f
WHERE t.id = ANY(ARRAY(SELECT found.id FROM found)) AND t.id = f.id
RETURNING t.*;
