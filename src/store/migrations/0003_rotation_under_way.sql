-- Since when the provider carries out a rotation that it has not finished (Unix microseconds).
ALTER TABLE keys ADD COLUMN rotating INTEGER;
CREATE INDEX keys_rotating ON keys (rotating) WHERE rotating IS NOT NULL AND detached = 0;
