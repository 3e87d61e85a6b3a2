-- A server that the host program inserted itself counts as added, whatever other columns its table requires.
-- name: AddServer :execrows
INSERT INTO servers (id)
SELECT CAST(@id AS TEXT)
WHERE NOT EXISTS (SELECT 1 FROM servers AS s WHERE s.id = CAST(@id AS TEXT))
ON CONFLICT (id) DO NOTHING;

-- A server that is already paused keeps its paused_at.
-- name: PauseServer :execrows
UPDATE servers
SET is_paused = TRUE, paused_at = CASE WHEN is_paused = FALSE THEN @paused_at ELSE paused_at END
WHERE id = @id;

-- name: UnpauseServer :execrows
UPDATE servers
SET is_paused = FALSE, paused_at = NULL
WHERE id = @id;

-- Returns no row if the server does not exist.
-- name: AddAlert :one
INSERT INTO alerts (server_id, title)
SELECT s.id, CAST(@title AS TEXT)
FROM servers AS s
WHERE s.id = @server_id
RETURNING id;

-- skip_paused_at leaves out a paused_at that predates the rules and can't be read by the driver.
-- name: GetServer :one
SELECT s.id, CAST(NOT (s.is_paused = FALSE) AS BOOLEAN) AS paused, p.paused_at,
    CAST(coalesce(f.forbids_self_approval, FALSE) AS BOOLEAN) AS forbids_self_approval
FROM servers AS s
LEFT JOIN remediation_servers AS f ON f.server_id = s.id
LEFT JOIN servers AS p ON p.id = s.id AND NOT CAST(@skip_paused_at AS BOOLEAN)
WHERE s.id = @id;

-- name: ListServers :many
SELECT s.id, CAST(NOT (s.is_paused = FALSE) AS BOOLEAN) AS paused, p.paused_at,
    CAST(coalesce(f.forbids_self_approval, FALSE) AS BOOLEAN) AS forbids_self_approval
FROM servers AS s
LEFT JOIN remediation_servers AS f ON f.server_id = s.id
LEFT JOIN servers AS p ON p.id = s.id AND NOT CAST(@skip_paused_at AS BOOLEAN)
WHERE s.id > @after
ORDER BY s.id
LIMIT CAST(@max_rows AS BIGINT);

-- name: ForbidSelfApproval :execrows
INSERT INTO remediation_servers (server_id, forbids_self_approval)
SELECT s.id, CAST(@forbids AS BOOLEAN)
FROM servers AS s
WHERE s.id = @server_id
ON CONFLICT (server_id) DO UPDATE SET forbids_self_approval = excluded.forbids_self_approval;
