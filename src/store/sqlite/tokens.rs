//! API tokens.

use claviger_provider::{PrincipalId, TenantId, TokenId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query};

use super::row::{Columns, bytes, one_row};
use super::{SqliteStore, principals, tenants};
use crate::store::StoreError;
use crate::store::model::{Page, Principal, Tenant, Token};

fn read(row: &SqliteRow) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.id("token_id")?,
        tenant: row.id("token_tenant")?,
        principal: row.id("token_principal")?,
        public_id: row.value("public_id")?,
        secret_sha256: row.hash("secret_sha256")?,
        grants: row.value("grants")?,
        created: row.value("token_created")?,
        expires: row.value("expires")?,
        revoked: row.value("revoked")?,
    })
}

pub(super) async fn insert(connection: &mut SqliteConnection, token: &Token) -> Result<(), StoreError> {
    query(
        "INSERT INTO tokens (tenant, id, principal, public_id, secret_sha256, grants, created, expires, revoked) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
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
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn by_public_id(store: &SqliteStore, public_id: &str) -> Result<(Token, Principal, Tenant), StoreError> {
    let row = query(concat!(
        "SELECT ",
        token_columns!(),
        ", ",
        principal_columns!(),
        ", ",
        tenant_columns!(),
        " FROM tokens t JOIN principals p ON p.tenant = t.tenant AND p.id = t.principal JOIN tenants n ON n.id = t.tenant \
         WHERE t.public_id = ?1"
    ))
    .bind(public_id)
    .fetch_one(&store.readers)
    .await?;
    Ok((read(&row)?, principals::read(&row)?, tenants::read(&row)?))
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
    query(concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens t WHERE t.tenant = ?1 AND t.principal = ?2 AND t.id > ?3 ORDER BY t.id LIMIT ?4"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&principal))
    .bind(after.as_ref().map_or(&[][..], bytes))
    .bind(page.size)
    .fetch_all(&store.readers)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn of_principal(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    principal: PrincipalId,
) -> Result<Vec<Token>, StoreError> {
    query(concat!(
        "SELECT ",
        token_columns!(),
        " FROM tokens t WHERE t.tenant = ?1 AND t.principal = ?2 ORDER BY t.id"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&principal))
    .fetch_all(connection)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn update(connection: &mut SqliteConnection, token: &Token) -> Result<(), StoreError> {
    let updated = query("UPDATE tokens SET revoked = ?3 WHERE tenant = ?1 AND id = ?2")
        .bind(bytes(&token.tenant))
        .bind(bytes(&token.id))
        .bind(token.revoked)
        .execute(connection)
        .await?;
    one_row(&updated)
}
