-- COPY statements for Import, which moves a ledger from SQLite to PostgreSQL with its ids and events.

-- name: ImportServers :copyfrom
INSERT INTO servers (id, is_paused, paused_at) VALUES (@id, @is_paused, @paused_at);

-- name: ImportServerSettings :copyfrom
INSERT INTO remediation_servers (server_id, forbids_self_approval) VALUES (@server_id, @forbids_self_approval);

-- name: ImportAlerts :copyfrom
INSERT INTO alerts (id, server_id, title) VALUES (@id, @server_id, @title);

-- name: ImportActions :copyfrom
INSERT INTO remediation_actions (
    id, server_id, action_type, status, service_name, command, created_at, created_by, alert_id,
    approved_at, approved_by, rejected_at, rejected_by, rejection_reason, executed_at, completed_at, exit_code,
    stdout, stderr, dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds, heartbeat_at,
    cancel_requested_at, cancel_requested_by, cancel_reason
) VALUES (
    @id, @server_id, @action_type, @status, @service_name, @command, @created_at, @created_by, @alert_id,
    @approved_at, @approved_by, @rejected_at, @rejected_by, @rejection_reason, @executed_at, @completed_at, @exit_code,
    @stdout, @stderr, @dedupe_key, @idempotency_key, @not_before, @expires_at, @max_runtime_seconds, @heartbeat_at,
    @cancel_requested_at, @cancel_requested_by, @cancel_reason
);

-- name: ImportEvents :copyfrom
INSERT INTO remediation_events (id, action_id, server_id, kind, actor, occurred_at, detail)
VALUES (@id, @action_id, @server_id, @kind, @actor, @occurred_at, @detail);
