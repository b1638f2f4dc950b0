-- How the material of a version's provider key can leave the provider, as the provider described it when the
-- version was stored. Versions of before this migration count as unexposed until they are adopted again.
ALTER TABLE key_versions ADD COLUMN exportable INTEGER NOT NULL DEFAULT 0 CHECK (exportable IN (0, 1));
ALTER TABLE key_versions ADD COLUMN plaintext_backup INTEGER NOT NULL DEFAULT 0 CHECK (plaintext_backup IN (0, 1));
