-- Each transition is one guarded statement: no row comes back when the action isn't in the status it must start from.

-- name: ApproveAction :one
UPDATE remediation_actions
SET status = 'approved', approved_at = @approved_at, approved_by = CAST(@approved_by AS TEXT)
WHERE id = @id AND status = 'pending'
RETURNING *;

-- name: RejectAction :one
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = CAST(@rejected_by AS TEXT),
    rejection_reason = CAST(@rejection_reason AS TEXT)
WHERE id = @id AND status = 'pending'
RETURNING *;

-- name: WithdrawAction :one
UPDATE remediation_actions
SET status = 'rejected', rejected_at = @rejected_at, rejected_by = CAST(@rejected_by AS TEXT),
    rejection_reason = CAST(@rejection_reason AS TEXT)
WHERE id = @id AND status = 'approved'
RETURNING *;

-- The server is part of the guard: an agent can't finish what another server runs.
-- name: FinishAction :one
UPDATE remediation_actions
SET status = @status, completed_at = @completed_at, exit_code = CAST(@exit_code AS BIGINT),
    stdout = CAST(@stdout AS TEXT), stderr = CAST(@stderr AS TEXT)
WHERE id = @id AND server_id = @server_id AND status = 'executing'
RETURNING *;
