-- A connection's own times, JSON; what is absent follows the installation.
ALTER TABLE connections ADD COLUMN timeouts TEXT NOT NULL DEFAULT '{}';
