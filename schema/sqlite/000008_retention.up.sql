-- Prune: terminal actions by the latest of their times, which is when they ended unless a clock was wrong.
CREATE INDEX remediation_actions_ended
ON remediation_actions (max(created_at, coalesce(approved_at, created_at), coalesce(executed_at, created_at),
    coalesce(completed_at, rejected_at, created_at)))
WHERE (status IN ('completed', 'failed', 'rejected', 'timed_out')) IS TRUE;

-- ClearOutput: of those, the ones that have an output still, so that a nightly job does not pass over all history.
CREATE INDEX remediation_actions_ended_output
ON remediation_actions (max(created_at, coalesce(approved_at, created_at), coalesce(executed_at, created_at),
    coalesce(completed_at, rejected_at, created_at)))
WHERE (status IN ('completed', 'failed', 'rejected', 'timed_out')) IS TRUE AND (stdout IS NOT NULL OR stderr IS NOT NULL);
