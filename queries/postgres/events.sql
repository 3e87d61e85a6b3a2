-- PostgreSQL only: ids are taken in another order than the one of the commits, so the feed ends at a horizon, which must
-- be read in a statement of its own, before the events.

-- name: EventsHorizon :one
SELECT CAST(remediation_events_horizon() AS BIGINT) AS horizon;

-- name: ListEvents :many
SELECT * FROM remediation_events
WHERE id > @after AND id <= @horizon
ORDER BY id
LIMIT CAST(@max_rows AS BIGINT);
