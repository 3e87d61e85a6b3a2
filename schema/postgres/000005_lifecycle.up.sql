-- The lifecycle, enforced by the database so that no program and no person at a shell can break it. Each rule is a
-- trigger with the name that it has on SQLite, and not a CHECK, which would bind rows from before this migration as
-- soon as anything touched them, such as ON DELETE SET NULL.

-- The functions below keep this search path, with temporary tables last: a caller's must not stand in for ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- A refusal is a check_violation (23514) whose constraint is the trigger's name.
CREATE FUNCTION remediation_actions_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = TG_NAME || ': ' || TG_ARGV[0],
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;

-- Naming the column is enough to fire this, so writing the status that a row already has is refused too.
CREATE TRIGGER remediation_actions_transition
BEFORE UPDATE OF status ON remediation_actions
FOR EACH ROW WHEN ((OLD.status, NEW.status) NOT IN (
    ('pending', 'approved'),
    ('pending', 'rejected'),
    ('approved', 'executing'),
    ('approved', 'rejected'),
    ('executing', 'completed'),
    ('executing', 'failed')))
EXECUTE FUNCTION remediation_actions_refuse('the lifecycle forbids this change of status');

-- A status has exactly the audit fields that it implies. stdout and stderr are free once there is a result.
CREATE TRIGGER remediation_actions_consistent
BEFORE INSERT OR UPDATE OF status ON remediation_actions
FOR EACH ROW WHEN ((CASE
    WHEN NEW.status = 'pending' THEN
        num_nonnulls(NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                     NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) = 0
    WHEN NEW.status = 'rejected' THEN
        NEW.rejected_at IS NOT NULL AND NEW.rejected_by <> '' AND NEW.rejection_reason <> ''
        AND (NEW.approved_at IS NULL) = (NEW.approved_by IS NULL)
        AND num_nonnulls(NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) = 0
    WHEN NEW.status IN ('approved', 'executing', 'completed', 'failed') THEN
        NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
        AND num_nonnulls(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason) = 0
        AND (NEW.executed_at IS NULL) = (NEW.status = 'approved')
        AND CASE NEW.status
            WHEN 'completed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS NOT DISTINCT FROM 0
            WHEN 'failed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS DISTINCT FROM 0
            ELSE num_nonnulls(NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) = 0
            END
    END) IS NOT TRUE)
EXECUTE FUNCTION remediation_actions_refuse('the audit fields do not fit the status');

-- What was approved is what runs.
CREATE TRIGGER remediation_actions_immutable
BEFORE UPDATE ON remediation_actions
FOR EACH ROW WHEN (
    (OLD.id, OLD.server_id, OLD.action_type, OLD.service_name, OLD.command, OLD.created_at, OLD.created_by)
    IS DISTINCT FROM
    (NEW.id, NEW.server_id, NEW.action_type, NEW.service_name, NEW.command, NEW.created_at, NEW.created_by))
EXECUTE FUNCTION remediation_actions_refuse('what an action is never changes');

-- An audit field is written once, by the transition that it belongs to. One change comes after the end: both outputs of a
-- terminal action may be cleared, when they have been kept long enough. Outputs are evidence, so that takes the right to
-- delete actions, which an agent has not.
CREATE TRIGGER remediation_actions_immutable_audit
BEFORE UPDATE OF approved_at, approved_by, rejected_at, rejected_by, rejection_reason,
    executed_at, completed_at, exit_code, stdout, stderr ON remediation_actions
FOR EACH ROW WHEN (
    (OLD.approved_at IS NOT NULL AND NEW.approved_at IS DISTINCT FROM OLD.approved_at)
    OR (OLD.approved_by IS NOT NULL AND NEW.approved_by IS DISTINCT FROM OLD.approved_by)
    OR (OLD.rejected_at IS NOT NULL AND NEW.rejected_at IS DISTINCT FROM OLD.rejected_at)
    OR (OLD.rejected_by IS NOT NULL AND NEW.rejected_by IS DISTINCT FROM OLD.rejected_by)
    OR (OLD.rejection_reason IS NOT NULL AND NEW.rejection_reason IS DISTINCT FROM OLD.rejection_reason)
    OR (NEW.status = 'rejected' AND (OLD.approved_at, OLD.approved_by) IS DISTINCT FROM (NEW.approved_at, NEW.approved_by))
    OR (OLD.executed_at IS NOT NULL AND NEW.executed_at IS DISTINCT FROM OLD.executed_at)
    OR (OLD.completed_at IS NOT NULL AND NEW.completed_at IS DISTINCT FROM OLD.completed_at)
    OR (OLD.exit_code IS NOT NULL AND NEW.exit_code IS DISTINCT FROM OLD.exit_code)
    OR (OLD.status = NEW.status
        AND (OLD.approved_at, OLD.approved_by, OLD.rejected_at, OLD.rejected_by, OLD.rejection_reason,
             OLD.executed_at, OLD.completed_at, OLD.exit_code)
        IS DISTINCT FROM (NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                          NEW.executed_at, NEW.completed_at, NEW.exit_code))
    OR (OLD.status <> NEW.status
        AND ((OLD.stdout IS NOT NULL AND NEW.stdout IS DISTINCT FROM OLD.stdout)
            OR (OLD.stderr IS NOT NULL AND NEW.stderr IS DISTINCT FROM OLD.stderr)))
    OR (OLD.status = NEW.status
        AND (OLD.stdout, OLD.stderr) IS DISTINCT FROM (NEW.stdout, NEW.stderr)
        AND NOT (OLD.status IN ('completed', 'failed', 'rejected') AND NEW.stdout IS NULL AND NEW.stderr IS NULL
            AND has_table_privilege('remediation_actions'::regclass, 'DELETE'))))
EXECUTE FUNCTION remediation_actions_refuse('an audit field is written once, with its change of status');

-- ON DELETE SET NULL arrives here as an UPDATE, after its alert is gone.
CREATE FUNCTION remediation_actions_keep_alert() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.alert_id IS NULL AND NOT EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = OLD.alert_id) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = TG_NAME || ': an action keeps its alert as long as the alert exists',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER remediation_actions_immutable_alert
BEFORE UPDATE OF alert_id ON remediation_actions
FOR EACH ROW WHEN (OLD.alert_id IS NOT NULL AND NEW.alert_id IS DISTINCT FROM OLD.alert_id)
EXECUTE FUNCTION remediation_actions_keep_alert();

-- 'infinity' is a time that no program reads.
CREATE TRIGGER remediation_actions_times
BEFORE INSERT OR UPDATE OF approved_at, rejected_at, executed_at, completed_at ON remediation_actions
FOR EACH ROW WHEN (NOT isfinite(NEW.created_at) OR NOT isfinite(NEW.approved_at) OR NOT isfinite(NEW.rejected_at)
    OR NOT isfinite(NEW.executed_at) OR NOT isfinite(NEW.completed_at))
EXECUTE FUNCTION remediation_actions_refuse('a time must be finite');

-- Since when a server is paused is part of the audit trail: it is written with the mode, and not without.
CREATE TRIGGER servers_paused_at
BEFORE UPDATE OF paused_at ON servers
FOR EACH ROW WHEN (NEW.paused_at IS DISTINCT FROM OLD.paused_at AND NEW.is_paused = OLD.is_paused)
EXECUTE FUNCTION remediation_actions_refuse('paused_at changes only with is_paused');

-- The id ends each of these, so that an index also gives its rows in the order they were created.
-- List by server.
CREATE INDEX remediation_actions_by_server ON remediation_actions (server_id, id);
-- Claim, and List by server and status.
CREATE INDEX remediation_actions_by_server_status ON remediation_actions (server_id, status, id);
-- List by status: the approval queue of a whole fleet.
CREATE INDEX remediation_actions_by_status ON remediation_actions (status, id);
-- List by action type.
CREATE INDEX remediation_actions_by_type ON remediation_actions (action_type, id);
-- List by alert, and ON DELETE SET NULL when an alert goes.
CREATE INDEX remediation_actions_by_alert ON remediation_actions (alert_id, id) WHERE alert_id IS NOT NULL;

-- Whoever may execute a trigger function may make it the trigger of another table.
REVOKE EXECUTE ON FUNCTION remediation_actions_refuse(), remediation_actions_keep_alert() FROM PUBLIC;
