-- Fails if the host program owns the tables. To continue, run: migrate force 1
DROP VIEW remediation_step_000001;

DROP TABLE alerts;
DROP TABLE servers;
