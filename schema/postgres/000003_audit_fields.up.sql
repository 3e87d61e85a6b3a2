-- Fails unless the database is at version 2; the error says what to do.
DO $$
DECLARE
    version CONSTANT int := CASE
        WHEN to_regclass('servers') IS NULL THEN 0
        WHEN to_regclass('remediation_actions') IS NULL THEN 1
        WHEN NOT EXISTS (SELECT 1 FROM pg_attribute
            WHERE attrelid = to_regclass('remediation_actions') AND attname = 'alert_id') THEN 2
        WHEN NOT EXISTS (SELECT 1 FROM pg_attribute
            WHERE attrelid = to_regclass('servers') AND attname = 'is_paused') THEN 3
        ELSE 4 END;
BEGIN
    IF version = 0 THEN
        RAISE EXCEPTION 'the database stands before version 1; run: migrate force -- -1';
    ELSIF version <> 2 THEN
        RAISE EXCEPTION 'the database stands at version %; run: migrate force %', version, version;
    END IF;
END
$$;

-- Every column is nullable and has no default, so PostgreSQL rewrites no row.
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

-- Marks that this migration added the columns, so that its down migration may drop them.
CREATE VIEW remediation_step_000003 AS SELECT 1 AS taken;
