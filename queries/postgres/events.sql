-- On PostgreSQL transactions commit in another order than they take ids, so the feed has an order of its own and ends
-- at a horizon.

-- name: ListEvents :many
SELECT id, action_id, server_id, kind, actor, occurred_at, detail FROM remediation_events
WHERE (feed_position, id) > (remediation_events_place(@after), CAST(@after AS BIGINT))
    AND feed_position < remediation_events_horizon(CAST(@elsewhere AS BIGINT[]))
ORDER BY feed_position, id
LIMIT CAST(@max_rows AS BIGINT);

-- Tells why the feed ends after an id: whether there are later events, whether those have transaction ids that this
-- cluster has not reached, and which open transactions of other databases delay them.
-- name: ExplainEventsEnd :one
SELECT CAST(max(feed_position) IS NOT NULL AS BOOLEAN) AS waiting,
    CAST(coalesce(max(feed_position) > remediation_events_newest(), FALSE) AS BOOLEAN) AS from_another_cluster,
    CAST(CASE WHEN max(feed_position) IS NOT NULL THEN remediation_events_elsewhere() ELSE '{}' END AS BIGINT[]) AS elsewhere
FROM remediation_events
WHERE (feed_position, id) > (remediation_events_place(@after), CAST(@after AS BIGINT));
