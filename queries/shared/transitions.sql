-- Each transition is one guarded statement: no row comes back when the action isn't in the status it must start from. A
-- row from before the rules that holds more than its status implies can't be approved, but it can be ended: what it
-- recorded stays, and what is missing is filled. skip_unreadable leaves one out whose values the driver can't read.

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

-- The server is part of the guard: an agent can't finish what another server runs.
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
