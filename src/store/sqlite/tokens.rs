//! API tokens.

use claviger_provider::{PrincipalId, TenantId, TokenId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query, query_scalar};

use super::row::{self, Columns, bytes, integer};
use super::{SqliteStore, principals, tenants, usage};
use crate::store::StoreError;
use crate::store::model::{Page, Resource, Token, TokenSnapshot};
use crate::store::rules;
use crate::store::transaction::TokenRoots;

fn read(row: &SqliteRow) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.id("token_id")?,
        tenant: row.id("token_tenant")?,
        principal: row.id("token_principal")?,
        public_id: row.value("public_id")?,
        secret_sha256: row.hash("secret_sha256")?,
        grants: row.value("grants")?,
        kind: row.word("token_kind")?,
        parent: row.optional_id("token_parent")?,
        depth: row.number("token_depth")?,
        lifts: row.number("token_lifts")?,
        created: row.value("token_created")?,
        expires: row.value("expires")?,
        revoked: row.value("revoked")?,
    })
}

pub(super) async fn insert(connection: &mut SqliteConnection, token: &Token) -> Result<(), StoreError> {
    query(
        "INSERT INTO tokens (tenant, id, principal, public_id, secret_sha256, grants, created, expires, revoked, kind, parent, depth, \
         lifts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )
    .bind(bytes(&token.tenant))
    .bind(bytes(&token.id))
    .bind(bytes(&token.principal))
    .bind(&token.public_id)
    .bind(token.secret_sha256.as_slice())
    .bind(&token.grants)
    .bind(token.created)
    .bind(token.expires)
    .bind(token.revoked)
    .bind(token.kind.as_str())
    .bind(token.parent.as_ref().map(bytes))
    .bind(token.depth)
    .bind(integer(token.lifts)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The line of tokens above the presented one ends at [`rules::MAX_DEPTH`], so that damaged rows
/// cannot make it endless. A parent is of the same tenant or of the installation.
pub(super) async fn by_public_id(executor: impl SqliteExecutor<'_>, public_id: &str) -> Result<TokenSnapshot, StoreError> {
    let rows = query(concat!(
        "WITH RECURSIVE line (tenant, id, parent, step) AS ( \
         SELECT tenant, id, parent, 0 FROM tokens WHERE public_id = ?1 \
         UNION ALL SELECT a.tenant, a.id, a.parent, line.step + 1 FROM line \
         JOIN tokens a ON a.id = line.parent AND a.tenant IN (line.tenant, zeroblob(16)) WHERE line.step < ?2) \
         SELECT ",
        token_columns!(),
        ", ",
        principal_columns!(),
        ", ",
        tenant_columns!(),
        " FROM line JOIN tokens t ON t.tenant = line.tenant AND t.id = line.id \
         JOIN principals p ON p.tenant = t.tenant AND p.id = t.principal JOIN tenants n ON n.id = t.tenant ORDER BY line.step"
    ))
    .bind(public_id)
    .bind(rules::MAX_DEPTH)
    .fetch_all(executor)
    .await?;
    let (row, above) = rows.split_first().ok_or(StoreError::NotFound)?;
    Ok(TokenSnapshot {
        token: read(row)?,
        principal: principals::read(row)?,
        tenant: tenants::read(row)?,
        ancestors: above.iter().map(read).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: TokenId) -> Result<Token, StoreError> {
    let row = query(concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens t WHERE t.tenant = ?1 AND t.id = ?2"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .fetch_one(executor)
    .await?;
    read(&row)
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError> {
    // A page starts after the id that the page before it ended with.
    let after = page
        .after
        .as_deref()
        .map(str::parse::<TokenId>)
        .transpose()
        .map_err(|_| StoreError::NotFound)?;
    let statement = query(concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens t WHERE t.tenant = ?1 AND t.principal = ?2 AND t.id > ?3 ORDER BY t.id LIMIT ?4"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&principal))
    .bind(after.as_ref().map_or(&[][..], bytes))
    .bind(page.size);
    row::page(statement.fetch(&mut *store.list_reader(tenant).await?), read).await
}

/// The parent of a token of this tenant.
pub(super) async fn parent(connection: &mut SqliteConnection, tenant: TenantId, parent: TokenId) -> Result<Token, StoreError> {
    let row = query(concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens t WHERE t.id = ?2 AND t.tenant IN (?1, zeroblob(16))"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&parent))
    .fetch_one(connection)
    .await?;
    read(&row)
}

/// The tokens that `roots` selects by tenant (?1) and id (?2), and all their descendants.
macro_rules! family {
    ($roots:literal) => {
        concat!(
            "WITH RECURSIVE family (tenant, id) AS (SELECT tenant, id FROM tokens WHERE ",
            $roots,
            " UNION SELECT t.tenant, t.id FROM family JOIN tokens t ON t.parent = family.id) "
        )
    };
}

/// Revokes a family.
macro_rules! revoke_family {
    ($roots:literal) => {
        concat!(
            family!($roots),
            "UPDATE tokens SET revoked = ?3 WHERE revoked IS NULL AND (tenant, id) IN (SELECT tenant, id FROM family) \
             RETURNING public_id"
        )
    };
}

/// The public ids of a token and of all that descend from it.
pub(super) async fn family(connection: &mut SqliteConnection, tenant: TenantId, id: TokenId) -> Result<Vec<String>, StoreError> {
    let statement = concat!(
        family!("tenant = ?1 AND id = ?2"),
        "SELECT public_id FROM tokens WHERE (tenant, id) IN (SELECT tenant, id FROM family)"
    );
    Ok(query_scalar(statement)
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .fetch_all(connection)
        .await?)
}

pub(super) async fn revoke(connection: &mut SqliteConnection, roots: TokenRoots, at: i64) -> Result<Vec<String>, StoreError> {
    let ended = match &roots {
        TokenRoots::One(tenant, id) => query_scalar(revoke_family!("tenant = ?1 AND id = ?2"))
            .bind(bytes(tenant))
            .bind(bytes(id)),
        TokenRoots::Of(tenant, principal) => query_scalar(revoke_family!("tenant = ?1 AND principal = ?2"))
            .bind(bytes(tenant))
            .bind(bytes(principal)),
    };
    Ok(ended.bind(at).fetch_all(connection).await?)
}

/// Deletes tokens that ended before this time. Those below a token end no later than it.
pub(super) async fn delete_ended(store: &SqliteStore, before: i64) -> Result<u64, StoreError> {
    let statement = "DELETE FROM tokens WHERE rowid IN (SELECT rowid FROM tokens INDEXED BY tokens_by_end \
                     WHERE min(expires, coalesce(revoked, expires)) < ?1 LIMIT ?2) RETURNING tenant";
    usage::prune(store, statement, Resource::Tokens, before).await
}
