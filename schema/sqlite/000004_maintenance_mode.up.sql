ALTER TABLE servers ADD COLUMN is_paused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE servers ADD COLUMN paused_at DATETIME;

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000004 AS SELECT 1 AS taken;
