-- Fails unless the up migration added the columns. To skip this step, run: migrate force 4
DROP VIEW remediation_step_000004;

ALTER TABLE servers
    DROP COLUMN paused_at,
    DROP COLUMN is_paused;
