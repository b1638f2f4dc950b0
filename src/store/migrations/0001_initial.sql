-- Every table carries the tenant. The installation's own rows stand under 16 zero bytes.
-- Ids are 16 bytes; times are Unix microseconds; flags are 0 or 1.

CREATE TABLE tenants (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name      TEXT    NOT NULL UNIQUE,
    suspended INTEGER NOT NULL CHECK (suspended IN (0, 1)),
    created   INTEGER NOT NULL
) STRICT;

-- One row. root_check is a known text sealed under the root key.
CREATE TABLE installation (
    tenant     BLOB NOT NULL PRIMARY KEY CHECK (tenant = zeroblob(16)) REFERENCES tenants (id),
    id         BLOB NOT NULL CHECK (length(id) = 16),
    node       TEXT NOT NULL CHECK (length(node) = 32),
    root_check BLOB NOT NULL
) STRICT;

-- Positions in the write-ahead log whose effects were committed.
CREATE TABLE applied (
    position INTEGER NOT NULL PRIMARY KEY,
    tenant   BLOB    NOT NULL REFERENCES tenants (id)
) STRICT;

CREATE TABLE idempotency (
    tenant    BLOB    NOT NULL REFERENCES tenants (id),
    principal BLOB    NOT NULL CHECK (length(principal) = 16),
    route     TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    body_hmac BLOB    NOT NULL CHECK (length(body_hmac) = 32),
    status    INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    etag      TEXT,
    created   INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, route, key)
) STRICT;
CREATE INDEX idempotency_by_age ON idempotency (created);

CREATE TABLE sealed_values (
    tenant      BLOB NOT NULL REFERENCES tenants (id),
    row_id      TEXT NOT NULL CHECK (octet_length(row_id) BETWEEN 1 AND 128),
    column_name TEXT NOT NULL CHECK (octet_length(column_name) BETWEEN 1 AND 64),
    value       BLOB NOT NULL,
    PRIMARY KEY (tenant, row_id, column_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
    tenant  BLOB    NOT NULL REFERENCES tenants (id),
    id      BLOB    NOT NULL CHECK (length(id) = 16),
    name    TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE tokens (
    tenant        BLOB    NOT NULL,
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    principal     BLOB    NOT NULL,
    public_id     TEXT    NOT NULL UNIQUE,
    secret_sha256 BLOB    NOT NULL CHECK (length(secret_sha256) = 32),
    grants        TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    revoked       INTEGER,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, principal) REFERENCES principals (tenant, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX tokens_by_principal ON tokens (tenant, principal, id);

CREATE TABLE connections (
    tenant      BLOB    NOT NULL REFERENCES tenants (id),
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    name        TEXT    NOT NULL,
    provider    INTEGER NOT NULL,
    settings    TEXT    NOT NULL,
    labels      TEXT    NOT NULL,
    severed     INTEGER NOT NULL CHECK (severed IN (0, 1)),
    epoch       INTEGER NOT NULL,
    managed_by  TEXT,
    external_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
) STRICT;

-- A detached key outlives its connection: only then is `connection` null.
-- The primary version's provider key stands in key_versions alone.
CREATE TABLE keys (
    tenant          BLOB    NOT NULL REFERENCES tenants (id),
    id              BLOB    NOT NULL CHECK (length(id) = 16),
    name            TEXT    NOT NULL,
    connection      BLOB,
    provider        INTEGER NOT NULL,
    spec            TEXT    NOT NULL,
    disabled        INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    detached        INTEGER NOT NULL CHECK (detached IN (0, 1)),
    allow_export    INTEGER NOT NULL CHECK (allow_export IN (0, 1)),
    primary_version INTEGER NOT NULL,
    cache           TEXT    NOT NULL,
    managed_by      TEXT,
    epoch           INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    created         INTEGER NOT NULL,
    updated         INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, connection) REFERENCES connections (tenant, id),
    CHECK (detached = 1 OR connection IS NOT NULL)
) STRICT;
-- One index for each combination of filters, each ending in the order of the list.
CREATE UNIQUE INDEX keys_by_name ON keys (tenant, name) WHERE detached = 0;
CREATE INDEX keys_by_state ON keys (tenant, disabled, name) WHERE detached = 0;
CREATE INDEX keys_by_connection ON keys (tenant, connection, detached, name);
CREATE INDEX keys_by_connection_and_state ON keys (tenant, connection, detached, disabled, name);

CREATE TABLE key_versions (
    tenant           BLOB    NOT NULL,
    key              BLOB    NOT NULL,
    number           INTEGER NOT NULL CHECK (number >= 1),
    provider_key     TEXT    NOT NULL,
    provider_version TEXT    NOT NULL,
    enabled          INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created          INTEGER NOT NULL,
    PRIMARY KEY (tenant, key, number),
    FOREIGN KEY (tenant, key) REFERENCES keys (tenant, id)
) STRICT, WITHOUT ROWID;
-- A provider's version is one version of ours, where the provider names it.
CREATE UNIQUE INDEX key_versions_by_provider ON key_versions (tenant, key, provider_key, provider_version)
    WHERE provider_version <> '';

-- Which logical key stands on a provider key, once in the installation.
CREATE TABLE provider_keys (
    provider     INTEGER NOT NULL,
    provider_key TEXT    NOT NULL,
    tenant       BLOB    NOT NULL,
    key          BLOB    NOT NULL,
    PRIMARY KEY (provider, provider_key),
    FOREIGN KEY (tenant, key) REFERENCES keys (tenant, id)
) STRICT, WITHOUT ROWID;

-- The labels of keys that are not detached. key_name follows the key's name, so that a
-- page of one label's keys is one range of the index.
CREATE TABLE key_labels (
    tenant   BLOB NOT NULL,
    key      BLOB NOT NULL,
    label    TEXT NOT NULL,
    value    TEXT NOT NULL,
    key_name TEXT NOT NULL,
    PRIMARY KEY (tenant, key, label),
    FOREIGN KEY (tenant, key) REFERENCES keys (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_labels_by_value ON key_labels (tenant, label, value, key_name);
