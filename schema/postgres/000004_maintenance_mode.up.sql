ALTER TABLE servers
    ADD COLUMN is_paused BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN paused_at TIMESTAMPTZ;

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000004 AS SELECT 1 AS taken;
