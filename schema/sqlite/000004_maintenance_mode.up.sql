-- Fails unless the database is at version 3; the name of the constraint says what to do.
CREATE TEMP TABLE remediation_stands_at (
    version INTEGER,
    CONSTRAINT "the database stands before version 1; run: migrate force -- -1" CHECK (version <> 0),
    CONSTRAINT "the database stands at version 1; run: migrate force 1" CHECK (version <> 1),
    CONSTRAINT "the database stands at version 2; run: migrate force 2" CHECK (version <> 2),
    CONSTRAINT "the database stands at version 4; run: migrate force 4" CHECK (version <> 4)
);
INSERT INTO remediation_stands_at
SELECT CASE
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('servers')) THEN 0
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('remediation_actions')) THEN 1
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('remediation_actions') WHERE name = 'alert_id') THEN 2
    WHEN NOT EXISTS (SELECT 1 FROM pragma_table_info('servers') WHERE name = 'is_paused') THEN 3
    ELSE 4 END;
DROP TABLE remediation_stands_at;

ALTER TABLE servers ADD COLUMN is_paused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE servers ADD COLUMN paused_at DATETIME;

-- Marks that this migration added the columns, so that its down migration may drop them.
CREATE VIEW remediation_step_000004 AS SELECT 1 AS taken;
