//! The columns that statements select for each kind of object. The aliases are unique over all
//! kinds, so one statement can join several.

macro_rules! tenant_columns {
    () => {
        "n.id AS tenant_id, n.name AS tenant_name, n.suspended AS tenant_suspended, n.created AS tenant_created, \
         n.lifts AS tenant_lifts"
    };
}

macro_rules! principal_columns {
    () => {
        "p.tenant AS principal_tenant, p.id AS principal_id, p.name AS principal_name, p.kind AS principal_kind, \
         p.created AS principal_created"
    };
}

macro_rules! token_columns {
    () => {
        "t.tenant AS token_tenant, t.id AS token_id, t.principal AS token_principal, t.public_id, t.secret_sha256, t.grants, \
         t.kind AS token_kind, t.parent AS token_parent, t.depth AS token_depth, t.lifts AS token_lifts, \
         t.created AS token_created, t.expires, t.revoked"
    };
}

/// A version `v`, with the name of its connection `c`.
macro_rules! version_columns {
    () => {
        "v.number, v.connection, c.name AS connection_name, v.provider, v.provider_key, v.provider_version, v.spec, v.custody, \
         v.state AS version_state, v.provider_state, v.material, v.expires, v.compromised_since AS version_compromised_since, \
         v.exportable, v.plaintext_backup, v.created AS version_created"
    };
}
