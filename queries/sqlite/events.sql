-- On SQLite ids are in commit order, so the feed needs no horizon.

-- name: ListEvents :many
SELECT * FROM remediation_events WHERE id > @after ORDER BY id LIMIT CAST(@max_rows AS BIGINT);
