-- Optional fields of Create: keys against duplicates, when the action may run, and for how long. Fields of a running
-- action: the last heartbeat of its agent, and a request to cancel it.
ALTER TABLE remediation_actions
    ADD COLUMN dedupe_key VARCHAR(255),
    ADD COLUMN idempotency_key VARCHAR(255),
    ADD COLUMN not_before TIMESTAMPTZ,
    ADD COLUMN expires_at TIMESTAMPTZ,
    ADD COLUMN max_runtime_seconds BIGINT,
    ADD COLUMN heartbeat_at TIMESTAMPTZ,
    ADD COLUMN cancel_requested_at TIMESTAMPTZ,
    ADD COLUMN cancel_requested_by VARCHAR(50),
    ADD COLUMN cancel_reason TEXT;

-- At most one open action for each server and dedupe key, and one action for each idempotency key. Unique indexes also
-- decide between concurrent creates.
CREATE UNIQUE INDEX remediation_actions_open_key ON remediation_actions (server_id, dedupe_key)
WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'approved', 'executing');

CREATE UNIQUE INDEX remediation_actions_idempotency_key ON remediation_actions (idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- Claim reads actions without limits by id and the first actions with limits by id. If none of those may run, it finds
-- other actions with limits by the times at which they become due and expire. The minus keeps PostgreSQL from scanning
-- the primary key, past the actions of all other servers.
CREATE INDEX remediation_actions_claim ON remediation_actions (server_id, (-id))
WHERE status = 'approved' AND not_before IS NULL AND expires_at IS NULL;

CREATE INDEX remediation_actions_claim_limited ON remediation_actions (server_id, (-id))
WHERE status = 'approved' AND (not_before IS NOT NULL OR expires_at IS NOT NULL);

CREATE INDEX remediation_actions_claim_due ON remediation_actions (server_id, not_before, expires_at)
WHERE status = 'approved' AND (not_before IS NOT NULL OR expires_at IS NOT NULL);

-- Expire.
CREATE INDEX remediation_actions_expire ON remediation_actions (expires_at, id)
WHERE status IN ('pending', 'approved') AND expires_at IS NOT NULL;

-- The functions below keep this search path, with temporary tables last, so that a caller can't replace the ledger's
-- tables.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION remediation_actions_limits_insert() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.max_runtime_seconds NOT BETWEEN 1 AND 2147483647
        OR NEW.expires_at <= greatest(NEW.created_at, NEW.not_before, NEW.approved_at, NEW.executed_at)
        OR NEW.executed_at < NEW.not_before
        OR least(NEW.not_before, NEW.heartbeat_at) < '0001-01-01 00:00:00+00'
        OR greatest(NEW.not_before, NEW.expires_at, NEW.heartbeat_at) >= '10000-01-01 00:00:00+00'
        OR (NEW.executed_at IS NULL AND num_nonnulls(NEW.heartbeat_at, NEW.cancel_requested_at) > 0)
        OR (CASE WHEN NEW.cancel_requested_at IS NULL THEN num_nonnulls(NEW.cancel_requested_by, NEW.cancel_reason) = 0
            ELSE NEW.cancel_requested_by <> '' AND NEW.cancel_reason <> '' END) IS NOT TRUE
    THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation',
            MESSAGE = 'remediation_actions_limits: the limits, the heartbeat or the request to cancel do not fit the action',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'remediation_actions_limits';
    END IF;
    RETURN NEW;
END
$$;

-- Most actions have none of these columns.
CREATE TRIGGER remediation_actions_limits_insert BEFORE INSERT ON remediation_actions
FOR EACH ROW WHEN (num_nonnulls(NEW.not_before, NEW.expires_at, NEW.max_runtime_seconds, NEW.heartbeat_at,
    NEW.cancel_requested_at, NEW.cancel_requested_by, NEW.cancel_reason) > 0)
EXECUTE FUNCTION remediation_actions_limits_insert();

-- An action is never approved or started at or after expires_at, or started before not_before. A request to cancel is
-- made once, while the action is executing, and changes nothing else.
CREATE FUNCTION remediation_actions_limits_update() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    refused CONSTANT text := CASE
        WHEN (OLD.cancel_requested_at, OLD.cancel_requested_by, OLD.cancel_reason)
            IS DISTINCT FROM (NEW.cancel_requested_at, NEW.cancel_requested_by, NEW.cancel_reason)
            AND (OLD.status = 'executing' AND NEW.status = 'executing' AND OLD.cancel_requested_at IS NULL
                AND NEW.cancel_requested_at IS NOT NULL AND NEW.cancel_requested_by <> '' AND NEW.cancel_reason <> '') IS NOT TRUE
        THEN 'remediation_actions_cancel: a request to cancel is made once, while the action executes'
        WHEN NEW.heartbeat_at IS DISTINCT FROM OLD.heartbeat_at
            AND (OLD.status = 'executing' AND NEW.status = 'executing' AND NEW.heartbeat_at < '10000-01-01 00:00:00+00'
                AND NEW.heartbeat_at >= coalesce(OLD.heartbeat_at, '0001-01-01 00:00:00+00')) IS NOT TRUE
        THEN 'remediation_actions_heartbeat: only what executes has a heartbeat, and it never goes back'
        WHEN (OLD.dedupe_key, OLD.idempotency_key, OLD.not_before, OLD.expires_at, OLD.max_runtime_seconds)
            IS DISTINCT FROM
            (NEW.dedupe_key, NEW.idempotency_key, NEW.not_before, NEW.expires_at, NEW.max_runtime_seconds)
        THEN 'remediation_actions_immutable_limits: what an action is never changes'
        WHEN OLD.status <> NEW.status AND (
            (NEW.status = 'approved' AND NEW.expires_at <= NEW.approved_at)
            OR (NEW.status = 'executing' AND (NEW.expires_at <= greatest(NEW.approved_at, NEW.executed_at)
                OR NEW.executed_at < NEW.not_before)))
        THEN 'remediation_actions_limits: an action is approved and started before its expires_at, and not started before its not_before'
        END;
BEGIN
    IF refused IS NULL THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = refused,
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = split_part(refused, ':', 1);
END
$$;

CREATE TRIGGER remediation_actions_limits_update BEFORE UPDATE ON remediation_actions
FOR EACH ROW WHEN (num_nonnulls(OLD.dedupe_key, OLD.idempotency_key, OLD.not_before, OLD.expires_at, OLD.max_runtime_seconds,
    OLD.heartbeat_at, OLD.cancel_requested_at, NEW.dedupe_key, NEW.idempotency_key, NEW.not_before, NEW.expires_at,
    NEW.max_runtime_seconds, NEW.heartbeat_at, NEW.cancel_requested_at, NEW.cancel_requested_by, NEW.cancel_reason) > 0)
EXECUTE FUNCTION remediation_actions_limits_update();

REVOKE EXECUTE ON FUNCTION remediation_actions_limits_insert(), remediation_actions_limits_update() FROM PUBLIC;

-- Actions that may be approved. A row that predates the rules is excluded if one of its audit fields is set.
CREATE VIEW remediation_approvable WITH (security_invoker = true) AS
SELECT a.id, a.server_id, a.created_at, a.created_by, a.expires_at
FROM remediation_actions AS a
WHERE a.status = 'pending'
    AND coalesce(a.approved_at, a.rejected_at, a.executed_at, a.completed_at) IS NULL
    AND coalesce(a.approved_by, a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL;
GRANT SELECT ON remediation_approvable TO PUBLIC;

-- Actions that may be started if their limits and the mode of their server allow it. A row that predates the rules is
-- excluded unless it has exactly the fields of an approval, with times that the driver can read. The condition is a
-- CASE because PostgreSQL estimates each IS NULL as rare, and would sort what it then expects to be one row. Reading
-- this view, the one before it or the one after it needs the right to read the table.
CREATE VIEW remediation_startable WITH (security_invoker = true) AS
SELECT a.id, a.server_id, a.approved_by, a.not_before, a.expires_at
FROM remediation_actions AS a
WHERE a.status = 'approved' AND CASE
    WHEN isfinite(a.created_at) AND isfinite(a.approved_at) AND a.approved_by <> ''
        AND coalesce(a.rejected_at, a.executed_at, a.completed_at) IS NULL
        AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL THEN TRUE
    ELSE FALSE END;
GRANT SELECT ON remediation_startable TO PUBLIC;

-- Actions as lists return them.
CREATE VIEW remediation_listed WITH (security_invoker = true) AS
SELECT a.id, a.server_id, a.action_type, a.status, a.service_name, a.command, a.created_at, a.created_by, a.alert_id,
    a.approved_at, a.approved_by, a.rejected_at, a.rejected_by, a.rejection_reason, a.executed_at, a.completed_at, a.exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    a.dedupe_key, a.idempotency_key, a.not_before, a.expires_at, a.max_runtime_seconds,
    a.heartbeat_at, a.cancel_requested_at, a.cancel_requested_by, a.cancel_reason
FROM remediation_actions AS a;
GRANT SELECT ON remediation_listed TO PUBLIC;
