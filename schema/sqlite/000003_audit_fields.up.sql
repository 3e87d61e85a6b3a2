-- Fails unless the database is at version 2; the name of the constraint says what to do.
CREATE TEMP TABLE remediation_stands_at (
    version INTEGER,
    CONSTRAINT "the database stands before version 1; run: migrate force -- -1" CHECK (version <> 0),
    CONSTRAINT "the database stands at version 1; run: migrate force 1" CHECK (version <> 1),
    CONSTRAINT "the database stands at version 3; run: migrate force 3" CHECK (version <> 3),
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

-- Every column is nullable and comes last, so SQLite rewrites no row.
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

-- Marks that this migration added the columns, so that its down migration may drop them.
CREATE VIEW remediation_step_000003 AS SELECT 1 AS taken;
