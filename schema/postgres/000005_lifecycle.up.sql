-- Fails unless the database is at version 4; the error says what to do.
DO $$
DECLARE
    version CONSTANT int := CASE
        WHEN to_regclass('servers') IS NULL THEN 0
        WHEN to_regclass('remediation_actions') IS NULL THEN 1
        WHEN NOT EXISTS (SELECT 1 FROM pg_attribute
            WHERE attrelid = to_regclass('remediation_actions') AND attname = 'alert_id') THEN 2
        WHEN NOT EXISTS (SELECT 1 FROM pg_attribute
            WHERE attrelid = to_regclass('servers') AND attname = 'is_paused') THEN 3
        ELSE 4 END;
BEGIN
    IF version = 0 THEN
        RAISE EXCEPTION 'the database stands before version 1; run: migrate force -- -1';
    ELSIF version <> 4 THEN
        RAISE EXCEPTION 'the database stands at version %; run: migrate force %', version, version;
    END IF;
END
$$;

-- The lifecycle is enforced by the database, for every program and for raw SQL. The rules are triggers. CHECKs would
-- apply to rows that were written before this migration as soon as anything changed them, such as ON DELETE SET NULL.

-- The functions below keep this search path, with temporary tables last, so that a caller can't replace the ledger's
-- tables.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- An error is a check_violation (23514) with the name of the rule as its constraint. If a rule needs two triggers,
-- their names are the rule's with _insert or _update.
CREATE FUNCTION remediation_actions_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rule CONSTANT text := regexp_replace(TG_NAME, '_(insert|update)$', '');
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = rule || ': ' || TG_ARGV[0],
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = rule;
END
$$;

-- The rules of a row are one expression in a function, not conditions of triggers: PostgreSQL parses those again for
-- each statement, and keeps a PL/pgSQL expression for the session.

-- Each status requires exactly its audit fields. stdout and stderr are optional once there is a result. JSON readers
-- represent integers up to 2^53 exactly, and many programs can't read 'infinity' or years outside 1 to 9999.
CREATE FUNCTION remediation_actions_insert() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    refused CONSTANT text := CASE
        WHEN (CASE
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
            END) IS NOT TRUE
        THEN 'remediation_actions_consistent: the audit fields do not fit the status'
        WHEN NEW.id NOT BETWEEN 1 AND 9007199254740992
        THEN 'remediation_actions_immutable: an id is 1 to 2^53'
        WHEN least(NEW.created_at, NEW.approved_at, NEW.rejected_at, NEW.executed_at, NEW.completed_at)
                < '0001-01-01 00:00:00+00'
            OR greatest(NEW.created_at, NEW.approved_at, NEW.rejected_at, NEW.executed_at, NEW.completed_at)
                >= '10000-01-01 00:00:00+00'
        THEN 'remediation_actions_times: a time lies in the years 1 to 9999'
        END;
BEGIN
    IF refused IS NULL THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = refused,
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = split_part(refused, ':', 1);
END
$$;

CREATE TRIGGER remediation_actions_insert BEFORE INSERT ON remediation_actions
FOR EACH ROW EXECUTE FUNCTION remediation_actions_insert();

-- A transition sets only the audit fields of its step. To run, they must be NULL before, so that no action runs on an
-- approval that an older program left incomplete. To end, values that an older program recorded are kept and the
-- missing ones are filled, so that every row can be ended.
--
-- An approved command can't be changed, and audit fields change only with the status. There is one exception: both
-- outputs of a terminal action may be cleared, as ClearOutput does. Outputs are part of the audit trail, so clearing
-- needs the right to delete actions, which an agent does not have.
--
-- An older program may have written years outside 1 to 9999. The status of a row with an infinite time can't be
-- changed: the driver can't read the row, and a call must not change a row that it then fails to return.
CREATE FUNCTION remediation_actions_update() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    refused CONSTANT text := CASE
        WHEN OLD.status <> NEW.status AND (CASE NEW.status
            WHEN 'approved' THEN
                num_nonnulls(OLD.approved_at, OLD.approved_by) = 0
                AND NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
                AND num_nonnulls(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason, NEW.executed_at,
                                 NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) = 0
            WHEN 'executing' THEN
                OLD.executed_at IS NULL AND NEW.executed_at IS NOT NULL
                AND NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
                AND num_nonnulls(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                                 NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) = 0
            WHEN 'rejected' THEN
                NEW.rejected_at IS NOT NULL
                AND (NEW.rejected_by <> '' OR OLD.rejected_by = '')
                AND (NEW.rejection_reason <> '' OR OLD.rejection_reason = '')
            WHEN 'completed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS NOT DISTINCT FROM 0
            WHEN 'failed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS DISTINCT FROM 0
            END) IS NOT TRUE
        THEN 'remediation_actions_consistent: the audit fields do not fit the status'
        WHEN (OLD.id, OLD.server_id, OLD.action_type, OLD.service_name, OLD.command, OLD.created_at, OLD.created_by)
            IS DISTINCT FROM
            (NEW.id, NEW.server_id, NEW.action_type, NEW.service_name, NEW.command, NEW.created_at, NEW.created_by)
        THEN 'remediation_actions_immutable: what an action is never changes'
        WHEN ((NEW.status <> 'approved' OR OLD.status = NEW.status)
                AND (OLD.approved_at, OLD.approved_by) IS DISTINCT FROM (NEW.approved_at, NEW.approved_by))
            OR ((NEW.status <> 'rejected' OR OLD.status = NEW.status)
                AND (OLD.rejected_at, OLD.rejected_by, OLD.rejection_reason)
                IS DISTINCT FROM (NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason))
            OR ((NEW.status <> 'executing' OR OLD.status = NEW.status)
                AND OLD.executed_at IS DISTINCT FROM NEW.executed_at)
            OR ((NEW.status NOT IN ('completed', 'failed') OR OLD.status = NEW.status)
                AND (OLD.completed_at, OLD.exit_code) IS DISTINCT FROM (NEW.completed_at, NEW.exit_code))
            OR (NEW.status NOT IN ('completed', 'failed') AND OLD.status <> NEW.status
                AND (OLD.stdout, OLD.stderr) IS DISTINCT FROM (NEW.stdout, NEW.stderr))
            OR (OLD.status = NEW.status
                AND (OLD.stdout, OLD.stderr) IS DISTINCT FROM (NEW.stdout, NEW.stderr)
                AND NOT (OLD.status IN ('completed', 'failed', 'rejected', 'timed_out')
                    AND NEW.stdout IS NULL AND NEW.stderr IS NULL
                    AND has_table_privilege('remediation_actions'::regclass, 'DELETE')))
            OR (OLD.status <> NEW.status
                AND ((coalesce(OLD.rejected_at, NEW.rejected_at), coalesce(OLD.rejected_by, NEW.rejected_by),
                      coalesce(OLD.rejection_reason, NEW.rejection_reason))
                    IS DISTINCT FROM (NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason)
                    OR (coalesce(OLD.completed_at, NEW.completed_at), coalesce(OLD.exit_code, NEW.exit_code),
                        coalesce(OLD.stdout, NEW.stdout), coalesce(OLD.stderr, NEW.stderr))
                    IS DISTINCT FROM (NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr)))
        THEN 'remediation_actions_immutable_audit: an audit field is written once, with its change of status'
        WHEN OLD.status <> NEW.status AND (
            NOT isfinite(NEW.created_at) OR NOT isfinite(NEW.approved_at) OR NOT isfinite(NEW.rejected_at)
            OR NOT isfinite(NEW.executed_at) OR NOT isfinite(NEW.completed_at)
            OR (OLD.approved_at IS NULL
                AND NOT (NEW.approved_at >= '0001-01-01 00:00:00+00' AND NEW.approved_at < '10000-01-01 00:00:00+00'))
            OR (OLD.rejected_at IS NULL
                AND NOT (NEW.rejected_at >= '0001-01-01 00:00:00+00' AND NEW.rejected_at < '10000-01-01 00:00:00+00'))
            OR (OLD.executed_at IS NULL
                AND NOT (NEW.executed_at >= '0001-01-01 00:00:00+00' AND NEW.executed_at < '10000-01-01 00:00:00+00'))
            OR (OLD.completed_at IS NULL
                AND NOT (NEW.completed_at >= '0001-01-01 00:00:00+00' AND NEW.completed_at < '10000-01-01 00:00:00+00')))
        THEN 'remediation_actions_times: a time lies in the years 1 to 9999'
        WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
            ('pending', 'approved'),
            ('pending', 'rejected'),
            ('approved', 'executing'),
            ('approved', 'rejected'),
            ('executing', 'completed'),
            ('executing', 'failed'))
        THEN 'remediation_actions_transition: the lifecycle forbids this change of status'
        END;
BEGIN
    IF refused IS NULL THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = refused,
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = split_part(refused, ':', 1);
END
$$;

CREATE TRIGGER remediation_actions_update BEFORE UPDATE ON remediation_actions
FOR EACH ROW EXECUTE FUNCTION remediation_actions_update();

-- Setting a status to itself is no transition either. The trigger fires when the statement names the column.
CREATE TRIGGER remediation_actions_transition BEFORE UPDATE OF status ON remediation_actions
FOR EACH ROW WHEN (OLD.status = NEW.status)
EXECUTE FUNCTION remediation_actions_refuse('the lifecycle forbids this change of status');

-- ON DELETE SET NULL runs as an UPDATE after the alert was deleted.
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

-- An action may not refer to an alert of another server. The foreign key checks that the alert exists.
CREATE FUNCTION remediation_actions_same_server() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = NEW.alert_id AND a.server_id <> NEW.server_id) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = TG_NAME || ': the alert belongs to another server',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER remediation_actions_alert
BEFORE INSERT OR UPDATE OF alert_id ON remediation_actions
FOR EACH ROW WHEN (NEW.alert_id IS NOT NULL)
EXECUTE FUNCTION remediation_actions_same_server();

-- Actions with a time that the driver can't read. Only rows that predate the rules can have one. The view returns only
-- ids, so everyone may read it.
CREATE VIEW remediation_unreadable AS
SELECT a.id AS action_id
FROM remediation_actions AS a
WHERE NOT isfinite(a.created_at) OR NOT isfinite(a.approved_at) OR NOT isfinite(a.rejected_at)
    OR NOT isfinite(a.executed_at) OR NOT isfinite(a.completed_at);
GRANT SELECT ON remediation_unreadable TO PUBLIC;

-- The host program owns servers. It may write any values that the ledger can read.
CREATE TRIGGER servers_types
BEFORE INSERT OR UPDATE OF paused_at ON servers
FOR EACH ROW WHEN (NOT isfinite(NEW.paused_at))
EXECUTE FUNCTION remediation_actions_refuse('paused_at must be finite');

-- Locking a server's row needs the right to update one of its columns. A role that must not pause servers, such as that
-- of an agent, must not change paused_at either.
CREATE TRIGGER servers_paused_at
BEFORE UPDATE OF paused_at ON servers
FOR EACH ROW WHEN (NEW.paused_at IS DISTINCT FROM OLD.paused_at
    AND NOT has_column_privilege('servers'::regclass, 'is_paused', 'UPDATE'))
EXECUTE FUNCTION remediation_actions_refuse('changing paused_at takes the right to change is_paused');

-- The id ends each of these, so that an index also gives its rows in the order they were created.
-- List by server.
CREATE INDEX remediation_actions_by_server ON remediation_actions (server_id, id);
-- List by server and status.
CREATE INDEX remediation_actions_by_server_status ON remediation_actions (server_id, status, id);
-- List by status: the approval queue of a whole fleet.
CREATE INDEX remediation_actions_by_status ON remediation_actions (status, id);
-- List by action type.
CREATE INDEX remediation_actions_by_type ON remediation_actions (action_type, id);
-- List by alert, and ON DELETE SET NULL when an alert is deleted.
CREATE INDEX remediation_actions_by_alert ON remediation_actions (alert_id, id) WHERE alert_id IS NOT NULL;

-- A role that may execute a trigger function could use it in a trigger of another table.
REVOKE EXECUTE ON FUNCTION remediation_actions_refuse(), remediation_actions_insert(), remediation_actions_update(),
    remediation_actions_keep_alert(), remediation_actions_same_server() FROM PUBLIC;
