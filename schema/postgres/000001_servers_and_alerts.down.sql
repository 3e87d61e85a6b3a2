-- Fails unless the up migration created the tables. To skip this step, run: migrate force 1
DROP VIEW remediation_step_000001;

DROP TABLE alerts;
DROP TABLE servers;
