-- At most one open action per server and key; the index decides, so that two creates at once can't both succeed.
ALTER TABLE remediation_actions ADD COLUMN dedupe_key VARCHAR(255);

CREATE UNIQUE INDEX remediation_actions_open_key ON remediation_actions (server_id, dedupe_key)
WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'approved', 'executing');

-- A page of a list reads keys here: in the rows they lie behind the outputs, which a list must not read. The CAST keeps
-- SQLite from finding the row by its id instead. The index costs only the writes that have a key.
CREATE INDEX remediation_actions_key ON remediation_actions (CAST(id AS BIGINT), dedupe_key) WHERE dedupe_key IS NOT NULL;

CREATE TRIGGER remediation_actions_key_insert
BEFORE INSERT ON remediation_actions
WHEN NEW.dedupe_key IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_types: text without NUL or an integer is expected')
    WHERE typeof(NEW.dedupe_key) <> 'text' OR instr(NEW.dedupe_key, char(0));

    -- Without this, INSERT OR REPLACE would delete the open action that has the key.
    SELECT RAISE(ABORT, 'remediation_actions_open_key: an open action has this key')
    WHERE NEW.status IN ('pending', 'approved', 'executing') AND EXISTS (
        SELECT 1 FROM remediation_actions AS o
        WHERE o.server_id = NEW.server_id AND o.dedupe_key = NEW.dedupe_key
            AND o.status IN ('pending', 'approved', 'executing'));
END;

CREATE TRIGGER remediation_actions_key_update
BEFORE UPDATE OF dedupe_key ON remediation_actions
WHEN NEW.dedupe_key IS NOT OLD.dedupe_key
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: what an action is never changes');
END;
