-- The function below keeps this search path, with temporary tables last, so that a caller can't replace the ledger's
-- tables.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Settings of the ledger for a server, in a table of their own because the host program owns servers. Everyone may read
-- it, so that a role that approves actions needs no further right.
CREATE TABLE remediation_servers (
    server_id VARCHAR(100) NOT NULL PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    forbids_self_approval BOOLEAN NOT NULL
);

GRANT SELECT ON remediation_servers TO PUBLIC;

-- STABLE, so that it uses the snapshot of the approving statement.
CREATE FUNCTION remediation_actions_self_approval() RETURNS trigger
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM remediation_servers AS s WHERE s.server_id = NEW.server_id AND s.forbids_self_approval) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = 'remediation_actions_self_approval: this server forbids that the creator of an action approves it',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'remediation_actions_self_approval';
END
$$;
REVOKE EXECUTE ON FUNCTION remediation_actions_self_approval() FROM PUBLIC;

CREATE TRIGGER remediation_actions_self_approval_insert BEFORE INSERT ON remediation_actions
FOR EACH ROW WHEN (NEW.approved_by = NEW.created_by)
EXECUTE FUNCTION remediation_actions_self_approval();

CREATE TRIGGER remediation_actions_self_approval_update BEFORE UPDATE OF approved_by ON remediation_actions
FOR EACH ROW WHEN (NEW.approved_by = NEW.created_by AND NEW.approved_by IS DISTINCT FROM OLD.approved_by)
EXECUTE FUNCTION remediation_actions_self_approval();
