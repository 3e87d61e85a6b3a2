-- PostgreSQL only: ids are taken in another order than the one of the commits, so the feed has an order of its own and ends
-- at a horizon.

-- name: ListEvents :many
SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events
WHERE (feed_position, id) > (remediation_events_place(@after), CAST(@after AS BIGINT))
    AND feed_position < remediation_events_horizon()
ORDER BY feed_position, id
LIMIT CAST(@max_rows AS BIGINT);

-- Whether an event lies where no transaction of this cluster has been yet.
-- name: EventsFromAnotherCluster :one
SELECT CAST(max(feed_position) IS NOT NULL AS BOOLEAN) AS found FROM remediation_events
WHERE feed_position > remediation_events_newest();
