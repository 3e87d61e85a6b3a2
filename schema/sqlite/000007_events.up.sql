-- What happened to actions, written by triggers so that raw SQL is recorded too. No foreign key: the record of an action
-- outlives its server and its pruning. SQLite has one writer at a time, so ids are in the order of the commits and a
-- reader that goes on after the last id it saw misses nothing.
CREATE TABLE remediation_events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id INTEGER NOT NULL,
    server_id VARCHAR(100) NOT NULL,
    kind VARCHAR(20) NOT NULL,
    actor VARCHAR(100),
    occurred_at DATETIME NOT NULL,
    detail TEXT
);

-- A row that arrives in a later status brings its history with it.
CREATE TRIGGER remediation_events_inserted
AFTER INSERT ON remediation_actions
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
    SELECT NEW.id, NEW.server_id, NEW.status, CASE WHEN NEW.exit_code IS NOT NULL THEN NEW.server_id END,
        NEW.completed_at, CAST(NEW.exit_code AS TEXT)
    WHERE NEW.completed_at IS NOT NULL;
END;

-- The agent of its server is who executes and finishes an action; nobody finishes one without an exit code.
CREATE TRIGGER remediation_events_updated
AFTER UPDATE OF status ON remediation_actions
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, actor, occurred_at, detail)
    VALUES (
        NEW.id,
        NEW.server_id,
        NEW.status,
        CASE NEW.status
            WHEN 'approved' THEN NEW.approved_by
            WHEN 'rejected' THEN NEW.rejected_by
            WHEN 'executing' THEN NEW.server_id
            ELSE CASE WHEN NEW.exit_code IS NOT NULL THEN NEW.server_id END
            END,
        CASE NEW.status
            WHEN 'approved' THEN NEW.approved_at
            WHEN 'rejected' THEN NEW.rejected_at
            WHEN 'executing' THEN NEW.executed_at
            ELSE NEW.completed_at
            END,
        CASE NEW.status
            WHEN 'rejected' THEN NEW.rejection_reason
            ELSE CAST(NEW.exit_code AS TEXT)
            END);
END;

-- Only here and below the database reads the clock itself: nobody else is asked when a row is deleted or cleared. SQLite
-- 3.39 knows these format letters already.
CREATE TRIGGER remediation_events_deleted
AFTER DELETE ON remediation_actions
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, occurred_at, detail)
    VALUES (OLD.id, OLD.server_id, 'deleted', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'), OLD.status);
END;

CREATE TRIGGER remediation_events_output_cleared
AFTER UPDATE OF stdout, stderr ON remediation_actions
WHEN OLD.status = NEW.status AND (OLD.stdout IS NOT NULL OR OLD.stderr IS NOT NULL)
    AND NEW.stdout IS NULL AND NEW.stderr IS NULL
BEGIN
    INSERT INTO remediation_events (action_id, server_id, kind, occurred_at)
    VALUES (NEW.id, NEW.server_id, 'output_cleared', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'));
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

CREATE TRIGGER remediation_events_append_only_replace
BEFORE INSERT ON remediation_events
WHEN EXISTS (SELECT 1 FROM remediation_events AS e WHERE e.id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'remediation_events_append_only: this id is taken');
END;

-- -1 is what the trigger above sees before SQLite has chosen an id.
CREATE TRIGGER remediation_events_append_only_id
AFTER INSERT ON remediation_events
WHEN NEW.id < 1
BEGIN
    SELECT RAISE(ABORT, 'remediation_events_append_only: an id is greater than 0');
END;
