-- Prune: terminal actions by when they ended. A row from before the rules may know only when it was created.
CREATE INDEX remediation_actions_ended
ON remediation_actions (coalesce(completed_at, rejected_at, created_at))
WHERE (status IN ('completed', 'failed', 'rejected')) IS TRUE;

-- ClearOutput: of those, the ones that have an output still, so that a nightly job does not pass over all history.
CREATE INDEX remediation_actions_ended_output
ON remediation_actions (coalesce(completed_at, rejected_at, created_at))
WHERE (status IN ('completed', 'failed', 'rejected')) IS TRUE AND (stdout IS NOT NULL OR stderr IS NOT NULL);
