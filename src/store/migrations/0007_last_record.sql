-- The last durable record of a node's log that the store knows of: its place and its CRC-32C. Null
-- until the first record after this migration.
ALTER TABLE nodes ADD COLUMN log_position INTEGER;
ALTER TABLE nodes ADD COLUMN log_crc INTEGER;
