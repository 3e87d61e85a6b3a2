DROP VIEW remediation_ended;
DROP INDEX remediation_actions_ended;
