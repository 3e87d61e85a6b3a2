-- Fails if the host program owns the columns. To continue, run: migrate force 3
DROP VIEW remediation_step_000003;

ALTER TABLE remediation_actions DROP COLUMN stderr;
ALTER TABLE remediation_actions DROP COLUMN stdout;
ALTER TABLE remediation_actions DROP COLUMN exit_code;
ALTER TABLE remediation_actions DROP COLUMN completed_at;
ALTER TABLE remediation_actions DROP COLUMN executed_at;
ALTER TABLE remediation_actions DROP COLUMN rejection_reason;
ALTER TABLE remediation_actions DROP COLUMN rejected_by;
ALTER TABLE remediation_actions DROP COLUMN rejected_at;
ALTER TABLE remediation_actions DROP COLUMN approved_by;
ALTER TABLE remediation_actions DROP COLUMN approved_at;
ALTER TABLE remediation_actions DROP COLUMN alert_id;
