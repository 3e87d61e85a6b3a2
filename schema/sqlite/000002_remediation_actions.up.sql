-- Fails unless the database is at version 1; the name of the constraint says what to do.
CREATE TEMP TABLE remediation_stands_at (
    version INTEGER,
    CONSTRAINT "the database stands before version 1; run: migrate force -- -1" CHECK (version <> 0),
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

-- AUTOINCREMENT, so that ids are never reused: agents report results by id.
CREATE TABLE remediation_actions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    server_id VARCHAR(100) NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    action_type VARCHAR(50) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'pending',
    service_name VARCHAR(255),
    command TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    created_by VARCHAR(50) NOT NULL
);

-- Marks that this migration created the table, so that its down migration may drop it.
CREATE VIEW remediation_step_000002 AS SELECT 1 AS taken;
