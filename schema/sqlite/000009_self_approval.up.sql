-- Settings of the ledger for a server, in a table of their own because the host program owns servers.
CREATE TABLE remediation_servers (
    server_id VARCHAR(100) NOT NULL PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    forbids_self_approval BOOLEAN NOT NULL CHECK (forbids_self_approval IN (FALSE, TRUE))
);

CREATE TRIGGER remediation_actions_self_approval_insert
BEFORE INSERT ON remediation_actions
WHEN NEW.approved_by = NEW.created_by
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_self_approval: this server forbids that the creator of an action approves it')
    WHERE EXISTS (SELECT 1 FROM remediation_servers AS s WHERE s.server_id = NEW.server_id AND s.forbids_self_approval);
END;

CREATE TRIGGER remediation_actions_self_approval_update
BEFORE UPDATE OF approved_by ON remediation_actions
WHEN NEW.approved_by = NEW.created_by AND NEW.approved_by IS NOT OLD.approved_by
BEGIN
    SELECT RAISE(ABORT, 'remediation_actions_self_approval: this server forbids that the creator of an action approves it')
    WHERE EXISTS (SELECT 1 FROM remediation_servers AS s WHERE s.server_id = NEW.server_id AND s.forbids_self_approval);
END;
