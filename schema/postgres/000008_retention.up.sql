-- For Prune: terminal actions by the latest of their times, which is when they ended unless a clock was wrong.
CREATE INDEX remediation_actions_ended
ON remediation_actions (greatest(created_at, approved_at, rejected_at, executed_at, completed_at), id)
WHERE status IN ('completed', 'failed', 'rejected', 'timed_out');

-- For ClearOutput: terminal actions that still have output, so that a nightly job does not scan all history.
CREATE INDEX remediation_actions_ended_output
ON remediation_actions (greatest(created_at, approved_at, rejected_at, executed_at, completed_at), id)
WHERE status IN ('completed', 'failed', 'rejected', 'timed_out') AND (stdout IS NOT NULL OR stderr IS NOT NULL);
