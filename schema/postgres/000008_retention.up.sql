-- Prune: terminal actions by when they ended. A row from before the rules may know only when it was created.
CREATE INDEX remediation_actions_ended
ON remediation_actions (coalesce(completed_at, rejected_at, created_at), id)
WHERE status IN ('completed', 'failed', 'rejected');

-- ClearOutput: of those, the ones that have an output still, so that a nightly job does not pass over all history.
CREATE INDEX remediation_actions_ended_output
ON remediation_actions (coalesce(completed_at, rejected_at, created_at), id)
WHERE status IN ('completed', 'failed', 'rejected') AND (stdout IS NOT NULL OR stderr IS NOT NULL);
