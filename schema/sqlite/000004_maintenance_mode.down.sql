-- Fails where this step was not taken here: the columns are the host program's. To go on, run: migrate force 4
DROP VIEW remediation_step_000004;

ALTER TABLE servers DROP COLUMN paused_at;
ALTER TABLE servers DROP COLUMN is_paused;
