ALTER TABLE servers DROP COLUMN paused_at;
ALTER TABLE servers DROP COLUMN is_paused;
