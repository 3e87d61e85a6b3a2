-- Fails unless the database is at version 4; the name of the constraint says what to do.
CREATE TEMP TABLE remediation_stands_at (
    version INTEGER,
    CONSTRAINT "the database stands before version 1; run: migrate force -- -1" CHECK (version <> 0),
    CONSTRAINT "the database stands at version 1; run: migrate force 1" CHECK (version <> 1),
    CONSTRAINT "the database stands at version 2; run: migrate force 2" CHECK (version <> 2),
    CONSTRAINT "the database stands at version 3; run: migrate force 3" CHECK (version <> 3)
);
INSERT INTO remediation_stands_at
SELECT CASE
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('servers')) THEN 0
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('remediation_actions')) THEN 1
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('remediation_actions') WHERE name = 'alert_id') THEN 2
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('servers') WHERE name = 'is_paused') THEN 3
    ELSE 4 END;
DROP TABLE remediation_stands_at;

-- The lifecycle is enforced by the database, for every program and for raw SQL. SQLite can't add a CHECK to an existing
-- table, so the rules are triggers. They do not check rows that were written before this migration. An error begins
-- with the name of the rule, which is the same on PostgreSQL.

-- Each status requires exactly its audit fields. stdout and stderr are optional once there is a result. SQLite stores
-- values of any type, so the type of each column is checked too. A NUL is refused because it would hide the rest of a
-- text from many programs. A text column can only have text or a BLOB, and a BLOB sorts after all text; comparisons are
-- much cheaper than typeof().
CREATE TRIGGER remediation_actions_insert
BEFORE INSERT ON remediation_actions
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE NEW.server_id >= x'' OR NEW.action_type >= x'' OR NEW.command >= x'' OR NEW.created_by >= x''
        OR NEW.service_name >= x''
        OR CAST(NEW.alert_id AS INTEGER) IS NOT NEW.alert_id
        OR NEW.approved_by >= x''
        OR NEW.rejected_by >= x''
        OR NEW.rejection_reason >= x''
        OR CAST(NEW.exit_code AS INTEGER) IS NOT NEW.exit_code
        OR NEW.stdout >= x''
        OR NEW.stderr >= x''
        OR instr(NEW.server_id || NEW.action_type || NEW.command || NEW.created_by || coalesce(NEW.service_name, '')
            || coalesce(NEW.approved_by, '') || coalesce(NEW.rejected_by, '') || coalesce(NEW.rejection_reason, ''), char(0)) IS NOT 0;

    SELECT RAISE(ABORT, 'remediation_actions_consistent: the audit fields do not fit the status')
    WHERE (CASE
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
                ELSE coalesce(NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
                END
        END) IS NOT TRUE;

    -- Without this, INSERT OR REPLACE could replace an approved command under the same id. A trigger sees -1 before
    -- SQLite has chosen an id, so no row may have that id.
    SELECT RAISE(ABORT, 'remediation_actions_immutable: this id is taken')
    WHERE NEW.id <> -1 AND EXISTS (SELECT 1 FROM remediation_actions AS a WHERE a.id = NEW.id);

    SELECT RAISE(ABORT, 'remediation_actions_alert: the alert belongs to another server')
    WHERE NEW.alert_id IS NOT NULL
        AND EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = NEW.alert_id AND a.server_id <> NEW.server_id);
END;

-- A transition sets only the audit fields of its step. To run, they must be NULL before, so that no action runs on an
-- approval that an older program left incomplete. To end, values that an older program recorded are kept and the
-- missing ones are filled, so that every row can be ended. The trigger fires when the statement names the column, so
-- setting a status to itself is refused too. The newest version of the original ends an action as timed_out; only a
-- table with its column timed_out_at allows that.
CREATE TRIGGER remediation_actions_step
BEFORE UPDATE OF status ON remediation_actions
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_transition: the lifecycle forbids this change of status')
    WHERE (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('approved', 'rejected')
        WHEN 'approved' THEN NEW.status IN ('executing', 'rejected')
        WHEN 'executing' THEN NEW.status IN ('completed', 'failed')
            OR NEW.status = 'timed_out' AND EXISTS (
                SELECT 1 FROM sqlite_master AS m WHERE m.name = 'remediation_actions' AND instr(m.sql, 'timed_out_at'))
        END) IS NOT TRUE;

    SELECT RAISE(ABORT, 'remediation_actions_immutable: an audit field is written once, with its change of status')
    WHERE NEW.status <> 'approved'
            AND (OLD.approved_at, OLD.approved_by) IS NOT (NEW.approved_at, NEW.approved_by)
        OR NEW.status <> 'executing' AND OLD.executed_at IS NOT NEW.executed_at
        OR (CASE WHEN NEW.status = 'rejected'
            THEN (coalesce(OLD.rejected_at, NEW.rejected_at), coalesce(OLD.rejected_by, NEW.rejected_by),
                coalesce(OLD.rejection_reason, NEW.rejection_reason))
                IS NOT (NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason)
            ELSE (OLD.rejected_at, OLD.rejected_by, OLD.rejection_reason)
                IS NOT (NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason)
            END)
        OR (CASE WHEN NEW.status = 'completed' OR NEW.status = 'failed' OR NEW.status = 'timed_out'
            THEN (coalesce(OLD.completed_at, NEW.completed_at), coalesce(OLD.exit_code, NEW.exit_code),
                coalesce(OLD.stdout, NEW.stdout), coalesce(OLD.stderr, NEW.stderr))
                IS NOT (NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr)
            ELSE (OLD.completed_at, OLD.exit_code, OLD.stdout, OLD.stderr)
                IS NOT (NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr)
            END);

    SELECT RAISE(ABORT, 'remediation_actions_consistent: the audit fields do not fit the status')
    WHERE (CASE NEW.status
        WHEN 'approved' THEN
            coalesce(OLD.approved_at, OLD.approved_by) IS NULL
            AND NEW.approved_at IS NOT NULL AND NEW.approved_by <> ''
            AND coalesce(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason, NEW.executed_at,
                         NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
        WHEN 'executing' THEN
            OLD.executed_at IS NULL AND NEW.executed_at IS NOT NULL
            AND NEW.approved_at IS NOT NULL AND NEW.approved_by <> '' AND typeof(NEW.approved_by) = 'text'
            AND coalesce(NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                         NEW.completed_at, NEW.exit_code, NEW.stdout, NEW.stderr) IS NULL
        WHEN 'rejected' THEN
            NEW.rejected_at IS NOT NULL
            AND (NEW.rejected_by <> '' OR OLD.rejected_by = '')
            AND (NEW.rejection_reason <> '' OR OLD.rejection_reason = '')
        WHEN 'completed' THEN NEW.completed_at IS NOT NULL AND NEW.exit_code IS 0
        ELSE NEW.completed_at IS NOT NULL AND NEW.exit_code IS NOT 0
        END) IS NOT TRUE;

    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE CASE NEW.status
        WHEN 'approved' THEN NEW.approved_by >= x'' OR instr(NEW.approved_by, char(0))
        WHEN 'rejected' THEN
            OLD.rejected_by IS NULL AND (NEW.rejected_by >= x'' OR instr(NEW.rejected_by, char(0)))
            OR OLD.rejection_reason IS NULL AND (NEW.rejection_reason >= x'' OR instr(NEW.rejection_reason, char(0)))
        ELSE
            OLD.exit_code IS NULL AND CAST(NEW.exit_code AS INTEGER) IS NOT NEW.exit_code
            OR OLD.stdout IS NULL AND NEW.stdout >= x''
            OR OLD.stderr IS NULL AND NEW.stderr >= x''
        END;
END;

-- An approved command can't be changed, and audit fields change only with the status. There is one exception: both
-- outputs of a terminal action may be cleared, as ClearOutput does. The trigger has no column list, because "SET rowid
-- = …" would bypass a list with id.
CREATE TRIGGER remediation_actions_update
BEFORE UPDATE ON remediation_actions
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: what an action is never changes')
    WHERE (OLD.id, OLD.server_id, OLD.action_type, OLD.service_name, OLD.command, OLD.created_at, OLD.created_by)
        IS NOT (NEW.id, NEW.server_id, NEW.action_type, NEW.service_name, NEW.command, NEW.created_at, NEW.created_by);

    SELECT RAISE(ABORT, 'remediation_actions_immutable: an audit field is written once, with its change of status')
    WHERE OLD.status IS NEW.status
        AND ((OLD.approved_at, OLD.approved_by, OLD.rejected_at, OLD.rejected_by, OLD.rejection_reason,
              OLD.executed_at, OLD.completed_at, OLD.exit_code)
            IS NOT (NEW.approved_at, NEW.approved_by, NEW.rejected_at, NEW.rejected_by, NEW.rejection_reason,
                    NEW.executed_at, NEW.completed_at, NEW.exit_code)
            OR ((OLD.stdout, OLD.stderr) IS NOT (NEW.stdout, NEW.stderr)
                AND NOT (OLD.status IN ('completed', 'failed', 'rejected', 'timed_out') AND NEW.stdout IS NULL AND NEW.stderr IS NULL)));
END;

-- ON DELETE SET NULL runs as an UPDATE after the alert was deleted.
CREATE TRIGGER remediation_actions_alert
BEFORE UPDATE OF alert_id ON remediation_actions
WHEN NEW.alert_id IS NOT OLD.alert_id
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: an action keeps its alert as long as the alert exists')
    WHERE OLD.alert_id IS NOT NULL
        AND (NEW.alert_id IS NOT NULL OR EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = OLD.alert_id));

    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE typeof(NEW.alert_id) NOT IN ('integer', 'null');

    SELECT RAISE(ABORT, 'remediation_actions_alert: the alert belongs to another server')
    WHERE EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = NEW.alert_id AND a.server_id <> NEW.server_id);
END;

-- Actions with a value that the driver can't read as the type of its column. Only rows that predate the rules can have
-- one. The driver reads YYYY-MM-DD, optionally followed by HH:MM, :SS, a fraction, and a zone or Z.
CREATE VIEW remediation_unreadable AS
SELECT a.id AS action_id
FROM remediation_actions AS a
WHERE typeof(a.exit_code) NOT IN ('integer', 'null')
    OR typeof(a.alert_id) NOT IN ('integer', 'null')
    OR EXISTS (
        WITH t (x) AS (VALUES (a.created_at), (a.approved_at), (a.rejected_at), (a.executed_at), (a.completed_at))
        SELECT 1 FROM t
        WHERE t.x IS NOT NULL
            AND (typeof(t.x) = 'text'
                AND length(t.x) = length(CAST(t.x AS BLOB))
                AND date(substr(t.x, 1, 10)) = substr(t.x, 1, 10)
                AND datetime(t.x) IS NOT NULL
                AND (length(t.x) = 10 OR substr(t.x, 12, 2) < '24')
                AND (length(t.x) = 10
                    OR t.x GLOB '??????????[ T][0-2][0-9]:[0-5][0-9]'
                    OR t.x GLOB '??????????[ T][0-2][0-9]:[0-5][0-9]Z'
                    OR t.x GLOB '??????????[ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9]*' AND substr(t.x, 20) NOT GLOB '*[ z]*')
            ) IS NOT TRUE
    );

-- The host program owns servers and alerts. It may write any values that the ledger can read. No view and no trigger of
-- another table refers to servers, so that a host program can recreate the table and rename the new one.
CREATE TRIGGER servers_types_insert
BEFORE INSERT ON servers
BEGIN
    SELECT RAISE(ABORT, 'servers_types: id is text without NUL, is_paused a boolean and paused_at a time')
    WHERE typeof(NEW.id) <> 'text' OR instr(NEW.id, char(0)) OR (NEW.is_paused IN (0, 1)) IS NOT TRUE
        OR NEW.paused_at IS NOT NULL AND (typeof(NEW.paused_at) = 'text'
            AND length(NEW.paused_at) = length(CAST(NEW.paused_at AS BLOB))
            AND replace(substr(NEW.paused_at, 1, 19), 'T', ' ') = datetime(substr(NEW.paused_at, 1, 19))
            AND datetime(NEW.paused_at) IS NOT NULL
            AND substr(NEW.paused_at, 20) NOT GLOB '*[ z]*') IS NOT TRUE;
END;

CREATE TRIGGER servers_types_update
BEFORE UPDATE OF id, is_paused, paused_at ON servers
BEGIN
    SELECT RAISE(ABORT, 'servers_types: id is text without NUL, is_paused a boolean and paused_at a time')
    WHERE NEW.id IS NOT OLD.id AND (typeof(NEW.id) <> 'text' OR instr(NEW.id, char(0)))
        OR NEW.is_paused IS NOT OLD.is_paused AND (NEW.is_paused IN (0, 1)) IS NOT TRUE
        OR NEW.paused_at IS NOT OLD.paused_at AND NEW.paused_at IS NOT NULL AND (typeof(NEW.paused_at) = 'text'
            AND length(NEW.paused_at) = length(CAST(NEW.paused_at AS BLOB))
            AND replace(substr(NEW.paused_at, 1, 19), 'T', ' ') = datetime(substr(NEW.paused_at, 1, 19))
            AND datetime(NEW.paused_at) IS NOT NULL
            AND substr(NEW.paused_at, 20) NOT GLOB '*[ z]*') IS NOT TRUE;
END;

CREATE TRIGGER alerts_types_insert
AFTER INSERT ON alerts
WHEN (typeof(NEW.server_id), typeof(NEW.title)) IS NOT ('text', 'text') OR NEW.id NOT BETWEEN 1 AND 9007199254740992
BEGIN
    SELECT RAISE(ABORT, 'alerts_types: server_id and title are text, id is 1 to 2^53');
END;

-- The trigger has no column list, because "SET rowid = …" would bypass a list with id.
CREATE TRIGGER alerts_types_update
AFTER UPDATE ON alerts
WHEN NEW.id IS NOT OLD.id AND NEW.id NOT BETWEEN 1 AND 9007199254740992
    OR NEW.server_id IS NOT OLD.server_id AND typeof(NEW.server_id) <> 'text'
    OR NEW.title IS NOT OLD.title AND typeof(NEW.title) <> 'text'
BEGIN
    SELECT RAISE(ABORT, 'alerts_types: server_id and title are text, id is 1 to 2^53');
END;

-- Every SQLite index ends in the id, so each of these also gives its rows in the order they were created.
-- List by server.
CREATE INDEX remediation_actions_by_server ON remediation_actions (server_id);
-- List by server and status.
CREATE INDEX remediation_actions_by_server_status ON remediation_actions (server_id, status);
-- List by status: the approval queue of a whole fleet.
CREATE INDEX remediation_actions_by_status ON remediation_actions (status);
-- List by action type.
CREATE INDEX remediation_actions_by_type ON remediation_actions (action_type);
-- List by alert, and ON DELETE SET NULL when an alert is deleted.
CREATE INDEX remediation_actions_by_alert ON remediation_actions (alert_id) WHERE alert_id IS NOT NULL;
