ALTER TABLE servers
    DROP COLUMN paused_at,
    DROP COLUMN is_paused;
