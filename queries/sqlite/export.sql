-- Pages by primary key, which Import reads to move a ledger to PostgreSQL.

-- name: ExportServers :many
SELECT id, is_paused, paused_at FROM servers WHERE id >= @first ORDER BY id LIMIT CAST(@max_rows AS BIGINT);

-- name: ExportServerSettings :many
SELECT * FROM remediation_servers WHERE server_id >= @first ORDER BY server_id LIMIT CAST(@max_rows AS BIGINT);

-- name: ExportAlerts :many
SELECT id, server_id, title FROM alerts WHERE id > @after ORDER BY id LIMIT CAST(@max_rows AS BIGINT);

-- name: ExportActions :many
SELECT * FROM remediation_actions WHERE id > @after ORDER BY id LIMIT CAST(@max_rows AS BIGINT);

-- name: ExportEvents :many
SELECT * FROM remediation_events WHERE id > @after ORDER BY id LIMIT CAST(@max_rows AS BIGINT);
