-- Fails if the host program already has these tables; the name of the constraint says what to do.
CREATE TEMP TABLE remediation_stands_at (
    version INTEGER,
    CONSTRAINT "the database stands at version 1; run: migrate force 1" CHECK (version <> 1),
    CONSTRAINT "the database stands at version 2; run: migrate force 2" CHECK (version <> 2),
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

-- Only the columns that actions need. The host program may own these tables and have more columns in them.
CREATE TABLE servers (
    id VARCHAR(100) NOT NULL PRIMARY KEY
);

CREATE TABLE alerts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    server_id VARCHAR(100) NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    title VARCHAR(255) NOT NULL
);

CREATE INDEX alerts_by_server ON alerts (server_id);

-- Marks that this migration created the tables, so that its down migration may drop them.
CREATE VIEW remediation_step_000001 AS SELECT 1 AS taken;
