DROP TRIGGER remediation_actions_key_update;
DROP TRIGGER remediation_actions_key_insert;
DROP INDEX remediation_actions_key;
DROP INDEX remediation_actions_open_key;
ALTER TABLE remediation_actions DROP COLUMN dedupe_key;
