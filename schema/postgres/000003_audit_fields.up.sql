-- Every column is nullable and without a default, so PostgreSQL changes the catalog and rewrites no row.
ALTER TABLE remediation_actions
    ADD COLUMN alert_id BIGINT REFERENCES alerts (id) ON DELETE SET NULL,
    ADD COLUMN approved_at TIMESTAMPTZ,
    ADD COLUMN approved_by VARCHAR(50),
    ADD COLUMN rejected_at TIMESTAMPTZ,
    ADD COLUMN rejected_by VARCHAR(50),
    ADD COLUMN rejection_reason TEXT,
    ADD COLUMN executed_at TIMESTAMPTZ,
    ADD COLUMN completed_at TIMESTAMPTZ,
    ADD COLUMN exit_code BIGINT,
    ADD COLUMN stdout TEXT,
    ADD COLUMN stderr TEXT;

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000003 AS SELECT 1 AS taken;
