-- Fails unless the up migration created the table. To skip this step, run: migrate force 2
DROP VIEW remediation_step_000002;

DROP TABLE remediation_actions;
