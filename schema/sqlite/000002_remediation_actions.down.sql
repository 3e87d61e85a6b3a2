-- Fails if the host program owns the table. To continue, run: migrate force 2
DROP VIEW remediation_step_000002;

DROP TABLE remediation_actions;
