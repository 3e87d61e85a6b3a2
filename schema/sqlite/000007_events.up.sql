-- Events of actions. Triggers write them, so that changes by raw SQL are recorded too. There is no foreign key, because
-- events are kept after the action or its server is deleted. SQLite has a single writer, so ids are in commit order,
-- and a reader that continues after the last id misses nothing.
CREATE TABLE remediation_events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id INTEGER NOT NULL,
    server_id VARCHAR(100) NOT NULL,
    kind VARCHAR(20) NOT NULL,
    actor VARCHAR(100),
    occurred_at DATETIME NOT NULL,
    detail TEXT
);

CREATE INDEX remediation_events_action ON remediation_events (action_id); -- and id, which every index ends in

-- Writes the events of existing actions as the triggers below would have written them, with NULL for an empty text.
-- The DELETE then removes the events whose id, types or time the rules below would refuse.
INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
SELECT h.action_id, h.server_id, h.kind, nullif(h.actor, ''), h.occurred_at, nullif(h.detail, '')
FROM (
    SELECT a.id AS action_id, a.server_id, 1 AS step, 'created' AS kind, a.created_by AS actor, a.created_at AS occurred_at,
        a.command AS detail
    FROM remediation_actions AS a
    UNION ALL
    SELECT a.id, a.server_id, 2, 'approved', a.approved_by, a.approved_at, NULL
    FROM remediation_actions AS a WHERE a.approved_at IS NOT NULL
    UNION ALL
    SELECT a.id, a.server_id, 3, 'rejected', CAST(a.rejected_by AS TEXT), a.rejected_at, CAST(a.rejection_reason AS TEXT)
    FROM remediation_actions AS a WHERE a.rejected_at IS NOT NULL
    UNION ALL
    SELECT a.id, a.server_id, 4, 'executing', a.server_id, a.executed_at, NULL
    FROM remediation_actions AS a WHERE a.executed_at IS NOT NULL
    UNION ALL
    SELECT a.id, a.server_id, 5, 'cancel_requested', a.cancel_requested_by, a.cancel_requested_at, a.cancel_reason
    FROM remediation_actions AS a WHERE a.cancel_requested_at IS NOT NULL
    UNION ALL
    SELECT a.id, a.server_id, 6, CASE a.status WHEN 'timed_out' THEN 'failed' ELSE a.status END,
        CASE WHEN a.exit_code IS NOT NULL THEN a.server_id END, a.completed_at,
        CAST(a.exit_code AS TEXT)
    FROM remediation_actions AS a WHERE a.completed_at IS NOT NULL AND a.status IN ('completed', 'failed', 'timed_out')
) AS h
ORDER BY h.occurred_at, h.action_id, h.step;

DELETE FROM remediation_events
WHERE kind = 'created' AND action_id NOT BETWEEN 1 AND 9007199254740992
    OR server_id >= x'' OR actor >= x'' OR detail >= x''
    OR (occurred_at = datetime(substr(occurred_at, 1, 19)) || substr(occurred_at, 20)
        AND occurred_at >= '0001-01-01'
        AND (substr(occurred_at, 20) IN ('', '+00:00')
            OR substr(occurred_at, 20) GLOB '.[0-9]*'
            AND ltrim(substr(occurred_at, 21), '0123456789') IN ('', '+00:00')
            AND length(occurred_at) <= 29 + length(ltrim(substr(occurred_at, 21), '0123456789')))) IS NOT TRUE;

-- A row that is inserted with a later status gets the events of all steps before. The statuses pending and approved
-- have triggers of their own with VALUES, because INSERT … SELECT into a table with triggers uses a temporary table.
CREATE TRIGGER remediation_events_inserted_pending
AFTER INSERT ON remediation_actions
WHEN NEW.status = 'pending'
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (NEW.id, NEW.server_id, 'created', NEW.created_by, NEW.created_at, NEW.command);
END;

CREATE TRIGGER remediation_events_inserted_approved
AFTER INSERT ON remediation_actions
WHEN NEW.status = 'approved'
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (NEW.id, NEW.server_id, 'created', NEW.created_by, NEW.created_at, NEW.command);
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at)
    VALUES (NEW.id, NEW.server_id, 'approved', NEW.approved_by, NEW.approved_at);
END;

CREATE TRIGGER remediation_events_inserted
AFTER INSERT ON remediation_actions
WHEN (NEW.status IN ('pending', 'approved')) IS NOT TRUE
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (NEW.id, NEW.server_id, 'created', NEW.created_by, NEW.created_at, NEW.command);
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at)
    SELECT NEW.id, NEW.server_id, 'approved', NEW.approved_by, NEW.approved_at
    WHERE NEW.approved_at IS NOT NULL;
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    SELECT NEW.id, NEW.server_id, 'rejected', NEW.rejected_by, NEW.rejected_at, NEW.rejection_reason
    WHERE NEW.rejected_at IS NOT NULL;
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at)
    SELECT NEW.id, NEW.server_id, 'executing', NEW.server_id, NEW.executed_at
    WHERE NEW.executed_at IS NOT NULL;
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    SELECT NEW.id, NEW.server_id, 'cancel_requested', NEW.cancel_requested_by, NEW.cancel_requested_at, NEW.cancel_reason
    WHERE NEW.cancel_requested_at IS NOT NULL;
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    SELECT NEW.id, NEW.server_id, NEW.status, CASE WHEN NEW.exit_code IS NOT NULL THEN NEW.server_id END,
        NEW.completed_at, CAST(NEW.exit_code AS TEXT)
    WHERE NEW.completed_at IS NOT NULL;
END;

-- The actor of executing and of a result is the server; a result without an exit code has no actor. If an older program
-- had already recorded the time, the event of the end gets the current time.
CREATE TRIGGER remediation_events_updated
AFTER UPDATE OF status ON remediation_actions
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (
        NEW.id,
        CAST(NEW.server_id AS TEXT),
        CASE NEW.status WHEN 'timed_out' THEN 'failed' ELSE NEW.status END,
        CASE NEW.status
            WHEN 'approved' THEN NEW.approved_by
            WHEN 'rejected' THEN CAST(NEW.rejected_by AS TEXT)
            WHEN 'executing' THEN NEW.server_id
            ELSE CASE WHEN NEW.exit_code IS NOT NULL THEN CAST(NEW.server_id AS TEXT) END
            END,
        CASE NEW.status
            WHEN 'approved' THEN NEW.approved_at
            WHEN 'rejected' THEN CASE WHEN OLD.rejected_at IS NULL THEN NEW.rejected_at ELSE strftime('%Y-%m-%d %H:%M:%f+00:00', 'now') END
            WHEN 'executing' THEN NEW.executed_at
            ELSE CASE WHEN OLD.completed_at IS NULL THEN NEW.completed_at ELSE strftime('%Y-%m-%d %H:%M:%f+00:00', 'now') END
            END,
        CASE NEW.status
            WHEN 'rejected' THEN CAST(NEW.rejection_reason AS TEXT)
            ELSE CAST(NEW.exit_code AS TEXT)
            END);
END;

CREATE TRIGGER remediation_events_cancel_requested
AFTER UPDATE OF cancel_requested_at ON remediation_actions
WHEN OLD.cancel_requested_at IS NULL AND NEW.cancel_requested_at IS NOT NULL
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (NEW.id, CAST(NEW.server_id AS TEXT), 'cancel_requested', NEW.cancel_requested_by, NEW.cancel_requested_at, NEW.cancel_reason);
END;

-- Here and below the database itself reads the clock, because a DELETE or a cleared output has no time of its own.
-- SQLite 3.39 supports these format letters.
CREATE TRIGGER remediation_events_deleted
AFTER DELETE ON remediation_actions
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, occurred_at, detail)
    VALUES (OLD.id, CAST(OLD.server_id AS TEXT), 'deleted', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'), CAST(OLD.status AS TEXT));
END;

CREATE TRIGGER remediation_events_output_cleared
AFTER UPDATE OF stdout, stderr ON remediation_actions
WHEN OLD.status = NEW.status AND (OLD.stdout IS NOT NULL OR OLD.stderr IS NOT NULL)
    AND NEW.stdout IS NULL AND NEW.stderr IS NULL
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, occurred_at)
    VALUES (NEW.id, CAST(NEW.server_id AS TEXT), 'output_cleared', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'));
END;

CREATE TRIGGER remediation_events_append_only_update
BEFORE UPDATE ON remediation_events
BEGIN
    SELECT RAISE(ABORT, 'remediation_events_append_only: an event never changes');
END;

CREATE TRIGGER remediation_events_append_only_delete
BEFORE DELETE ON remediation_events
WHEN EXISTS (SELECT 1 FROM remediation_actions AS a WHERE a.id = OLD.action_id)
BEGIN
    SELECT RAISE(ABORT, 'remediation_events_append_only: an event stays as long as its action');
END;

-- A trigger sees -1 before SQLite has chosen an id.
CREATE TRIGGER remediation_events_append_only_replace
BEFORE INSERT ON remediation_events
WHEN NEW.id <> -1
BEGIN
    SELECT RAISE(ABORT, 'remediation_events_append_only: ids are given in their order');
END;

-- An event must match its action at that moment, also if it is inserted by hand. The times of the steps and the id of a
-- new action are checked here too, because the triggers above write them to events. This is no CHECK, because then
-- INSERT OR IGNORE INTO remediation_actions would skip the event and keep the action.
--
-- JSON readers represent integers up to 2^53 exactly, and AUTOINCREMENT has no id after 2^63-1. An old action with
-- another id can still be ended and deleted.
--
-- A time is text in UTC that the driver reads back as the same moment, that sorts as time, and that the date functions
-- read. The comparison with datetime() also refuses dates that do not exist, a NUL with any text after it, numbers and
-- BLOBs.
CREATE TRIGGER remediation_events_append_only_insert
AFTER INSERT ON remediation_events
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: an id is 1 to 2^53')
    WHERE CAST(NEW.action_id AS INTEGER) IS NOT NEW.action_id OR NEW.id NOT BETWEEN 1 AND 9007199254740992
        OR NEW.kind = 'created' AND NEW.action_id NOT BETWEEN 1 AND 9007199254740992;

    SELECT RAISE(ABORT, 'remediation_actions_times: a time must be text in UTC like 2026-11-23 13:17:09.047807+00:00')
    WHERE (NEW.occurred_at = datetime(substr(NEW.occurred_at, 1, 19)) || substr(NEW.occurred_at, 20)
        AND NEW.occurred_at >= '0001-01-01'
        AND (substr(NEW.occurred_at, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' -- the usual form
            OR substr(NEW.occurred_at, 20) IN ('', '+00:00')
            OR substr(NEW.occurred_at, 20) GLOB '.[0-9]*'
            AND ltrim(substr(NEW.occurred_at, 21), '0123456789') IN ('', '+00:00')
            AND length(NEW.occurred_at) <= 29 + length(ltrim(substr(NEW.occurred_at, 21), '0123456789')))) IS NOT TRUE;

    SELECT RAISE(ABORT, 'remediation_events_types: server_id, actor and detail are text')
    WHERE NEW.server_id >= x'' OR NEW.actor >= x'' OR NEW.detail >= x'';

    SELECT RAISE(ABORT, 'remediation_events_append_only: an event tells what its action records')
    WHERE CASE NEW.kind
        WHEN 'deleted' THEN NEW.actor IS NOT NULL OR EXISTS (SELECT 1 FROM remediation_actions AS a WHERE a.id = NEW.action_id)
        ELSE NOT EXISTS (
            SELECT 1 FROM remediation_actions AS a
            WHERE a.id = NEW.action_id AND CAST(a.server_id AS TEXT) = NEW.server_id AND CASE NEW.kind
                WHEN 'created' THEN (a.created_at, a.created_by, a.command) IS (NEW.occurred_at, NEW.actor, NEW.detail)
                WHEN 'approved' THEN (a.approved_at, a.approved_by, NULL) IS (NEW.occurred_at, NEW.actor, NEW.detail)
                WHEN 'rejected' THEN
                    (CAST(a.rejected_by AS TEXT), CAST(a.rejection_reason AS TEXT)) IS (NEW.actor, NEW.detail)
                    AND NEW.occurred_at IN (a.rejected_at, strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
                WHEN 'executing' THEN (a.executed_at, a.server_id, NULL) IS (NEW.occurred_at, NEW.actor, NEW.detail)
                WHEN 'cancel_requested' THEN
                    (a.cancel_requested_at, a.cancel_requested_by, a.cancel_reason) IS (NEW.occurred_at, NEW.actor, NEW.detail)
                WHEN 'output_cleared' THEN (a.stdout, a.stderr, NULL, NULL) IS (NULL, NULL, NEW.actor, NEW.detail)
                    AND a.status IN ('completed', 'failed', 'rejected', 'timed_out')
                ELSE (CASE a.status WHEN 'timed_out' THEN 'failed' ELSE a.status END,
                    CASE WHEN a.exit_code IS NOT NULL THEN CAST(a.server_id AS TEXT) END, CAST(a.exit_code AS TEXT))
                    IS (NEW.kind, NEW.actor, NEW.detail)
                    AND NEW.occurred_at IN (a.completed_at, strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
                END)
        END;
END;
