-- What the operator's configuration declares, or did: a plan compares it with the configuration.
CREATE INDEX connections_declared ON connections (tenant, name) WHERE managed_by IS NOT NULL;
CREATE INDEX keys_declared ON keys (tenant, name) WHERE managed_by IS NOT NULL AND detached IS NULL;
