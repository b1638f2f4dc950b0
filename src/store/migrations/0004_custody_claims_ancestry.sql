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
