-- Fails if the host program owns the columns. To continue, run: migrate force 3
DROP VIEW remediation_step_000003;

ALTER TABLE remediation_actions
    DROP COLUMN stderr,
    DROP COLUMN stdout,
    DROP COLUMN exit_code,
    DROP COLUMN completed_at,
    DROP COLUMN executed_at,
    DROP COLUMN rejection_reason,
    DROP COLUMN rejected_by,
    DROP COLUMN rejected_at,
    DROP COLUMN approved_by,
    DROP COLUMN approved_at,
    DROP COLUMN alert_id;
