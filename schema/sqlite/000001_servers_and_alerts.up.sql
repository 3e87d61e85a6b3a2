-- Only what actions need of a server and an alert: the host program may own these tables and give them more columns.
CREATE TABLE servers (
    id VARCHAR(100) NOT NULL PRIMARY KEY
);

CREATE TABLE alerts (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    server_id VARCHAR(100) NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    title VARCHAR(255) NOT NULL
);

CREATE INDEX alerts_by_server ON alerts (server_id);

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000001 AS SELECT 1 AS taken;
