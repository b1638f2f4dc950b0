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

-- merged with the other sections
ALTER TABLE keys ADD COLUMN lifts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN lifts INTEGER NOT NULL DEFAULT 0;
