-- Fails unless the database is at version 3; the error says what to do.
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
    ELSIF version <> 3 THEN
        RAISE EXCEPTION 'the database stands at version %; run: migrate force %', version, version;
    END IF;
END
$$;

ALTER TABLE servers
    ADD COLUMN is_paused BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN paused_at TIMESTAMPTZ;

-- Marks that this migration added the columns, so that its down migration may drop them.
CREATE VIEW remediation_step_000004 AS SELECT 1 AS taken;
