-- Provider keys that a provider was asked to create and that no version has yet. The row ends with the
-- request. Where its answer was lost, it stays: once it is `due`, the gateway asks the provider for the key,
-- and finishes what the request `wanted` (JSON of the model).
CREATE TABLE creations (
    tenant     BLOB    NOT NULL REFERENCES tenants (id),
    made_as    BLOB    NOT NULL CHECK (length(made_as) = 16),
    key        BLOB    NOT NULL CHECK (length(key) = 16),
    connection BLOB    NOT NULL CHECK (length(connection) = 16),
    spec       TEXT    NOT NULL,
    wanted     TEXT    NOT NULL,
    begun      INTEGER NOT NULL,
    due        INTEGER NOT NULL,
    PRIMARY KEY (tenant, made_as)
) STRICT, WITHOUT ROWID;
CREATE INDEX creations_by_due ON creations (due);
