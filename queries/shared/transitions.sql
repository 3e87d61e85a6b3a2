-- Each transition is one guarded statement: it returns no row if the action is not in the status that it starts from. A
-- row that predates the rules and has more values than its status allows can't be approved, but it can be ended: its
-- values are kept, and the missing ones are filled in. skip_unreadable leaves out a row that the driver can't read.

-- name: RejectAction :one
UPDATE remediation_actions
SET status = 'rejected', rejected_at = coalesce(rejected_at, @rejected_at),
    rejected_by = coalesce(rejected_by, CAST(@rejected_by AS TEXT)),
    rejection_reason = coalesce(rejection_reason, CAST(@rejection_reason AS TEXT))
WHERE id = @id AND status = 'pending'
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;

-- name: WithdrawAction :one
UPDATE remediation_actions
SET status = 'rejected', rejected_at = coalesce(rejected_at, @rejected_at),
    rejected_by = coalesce(rejected_by, CAST(@rejected_by AS TEXT)),
    rejection_reason = coalesce(rejection_reason, CAST(@rejection_reason AS TEXT))
WHERE id = @id AND status = 'approved'
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;

-- The server is part of the condition: an agent can't finish an action of another server.
-- name: FinishAction :one
UPDATE remediation_actions
SET status = CASE WHEN coalesce(exit_code, CAST(@exit_code AS BIGINT)) = 0 THEN 'completed' ELSE 'failed' END,
    completed_at = coalesce(completed_at, @completed_at),
    exit_code = coalesce(exit_code, CAST(@exit_code AS BIGINT)),
    stdout = coalesce(stdout, CAST(@stdout AS TEXT)),
    stderr = coalesce(stderr, CAST(@stderr AS TEXT))
WHERE id = @id AND remediation_actions.server_id = @server_id AND status = 'executing'
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;

-- name: RequestCancel :one
UPDATE remediation_actions
SET cancel_requested_at = @cancel_requested_at, cancel_requested_by = CAST(@cancel_requested_by AS TEXT),
    cancel_reason = CAST(@cancel_reason AS TEXT)
WHERE id = @id AND status = 'executing' AND cancel_requested_at IS NULL
    AND (NOT CAST(@skip_unreadable AS BOOLEAN)
        OR NOT EXISTS (SELECT 1 FROM remediation_unreadable AS u WHERE u.action_id = @id))
RETURNING *;
