DROP TRIGGER remediation_actions_immutable_key;
DROP INDEX remediation_actions_open_key;
ALTER TABLE remediation_actions DROP COLUMN dedupe_key;
