-- At most one open action per server and key; the index decides, so that two creates at once can't both succeed.
ALTER TABLE remediation_actions ADD COLUMN dedupe_key VARCHAR(255);

CREATE UNIQUE INDEX remediation_actions_open_key ON remediation_actions (server_id, dedupe_key)
WHERE dedupe_key IS NOT NULL AND status IN ('pending', 'approved', 'executing');

CREATE TRIGGER remediation_actions_immutable_key
BEFORE UPDATE OF dedupe_key ON remediation_actions
WHEN NEW.dedupe_key IS NOT OLD.dedupe_key
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_immutable: what an action is never changes');
END;
