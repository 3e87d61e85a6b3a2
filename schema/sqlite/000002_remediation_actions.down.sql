-- Fails where this step was not taken here: the table is the host program's. To go on, run: migrate force 2
DROP VIEW remediation_step_000002;

DROP TABLE remediation_actions;
