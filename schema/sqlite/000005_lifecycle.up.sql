-- The lifecycle, enforced by the database so that no program and no person at a shell can break it. SQLite can't add a
-- CHECK to an existing table, so each rule is a trigger; none of them looks at rows written before this migration.

-- Naming the column is enough to fire this, so writing the status that a row already has is refused too.
CREATE TRIGGER remediation_actions_transition
BEFORE UPDATE OF status ON remediation_actions
WHEN (OLD.status, NEW.status) NOT IN (VALUES
    ('pending', 'approved'),
    ('pending', 'rejected'),
    ('approved', 'executing'),
    ('approved', 'rejected'),
    ('executing', 'completed'),
    ('executing', 'failed'))
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_transition: the lifecycle forbids this change of status');
END;

-- A status has exactly the audit fields that it implies. stdout and stderr are free once there is a result.
CREATE TRIGGER remediation_actions_consistent_insert
BEFORE INSERT ON remediation_actions
WHEN (CASE
    WHEN NEW.status = 'pending' THEN
        coalesce(NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                 NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
    WHEN NEW.status = 'rejected' THEN
        NEW.rejected_at IS NOT NULL AND NEW.rejected_by <> '' AND NEW.rejection_reason <> ''
        AND (NEW.approved_at IS NULL) = (NEW.approved_by IS NULL)
        AND coalesce(NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
    WHEN NEW.status IN ('approved', 'executing', 'completed', 'failed') THEN
        NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
        AND coalesce(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason) IS NULL
        AND (NEW.executed_at IS NULL) = (NEW.status = 'approved')
        AND CASE NEW.status
            WHEN 'completed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS 0
            WHEN 'failed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS NOT 0
                AND typeof(NEW.exit_code) IN ('integer', 'null')
            ELSE coalesce(NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
            END
    END) IS NOT TRUE
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_consistent: the audit fields do not fit the status');
END;

CREATE TRIGGER remediation_actions_consistent_update
BEFORE UPDATE OF status ON remediation_actions
WHEN (CASE
    WHEN NEW.status = 'pending' THEN
        coalesce(NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                 NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
    WHEN NEW.status = 'rejected' THEN
        NEW.rejected_at IS NOT NULL AND NEW.rejected_by <> '' AND NEW.rejection_reason <> ''
        AND (NEW.approved_at IS NULL) = (NEW.approved_by IS NULL)
        AND coalesce(NEW.executed_at, NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
    WHEN NEW.status IN ('approved', 'executing', 'completed', 'failed') THEN
        NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
        AND coalesce(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason) IS NULL
        AND (NEW.executed_at IS NULL) = (NEW.status = 'approved')
        AND CASE NEW.status
            WHEN 'completed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS 0
            WHEN 'failed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS NOT 0
                AND typeof(NEW.exit_code) IN ('integer', 'null')
            ELSE coalesce(NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
            END
    END) IS NOT TRUE
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_consistent: the audit fields do not fit the status');
END;

-- What was approved is what runs. No column list here: "SET rowid = …" would slip past one that says id.
CREATE TRIGGER remediation_actions_immutable
BEFORE UPDATE ON remediation_actions
WHEN (OLD.id, OLD.server_id, OLD.action_type, OLD.service_name, OLD.command, OLD.created_at, OLD.created_by)
    IS NOT (NEW.id, NEW.server_id, NEW.action_type, NEW.service_name, NEW.command, NEW.created_at, NEW.created_by)
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: what an action is never changes');
END;

-- Without this, INSERT OR REPLACE would swap an approved command for another under the same id. -1 is what a trigger sees
-- before SQLite has chosen an id, so no row may have it.
CREATE TRIGGER remediation_actions_immutable_replace
BEFORE INSERT ON remediation_actions
WHEN NEW.id <> -1 AND EXISTS (SELECT 1 FROM remediation_actions AS a WHERE a.id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: this id is taken');
END;

CREATE TRIGGER remediation_actions_immutable_id
AFTER INSERT ON remediation_actions
WHEN NEW.id < 1
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: an id is greater than 0');
END;

-- An audit field is written once, by the transition that it belongs to. One change comes after the end: both outputs of a
-- terminal action may be cleared, when they have been kept long enough.
CREATE TRIGGER remediation_actions_immutable_audit
BEFORE UPDATE OF approved_at, approved_by, rejected_at, rejected_by, rejection_reason,
    executed_at, completed_at, exit_code, stdout, stderr ON remediation_actions
WHEN (OLD.approved_at IS NOT NULL AND NEW.approved_at IS NOT OLD.approved_at)
    OR (OLD.approved_by IS NOT NULL AND NEW.approved_by IS NOT OLD.approved_by)
    OR (OLD.rejected_at IS NOT NULL AND NEW.rejected_at IS NOT OLD.rejected_at)
    OR (OLD.rejected_by IS NOT NULL AND NEW.rejected_by IS NOT OLD.rejected_by)
    OR (OLD.rejection_reason IS NOT NULL AND NEW.rejection_reason IS NOT OLD.rejection_reason)
    OR (NEW.status = 'rejected' AND (OLD.approved_at, OLD.approved_by) IS NOT (NEW.approved_at, NEW.approved_by))
    OR (OLD.executed_at IS NOT NULL AND NEW.executed_at IS NOT OLD.executed_at)
    OR (OLD.completed_at IS NOT NULL AND NEW.completed_at IS NOT OLD.completed_at)
    OR (OLD.exit_code IS NOT NULL AND NEW.exit_code IS NOT OLD.exit_code)
    OR (OLD.status = NEW.status
        AND (OLD.approved_at, OLD.approved_by, OLD.rejected_at, OLD.rejected_by, OLD.rejection_reason,
             OLD.executed_at, OLD.completed_at, OLD.exit_code)
        IS NOT (NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                NEW.executed_at, NEW.completed_at, NEW.exit_code))
    OR (OLD.status <> NEW.status
        AND ((OLD.stdout IS NOT NULL AND NEW.stdout IS NOT OLD.stdout)
            OR (OLD.stderr IS NOT NULL AND NEW.stderr IS NOT OLD.stderr)))
    OR (OLD.status = NEW.status
        AND (OLD.stdout, OLD.stderr) IS NOT (NEW.stdout, NEW.stderr)
        AND NOT (OLD.status IN ('completed', 'failed', 'rejected') AND NEW.stdout IS NULL AND NEW.stderr IS NULL))
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: an audit field is written once, with its change of status');
END;

-- ON DELETE SET NULL arrives here as an UPDATE, after its alert is gone.
CREATE TRIGGER remediation_actions_immutable_alert
BEFORE UPDATE OF alert_id ON remediation_actions
WHEN OLD.alert_id IS NOT NULL AND NEW.alert_id IS NOT OLD.alert_id
    AND (NEW.alert_id IS NOT NULL OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = OLD.alert_id))
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: an action keeps its alert as long as the alert exists');
END;

-- Since when a server is paused is part of the audit trail: it is written with the mode, and not without.
CREATE TRIGGER servers_paused_at
BEFORE UPDATE OF paused_at ON servers
WHEN NEW.paused_at IS NOT OLD.paused_at AND NEW.is_paused = OLD.is_paused
BEGIN
    SELECT RAISE(ABORT, 'servers_paused_at: paused_at changes only with is_paused');
END;

-- A driver left to its defaults may store times that no date function reads, and a shell stores numbers as willingly as
-- text. What is not a time, or does not sort among the others as a time, is refused, not kept. The date functions see
-- whole seconds only, because they round what comes after.
CREATE TRIGGER remediation_actions_times_insert
BEFORE INSERT ON remediation_actions
WHEN (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.created_at, 1, 19)) = substr(NEW.created_at, 1, 19)
            AND CASE substr(NEW.created_at, 20, 1)
                WHEN '.' THEN length(NEW.created_at) > 20 AND ltrim(substr(NEW.created_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.created_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.approved_at IS NOT NULL AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.approved_at, 1, 19)) = substr(NEW.approved_at, 1, 19)
            AND CASE substr(NEW.approved_at, 20, 1)
                WHEN '.' THEN length(NEW.approved_at) > 20 AND ltrim(substr(NEW.approved_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.approved_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.rejected_at IS NOT NULL AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.rejected_at, 1, 19)) = substr(NEW.rejected_at, 1, 19)
            AND CASE substr(NEW.rejected_at, 20, 1)
                WHEN '.' THEN length(NEW.rejected_at) > 20 AND ltrim(substr(NEW.rejected_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.rejected_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.executed_at IS NOT NULL AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.executed_at, 1, 19)) = substr(NEW.executed_at, 1, 19)
            AND CASE substr(NEW.executed_at, 20, 1)
                WHEN '.' THEN length(NEW.executed_at) > 20 AND ltrim(substr(NEW.executed_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.executed_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.completed_at IS NOT NULL AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.completed_at, 1, 19)) = substr(NEW.completed_at, 1, 19)
            AND CASE substr(NEW.completed_at, 20, 1)
                WHEN '.' THEN length(NEW.completed_at) > 20 AND ltrim(substr(NEW.completed_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.completed_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_times: a time must be text in UTC like 2026-11-23 13:17:09.047807+00:00');
END;

CREATE TRIGGER remediation_actions_times_update
BEFORE UPDATE OF approved_at, rejected_at, executed_at, completed_at ON remediation_actions
WHEN NEW.approved_at IS NOT OLD.approved_at AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.approved_at, 1, 19)) = substr(NEW.approved_at, 1, 19)
            AND CASE substr(NEW.approved_at, 20, 1)
                WHEN '.' THEN length(NEW.approved_at) > 20 AND ltrim(substr(NEW.approved_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.approved_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.rejected_at IS NOT OLD.rejected_at AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.rejected_at, 1, 19)) = substr(NEW.rejected_at, 1, 19)
            AND CASE substr(NEW.rejected_at, 20, 1)
                WHEN '.' THEN length(NEW.rejected_at) > 20 AND ltrim(substr(NEW.rejected_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.rejected_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.executed_at IS NOT OLD.executed_at AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.executed_at, 1, 19)) = substr(NEW.executed_at, 1, 19)
            AND CASE substr(NEW.executed_at, 20, 1)
                WHEN '.' THEN length(NEW.executed_at) > 20 AND ltrim(substr(NEW.executed_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.executed_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
    OR NEW.completed_at IS NOT OLD.completed_at AND (strftime('%Y-%m-%d %H:%M:%S', substr(NEW.completed_at, 1, 19)) = substr(NEW.completed_at, 1, 19)
            AND CASE substr(NEW.completed_at, 20, 1)
                WHEN '.' THEN length(NEW.completed_at) > 20 AND ltrim(substr(NEW.completed_at, 21), '0123456789') IN ('', '+00:00')
                ELSE substr(NEW.completed_at, 20) IN ('', '+00:00')
                END) IS NOT TRUE
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_times: a time must be text in UTC like 2026-11-23 13:17:09.047807+00:00');
END;

-- Every SQLite index ends in the id, so each of these also gives its rows in the order they were created.
-- List by server.
CREATE INDEX remediation_actions_by_server ON remediation_actions (server_id);
-- Claim, and List by server and status.
CREATE INDEX remediation_actions_by_server_status ON remediation_actions (server_id, status);
-- List by status: the approval queue of a whole fleet.
CREATE INDEX remediation_actions_by_status ON remediation_actions (status);
-- List by action type.
CREATE INDEX remediation_actions_by_type ON remediation_actions (action_type);
-- List by alert, and ON DELETE SET NULL when an alert goes.
CREATE INDEX remediation_actions_by_alert ON remediation_actions (alert_id) WHERE alert_id IS NOT NULL;
