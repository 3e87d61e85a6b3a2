-- Fails if the host program owns the columns. To continue, run: migrate force 4
DROP VIEW remediation_step_000004;

ALTER TABLE servers
    DROP COLUMN paused_at,
    DROP COLUMN is_paused;
