-- A server that the host program registered itself counts as added, whatever else its table requires.
-- name: AddServer :execrows
INSERT INTO servers (id)
SELECT CAST(@id AS TEXT)
WHERE NOT EXISTS (SELECT 1 FROM servers AS s WHERE s.id = CAST(@id AS TEXT))
ON CONFLICT (id) DO NOTHING;

-- A server that is paused already keeps the time since when.
-- name: PauseServer :execrows
UPDATE servers
SET is_paused = TRUE, paused_at = CASE WHEN is_paused = FALSE THEN @paused_at ELSE paused_at END
WHERE id = @id;

-- name: UnpauseServer :execrows
UPDATE servers
SET is_paused = FALSE, paused_at = NULL
WHERE id = @id;

-- No row comes back when the server doesn't exist.
-- name: AddAlert :one
INSERT INTO alerts (server_id, title)
SELECT s.id, CAST(@title AS TEXT)
FROM servers AS s
WHERE s.id = @server_id
RETURNING id;
