-- How many objects of each kind a tenant has: a change that adds or deletes one changes the number in
-- its own transaction, so that a quota needs no count of rows. `resource` is a word of the model.
-- Detached keys and their versions count, and tokens that have ended, until their rows are deleted.
CREATE TABLE usage (
    tenant   BLOB    NOT NULL REFERENCES tenants (id),
    resource TEXT    NOT NULL,
    number   INTEGER NOT NULL CHECK (number >= 0),
    PRIMARY KEY (tenant, resource)
) STRICT, WITHOUT ROWID;
INSERT INTO usage SELECT tenant, 'keys', count(*) FROM keys GROUP BY tenant;
INSERT INTO usage SELECT tenant, 'versions', count(*) FROM key_versions GROUP BY tenant;
INSERT INTO usage SELECT tenant, 'connections', count(*) FROM connections GROUP BY tenant;
INSERT INTO usage SELECT tenant, 'principals', count(*) FROM principals GROUP BY tenant;
INSERT INTO usage SELECT tenant, 'tokens', count(*) FROM tokens GROUP BY tenant;
INSERT INTO usage SELECT tenant, 'idempotency_keys', count(*) FROM idempotency GROUP BY tenant;

-- By the time at which a token ended, or will.
CREATE INDEX tokens_by_end ON tokens (min(expires, coalesce(revoked, expires)));
