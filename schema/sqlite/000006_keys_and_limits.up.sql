-- Optional fields of Create: keys against duplicates, when the action may run, and for how long. Fields of a running
-- action: the last heartbeat of its agent, and a request to cancel it.
ALTER TABLE remediation_actions ADD COLUMN dedupe_key VARCHAR(255);
ALTER TABLE remediation_actions ADD COLUMN idempotency_key VARCHAR(255);
ALTER TABLE remediation_actions ADD COLUMN not_before DATETIME;
ALTER TABLE remediation_actions ADD COLUMN expires_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN max_runtime_seconds INTEGER;
ALTER TABLE remediation_actions ADD COLUMN heartbeat_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN cancel_requested_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN cancel_requested_by VARCHAR(50);
ALTER TABLE remediation_actions ADD COLUMN cancel_reason TEXT;

-- At most one open action for each server and dedupe key, and one action for each idempotency key. Unique indexes also
-- decide between concurrent creates. SQLite checks an index in every UPDATE that sets one of its columns, including
-- those of its WHERE. Rows with a key or a limit follow the rules, so the times tell whether they are open, and most
-- steps set none of these times.
CREATE UNIQUE INDEX remediation_actions_open_key ON remediation_actions (server_id, dedupe_key)
WHERE dedupe_key IS NOT NULL AND completed_at IS NULL AND rejected_at IS NULL;

CREATE UNIQUE INDEX remediation_actions_idempotency_key ON remediation_actions (idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- Claim reads actions without limits by id and the first actions with limits by id. If none of those may run, it finds
-- other actions with limits by the times at which they become due and expire.
CREATE INDEX remediation_actions_claim ON remediation_actions (server_id)
WHERE status = 'approved' AND not_before IS NULL AND expires_at IS NULL;

CREATE INDEX remediation_actions_claim_limited ON remediation_actions (server_id)
WHERE (not_before IS NOT NULL OR expires_at IS NOT NULL)
    AND approved_at IS NOT NULL AND executed_at IS NULL AND rejected_at IS NULL;

CREATE INDEX remediation_actions_claim_due ON remediation_actions (server_id, not_before, expires_at)
WHERE (not_before IS NOT NULL OR expires_at IS NOT NULL)
    AND approved_at IS NOT NULL AND executed_at IS NULL AND rejected_at IS NULL;

-- Expire.
CREATE INDEX remediation_actions_expire ON remediation_actions (expires_at)
WHERE expires_at IS NOT NULL AND executed_at IS NULL AND rejected_at IS NULL;

-- Times are checked as in remediation_events_append_only_insert. They are compared without zone and trailing zeros,
-- because one moment may be stored as 13:17:10, 13:17:10.0 or 13:17:10+00:00.
CREATE TRIGGER remediation_actions_limits_insert
BEFORE INSERT ON remediation_actions
WHEN coalesce(NEW.dedupe_key, NEW.idempotency_key, NEW.not_before, NEW.expires_at, NEW.max_runtime_seconds, NEW.heartbeat_at,
    NEW.cancel_requested_at, NEW.cancel_requested_by, NEW.cancel_reason) IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE typeof(NEW.max_runtime_seconds) NOT IN ('integer', 'null')
        OR EXISTS (
            SELECT 1
            FROM (SELECT NEW.dedupe_key AS x UNION ALL SELECT NEW.idempotency_key
                UNION ALL SELECT NEW.cancel_requested_by UNION ALL SELECT NEW.cancel_reason) AS t
            WHERE typeof(t.x) NOT IN ('text', 'null') OR instr(t.x, char(0)));

    SELECT RAISE(ABORT, 'remediation_actions_times: a time must be text in UTC like 2026-11-23 13:17:09.047807+00:00')
    FROM (SELECT NEW.not_before AS x UNION ALL SELECT NEW.expires_at UNION ALL SELECT NEW.heartbeat_at) AS t
    WHERE t.x IS NOT NULL
        AND (t.x = datetime(substr(t.x, 1, 19)) || substr(t.x, 20)
            AND t.x >= '0001-01-01'
            AND (substr(t.x, 20) IN ('', '+00:00')
                OR substr(t.x, 20) GLOB '.[0-9]*'
                AND ltrim(substr(t.x, 21), '0123456789') IN ('', '+00:00')
                AND length(t.x) <= 29 + length(ltrim(substr(t.x, 21), '0123456789')))) IS NOT TRUE;

    SELECT RAISE(ABORT, 'remediation_actions_limits: the limits, the heartbeat or the request to cancel do not fit the action')
    WHERE NEW.max_runtime_seconds NOT BETWEEN 1 AND 2147483647
        OR EXISTS (
            SELECT 1
            FROM (SELECT NEW.created_at AS x UNION ALL SELECT NEW.not_before
                UNION ALL SELECT NEW.approved_at UNION ALL SELECT NEW.executed_at) AS t
            WHERE rtrim(replace(t.x, '+00:00', ''), '0.') >= rtrim(replace(NEW.expires_at, '+00:00', ''), '0.'))
        OR rtrim(replace(NEW.executed_at, '+00:00', ''), '0.') < rtrim(replace(NEW.not_before, '+00:00', ''), '0.')
        OR NEW.executed_at IS NULL AND coalesce(NEW.heartbeat_at, NEW.cancel_requested_at) IS NOT NULL
        OR CASE WHEN NEW.cancel_requested_at IS NULL THEN coalesce(NEW.cancel_requested_by, NEW.cancel_reason) IS NULL
            ELSE NEW.cancel_requested_by <> '' AND NEW.cancel_reason <> '' END IS NOT TRUE;

    -- Without these, INSERT OR REPLACE would delete the action that has the key.
    SELECT RAISE(ABORT, 'remediation_actions_open_key: an open action has this key')
    WHERE NEW.status IN ('pending', 'approved', 'executing') AND EXISTS (
        SELECT 1 FROM remediation_actions AS o
        WHERE o.server_id = NEW.server_id AND o.dedupe_key = NEW.dedupe_key
            AND o.completed_at IS NULL AND o.rejected_at IS NULL);

    SELECT RAISE(ABORT, 'remediation_actions_idempotency_key: an action has this key')
    WHERE EXISTS (SELECT 1 FROM remediation_actions AS o WHERE o.idempotency_key = NEW.idempotency_key);
END;

CREATE TRIGGER remediation_actions_limits_update
BEFORE UPDATE OF dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds ON remediation_actions
WHEN (OLD.dedupe_key, OLD.idempotency_key, OLD.not_before, OLD.expires_at, OLD.max_runtime_seconds)
    IS NOT (NEW.dedupe_key, NEW.idempotency_key, NEW.not_before, NEW.expires_at, NEW.max_runtime_seconds)
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: what an action is never changes');
END;

-- An action is never approved or started at or after expires_at, or started before not_before.
CREATE TRIGGER remediation_actions_limits_step
BEFORE UPDATE OF status ON remediation_actions
WHEN OLD.expires_at IS NOT NULL OR OLD.not_before IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_limits: an action is approved and started before its expires_at, and not started before its not_before')
    WHERE NEW.status IN ('approved', 'executing') AND EXISTS (
            SELECT 1 FROM (SELECT NEW.approved_at AS x UNION ALL SELECT NEW.executed_at) AS t
            WHERE rtrim(replace(t.x, '+00:00', ''), '0.') >= rtrim(replace(NEW.expires_at, '+00:00', ''), '0.'))
        OR NEW.status = 'executing'
            AND rtrim(replace(NEW.executed_at, '+00:00', ''), '0.') < rtrim(replace(NEW.not_before, '+00:00', ''), '0.');
END;

-- Only an executing action gets heartbeats, and heartbeat_at never decreases.
CREATE TRIGGER remediation_actions_heartbeat
BEFORE UPDATE OF heartbeat_at ON remediation_actions
WHEN NEW.heartbeat_at IS NOT OLD.heartbeat_at
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_times: a time must be text in UTC like 2026-11-23 13:17:09.047807+00:00')
    WHERE (NEW.heartbeat_at = datetime(substr(NEW.heartbeat_at, 1, 19)) || substr(NEW.heartbeat_at, 20)
        AND NEW.heartbeat_at >= '0001-01-01'
        AND (substr(NEW.heartbeat_at, 20) IN ('', '+00:00')
            OR substr(NEW.heartbeat_at, 20) GLOB '.[0-9]*'
            AND ltrim(substr(NEW.heartbeat_at, 21), '0123456789') IN ('', '+00:00')
            AND length(NEW.heartbeat_at) <= 29 + length(ltrim(substr(NEW.heartbeat_at, 21), '0123456789')))) IS NOT TRUE;

    SELECT RAISE(ABORT, 'remediation_actions_heartbeat: only what executes has a heartbeat, and it never goes back')
    WHERE (OLD.status, NEW.status) IS NOT ('executing', 'executing') OR NEW.heartbeat_at < OLD.heartbeat_at;
END;

-- A request to cancel is made once, while the action is executing, and changes nothing else.
CREATE TRIGGER remediation_actions_cancel
BEFORE UPDATE OF cancel_requested_at, cancel_requested_by, cancel_reason ON remediation_actions
WHEN (OLD.cancel_requested_at, OLD.cancel_requested_by, OLD.cancel_reason)
    IS NOT (NEW.cancel_requested_at, NEW.cancel_requested_by, NEW.cancel_reason)
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE (typeof(NEW.cancel_requested_by), typeof(NEW.cancel_reason)) IS NOT ('text', 'text')
        OR instr(NEW.cancel_requested_by || NEW.cancel_reason, char(0));

    SELECT RAISE(ABORT, 'remediation_actions_cancel: a request to cancel is made once, while the action executes')
    WHERE (OLD.status = 'executing' AND NEW.status = 'executing' AND OLD.cancel_requested_at IS NULL
        AND NEW.cancel_requested_at IS NOT NULL AND NEW.cancel_requested_by <> '' AND NEW.cancel_reason <> '') IS NOT TRUE;
END;

-- On disk the new columns come after the outputs, which a page of history must not read. The view remediation_listed
-- reads them from this index. The CAST keeps SQLite from looking up the row by its id. The index contains only actions
-- that have one of the columns.
CREATE INDEX remediation_actions_limits ON remediation_actions (
    CAST(id AS BIGINT), dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds, heartbeat_at,
    cancel_requested_at, cancel_requested_by, cancel_reason)
WHERE coalesce(dedupe_key, idempotency_key, not_before, expires_at, max_runtime_seconds, heartbeat_at, cancel_requested_at)
    IS NOT NULL;

-- Actions that may be approved. A row that predates the rules is excluded if one of its audit fields is set.
CREATE VIEW remediation_approvable AS
SELECT a.id, a.server_id, a.created_by, a.expires_at
FROM remediation_actions AS a
WHERE a.status = 'pending'
    AND coalesce(a.approved_at, a.rejected_at, a.executed_at, a.completed_at) IS NULL
    AND coalesce(a.approved_by, a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL;

-- Actions that may be started if their limits and the mode of their server allow it. A row that predates the rules is
-- excluded unless it has exactly the fields of an approval.
CREATE VIEW remediation_startable AS
SELECT a.id, a.server_id, a.approved_by, a.not_before, a.expires_at
FROM remediation_actions AS a
WHERE a.status = 'approved' AND a.approved_at IS NOT NULL AND typeof(a.approved_by) = 'text' AND a.approved_by <> ''
    AND coalesce(a.rejected_at, a.executed_at, a.completed_at) IS NULL
    AND coalesce(a.rejected_by, a.rejection_reason, a.stdout, a.stderr) IS NULL AND a.exit_code IS NULL;

-- Actions as lists return them.
CREATE VIEW remediation_listed AS
SELECT a.id, a.server_id, a.action_type, a.status, a.service_name, a.command, a.created_at, a.created_by, a.alert_id,
    a.approved_at, a.approved_by, a.rejected_at, a.rejected_by, a.rejection_reason, a.executed_at, a.completed_at, a.exit_code,
    CAST(NULL AS TEXT) AS stdout, CAST(NULL AS TEXT) AS stderr,
    l.dedupe_key, l.idempotency_key, l.not_before, l.expires_at, l.max_runtime_seconds,
    l.heartbeat_at, l.cancel_requested_at, l.cancel_requested_by, l.cancel_reason
FROM remediation_actions AS a
LEFT JOIN remediation_actions AS l ON CAST(l.id AS BIGINT) = a.id
    AND coalesce(l.dedupe_key, l.idempotency_key, l.not_before, l.expires_at, l.max_runtime_seconds, l.heartbeat_at,
        l.cancel_requested_at) IS NOT NULL;
