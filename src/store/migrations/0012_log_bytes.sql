-- The bytes of each tenant's records in a node's log on one day (days since 1970-01-01 UTC), for the quota on them.
-- The next day's replace them. The log may have a tenant that an older store lacks.
CREATE TABLE log_bytes (
    node   TEXT    NOT NULL REFERENCES nodes (name),
    tenant BLOB    NOT NULL CHECK (length(tenant) = 16),
    day    INTEGER NOT NULL,
    bytes  INTEGER NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (node, tenant)
) STRICT, WITHOUT ROWID;
