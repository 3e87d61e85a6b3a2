-- AUTOINCREMENT: an id is never used twice, because agents report results by id.
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

-- Only where this step was taken here can its down file undo it.
CREATE VIEW remediation_step_000002 AS SELECT 1 AS taken;
