-- Runs on a connection without foreign keys: SQLite makes a table anew to drop a column that a
-- key or a CHECK names, and dropping the old table would count as deleting its rows.

-- keys, versions, claims

-- Custody is a version's: connection, provider and specification move from keys to key_versions.
-- primary_connection repeats the primary version's connection, so that a page of one
-- connection's keys is one range of an index. The store writes both in one transaction.
CREATE TABLE keys_anew (
    tenant             BLOB    NOT NULL REFERENCES tenants (id),
    id                 BLOB    NOT NULL CHECK (length(id) = 16),
    name               TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    compromised_since  INTEGER,
    detached           INTEGER,
    needs_restore      INTEGER NOT NULL CHECK (needs_restore IN (0, 1)),
    allow_export       INTEGER NOT NULL CHECK (allow_export IN (0, 1)),
    primary_version    INTEGER NOT NULL,
    primary_connection BLOB,
    rotating           INTEGER,
    cache              TEXT    NOT NULL,
    managed_by         TEXT,
    epoch              INTEGER NOT NULL,
    lifts              INTEGER NOT NULL,
    revision           INTEGER NOT NULL,
    created            INTEGER NOT NULL,
    updated            INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    CHECK (detached IS NOT NULL OR primary_connection IS NOT NULL)
) STRICT;
INSERT INTO keys_anew
    SELECT tenant, id, name, CASE disabled WHEN 0 THEN 'enabled' ELSE 'disabled' END, NULL,
        CASE detached WHEN 0 THEN NULL ELSE updated END, 0, allow_export, primary_version, connection, rotating, cache, managed_by,
        epoch, 0, revision, created, updated
    FROM keys;

-- A detached key outlives its connections: only then is `connection` null. What was stored as
-- disabled was the provider's state when it described the version. Providers 6 to 8 are
-- external key managers.
CREATE TABLE key_versions_anew (
    tenant            BLOB    NOT NULL,
    key               BLOB    NOT NULL,
    number            INTEGER NOT NULL CHECK (number >= 1),
    connection        BLOB,
    provider          INTEGER NOT NULL,
    provider_key      TEXT    NOT NULL,
    provider_version  TEXT    NOT NULL,
    spec              TEXT    NOT NULL,
    custody           TEXT    NOT NULL,
    state             TEXT    NOT NULL,
    provider_state    TEXT    NOT NULL,
    material          TEXT    NOT NULL,
    expires           INTEGER,
    compromised_since INTEGER,
    created           INTEGER NOT NULL,
    PRIMARY KEY (tenant, key, number),
    FOREIGN KEY (tenant, key) REFERENCES keys (tenant, id),
    FOREIGN KEY (tenant, connection) REFERENCES connections (tenant, id)
) STRICT, WITHOUT ROWID;
INSERT INTO key_versions_anew
    SELECT v.tenant, v.key, v.number, k.connection, k.provider, v.provider_key, v.provider_version, k.spec,
        CASE WHEN k.provider BETWEEN 6 AND 8 THEN 'external' ELSE 'provider' END, 'enabled',
        CASE v.enabled WHEN 0 THEN 'disabled' ELSE 'enabled' END,
        CASE WHEN k.provider BETWEEN 6 AND 8 THEN 'external' ELSE 'provider' END, NULL, NULL, v.created
    FROM key_versions v JOIN keys k ON k.tenant = v.tenant AND k.id = v.key;

-- Whether the keys of a connection are claimed for the installation as well, since the operator
-- lends the identity: the service within which provider key ids are unique ('' where they are unique
-- everywhere), or null. The providers decide it when a connection is made; this is what they would
-- have decided: 2 aws, 3 gcp, 4 azure, 5 vault.
ALTER TABLE connections ADD COLUMN claimed_in TEXT;
UPDATE connections SET claimed_in = '' WHERE provider = 2 AND managed_by = 'config'
    AND coalesce(json_type(settings, '$.auth.profile'), json_type(settings, '$.auth.web_identity'), json_type(settings, '$.auth.ambient'),
        json_type(settings, '$.auth.assume_role.base.profile'), json_type(settings, '$.auth.assume_role.base.web_identity'),
        json_type(settings, '$.auth.assume_role.base.ambient')) IS NOT NULL;
UPDATE connections SET claimed_in = '' WHERE provider = 3
    AND coalesce(json_type(settings, '$.auth.ambient'), json_type(settings, '$.auth.workload_identity.token_file'),
        json_type(settings, '$.auth.impersonate.base.ambient'),
        json_type(settings, '$.auth.impersonate.base.workload_identity.token_file')) IS NOT NULL;
UPDATE connections SET claimed_in = '' WHERE provider = 4
    AND (managed_by = 'config' OR coalesce(json_type(settings, '$.ca'), json_type(settings, '$.proxy')) IS NULL)
    AND coalesce(json_type(settings, '$.auth.application'), json_type(settings, '$.auth.managed_identity'),
        json_type(settings, '$.auth.workload_identity.token_file')) IS NOT NULL;
UPDATE connections SET claimed_in = json_extract(settings, '$.address') WHERE provider = 5 AND managed_by = 'config';

-- Which attached key is based on a provider key, once in a span: a tenant, or (16 zero bytes) the
-- installation, there once in a service. A detached key has no claim; its versions remember it. Until
-- now one table was both, for the installation, whoever came first.
CREATE TABLE claims (
    provider     INTEGER NOT NULL,
    provider_key TEXT    NOT NULL,
    span         BLOB    NOT NULL CHECK (length(span) = 16),
    service      TEXT    NOT NULL,
    tenant       BLOB    NOT NULL,
    key          BLOB    NOT NULL,
    PRIMARY KEY (provider, provider_key, span, service),
    FOREIGN KEY (tenant, key) REFERENCES keys (tenant, id)
) STRICT, WITHOUT ROWID;
INSERT INTO claims
    SELECT DISTINCT v.provider, v.provider_key, v.tenant, '', v.tenant, v.key
    FROM key_versions_anew v JOIN keys_anew k ON k.tenant = v.tenant AND k.id = v.key WHERE k.detached IS NULL;
INSERT INTO claims
    SELECT DISTINCT v.provider, v.provider_key, zeroblob(16), c.claimed_in, v.tenant, v.key
    FROM key_versions_anew v JOIN keys_anew k ON k.tenant = v.tenant AND k.id = v.key
        JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection
    WHERE k.detached IS NULL AND c.claimed_in IS NOT NULL;

DROP TABLE provider_keys;
DROP TABLE key_versions;
DROP TABLE keys;
ALTER TABLE keys_anew RENAME TO keys;
ALTER TABLE key_versions_anew RENAME TO key_versions;

-- One index for each combination of filters, each ending in the order of the list.
CREATE UNIQUE INDEX keys_by_name ON keys (tenant, name) WHERE detached IS NULL;
CREATE INDEX keys_by_state ON keys (tenant, state, name) WHERE detached IS NULL;
CREATE INDEX keys_by_connection ON keys (tenant, primary_connection, name) WHERE detached IS NULL;
CREATE INDEX keys_by_connection_and_state ON keys (tenant, primary_connection, state, name) WHERE detached IS NULL;
CREATE INDEX keys_rotating ON keys (rotating) WHERE rotating IS NOT NULL AND detached IS NULL;
CREATE INDEX keys_detached ON keys (tenant, id) WHERE detached IS NOT NULL;
CREATE INDEX key_versions_by_connection ON key_versions (tenant, connection);
-- Of a detached key: which one was based on a provider key.
CREATE INDEX key_versions_by_provider_key ON key_versions (tenant, provider, provider_key);
CREATE INDEX claims_by_key ON claims (tenant, key);
-- A provider's version is one version of ours, where the provider names it.
CREATE UNIQUE INDEX key_versions_by_provider ON key_versions (tenant, key, provider, provider_key, provider_version)
    WHERE provider_version <> '';

ALTER TABLE connections ADD COLUMN lifts INTEGER NOT NULL DEFAULT 0;

-- tokens, tenants

-- A standing token has a life of its own. A delegated one has a parent, the token that issued it,
-- and ends with it; `depth` counts the tokens above it. Tokens of before are standing.
-- The parent has no foreign key: it may be in another tenant (the installation's), and a token whose
-- parent's row is gone is refused.
ALTER TABLE tokens ADD COLUMN kind TEXT NOT NULL DEFAULT 'standing' CHECK (kind IN ('standing', 'delegated'));
ALTER TABLE tokens ADD COLUMN parent BLOB CHECK (parent IS NULL OR length(parent) = 16);
ALTER TABLE tokens ADD COLUMN depth INTEGER NOT NULL DEFAULT 0 CHECK (
    (kind = 'standing' AND parent IS NULL AND depth = 0)
    OR (kind = 'delegated' AND parent IS NOT NULL AND depth BETWEEN 1 AND 8)
);
-- Raised by what undoes a revocation; nothing undoes a token's yet.
ALTER TABLE tokens ADD COLUMN lifts INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tokens_by_parent ON tokens (parent) WHERE parent IS NOT NULL;

-- Raised by each resume.
ALTER TABLE tenants ADD COLUMN lifts INTEGER NOT NULL DEFAULT 0;

-- The names of deleted principals, for a while: deleting one again is no error, while a name that
-- never existed is one.
CREATE TABLE deleted_principals (
    tenant  BLOB    NOT NULL REFERENCES tenants (id),
    name    TEXT    NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX deleted_principals_by_age ON deleted_principals (deleted);

-- positions

-- A node is one process with an audit log of its own; `last` is the largest position of that log
-- whose effect was committed. The node's name stands in its data folder. `named` is 0 for the one
-- whose name this migration takes from the installation's row, until a start has written it there.
CREATE TABLE nodes (
    tenant BLOB    NOT NULL CHECK (tenant = zeroblob(16)) REFERENCES tenants (id),
    name   TEXT    NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
    last   INTEGER,
    named  INTEGER NOT NULL CHECK (named IN (0, 1))
) STRICT, WITHOUT ROWID;
INSERT INTO nodes (tenant, name, last, named)
    SELECT tenant, node, (SELECT max(position) FROM applied), 0 FROM installation;

-- Positions in a node's write-ahead log whose effects were committed.
CREATE TABLE applied_by_node (
    node     TEXT    NOT NULL REFERENCES nodes (name),
    position INTEGER NOT NULL,
    tenant   BLOB    NOT NULL REFERENCES tenants (id),
    PRIMARY KEY (node, position)
) STRICT, WITHOUT ROWID;
INSERT INTO applied_by_node (node, position, tenant)
    SELECT i.node, a.position, a.tenant FROM applied a CROSS JOIN installation i;
DROP TABLE applied;
ALTER TABLE applied_by_node RENAME TO applied;

ALTER TABLE installation DROP COLUMN node;

-- end: a reference without its row fails the migration, which then changes nothing.
CREATE TEMP TABLE dangling_references (number INTEGER NOT NULL CHECK (number = 0));
INSERT INTO dangling_references SELECT count(*) FROM pragma_foreign_key_check;
DROP TABLE dangling_references;
