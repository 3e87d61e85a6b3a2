DROP VIEW remediation_listed;
DROP VIEW remediation_startable;
DROP VIEW remediation_approvable;
DROP TRIGGER remediation_actions_limits_update ON remediation_actions;
DROP TRIGGER remediation_actions_limits_insert ON remediation_actions;
DROP FUNCTION remediation_actions_limits_update();
DROP FUNCTION remediation_actions_limits_insert();
ALTER TABLE remediation_actions
    DROP COLUMN cancel_reason,
    DROP COLUMN cancel_requested_by,
    DROP COLUMN cancel_requested_at,
    DROP COLUMN heartbeat_at,
    DROP COLUMN max_runtime_seconds,
    DROP COLUMN expires_at,
    DROP COLUMN not_before,
    DROP COLUMN idempotency_key,
    DROP COLUMN dedupe_key;
