-- Every column is nullable and added at the end, so SQLite changes the schema and rewrites no row.
ALTER TABLE remediation_actions ADD COLUMN alert_id INTEGER REFERENCES alerts (id) ON DELETE SET NULL;
ALTER TABLE remediation_actions ADD COLUMN approved_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN approved_by VARCHAR(50);
ALTER TABLE remediation_actions ADD COLUMN rejected_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN rejected_by VARCHAR(50);
ALTER TABLE remediation_actions ADD COLUMN rejection_reason TEXT;
ALTER TABLE remediation_actions ADD COLUMN executed_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN completed_at DATETIME;
ALTER TABLE remediation_actions ADD COLUMN exit_code INTEGER;
ALTER TABLE remediation_actions ADD COLUMN stdout TEXT;
ALTER TABLE remediation_actions ADD COLUMN stderr TEXT;

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000003 AS SELECT 1 AS taken;
