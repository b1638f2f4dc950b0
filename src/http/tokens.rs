//! `/v1/principals/{principal}/tokens`: API tokens. A token's text stands in one answer only.

use std::collections::BTreeSet;
use std::str::FromStr;

use axum::http::StatusCode;
use claviger_provider::{KeyId, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, Object, Type};

use super::ask::Ask;
use super::handler::{empty_reply, json_reply, keeper};
use super::page;
use super::principals::{named, permit};
use super::reply::Reply;
use super::wire::{DurationText, Moment, Name};
use crate::access::{Action, Grants, KeySet, op};
use crate::broker::{Failure, IssuedToken, Listed, TokenRequest};
use crate::store::model::Token;

/// A new token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// The operations that it allows, from the closed list of actions.
    #[schema(schema_with = actions)]
    pub operations: Vec<Action>,
    /// The names of the keys that it reaches, at most 256; every key where left out.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 256)]
    pub keys: Option<Vec<Name>>,
    /// How long it lives, at most 366d; 90d where left out.
    #[serde(default)]
    pub expires_in: Option<DurationText>,
}

/// The closed list.
fn actions() -> Array {
    let words = Action::ALL.iter().map(|action| action.as_str());
    let items = Object::builder().schema_type(Type::String).enum_values(Some(words));
    let array = Array::builder().items(items).min_items(Some(1)).max_items(Some(Action::ALL.len()));
    let array = array.description(Some("The operations that it allows, from the closed list of actions."));
    array.examples([json!(["Wrap", "Unwrap"])]).build()
}

/// A token, without its text.
#[derive(Serialize, ToSchema)]
pub struct TokenShown {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The first characters of its text, which name it.
    pub prefix: String,
    /// The operations that it allows.
    pub operations: Vec<String>,
    /// The ids of the keys that it reaches; null for all.
    pub keys: Option<Vec<String>>,
    /// When it was made.
    pub created: Moment,
    /// From then on it is refused.
    pub expires: Moment,
    /// When it was revoked, if it was.
    pub revoked: Option<Moment>,
}

/// A token with its text, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct TokenIssued {
    /// The token's text: the credential itself.
    pub token: String,
    /// What it is.
    #[serde(flatten)]
    pub about: TokenShown,
}

/// A page of tokens.
#[derive(Serialize, ToSchema)]
pub struct TokenList {
    /// The tokens, by id.
    pub items: Vec<TokenShown>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

fn shown(token: &Token) -> Result<TokenShown, Failure> {
    let grants = Grants::from_kept(&token.grants).ok_or_else(|| Failure::internal(&"a token's grants are damaged"))?;
    Ok(TokenShown {
        id: token.id.to_string(),
        prefix: format!("clv_{}", token.public_id),
        operations: grants.operations().iter().map(|action| action.as_str().to_owned()).collect(),
        keys: match grants.keys() {
            KeySet::All => None,
            KeySet::Only(keys) => Some(keys.iter().map(KeyId::to_string).collect()),
        },
        created: Moment(token.created),
        expires: Moment(token.expires),
        revoked: token.revoked.map(Moment),
    })
}

#[utoipa::path(post, path = "/v1/principals/{principal}/tokens", operation_id = "createToken", tag = "access", request_body = CreateToken,
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 201, description = "The token with its text.", body = TokenIssued)))]
/// Issue a token. It can allow no more than the credential that issues it.
pub async fn create(ask: Ask, body: CreateToken) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = permit::<op::ManageTokens>(&ask)?;
    let principal = named(&ask).await?;
    let keys = match body.keys {
        None => KeySet::All,
        Some(names) => KeySet::Only(key_ids(&ask, &names).await?),
    };
    let grants = Grants::new(body.operations.into_iter().collect(), keys)
        .map_err(|_| Failure::invalid("", "at least one operation, and 1 to 256 keys or none named"))?;
    let once = match ask.once().await? {
        Ok(once) => once,
        Err(reply) => return Ok(reply),
    };
    let keep = once.keep_id(|row: &Token| row.id.to_string());
    let request = TokenRequest {
        grants,
        life: body.expires_in.map_or(TokenRequest::DEFAULT_LIFE, |life| life.0),
    };
    let issued = ask.broker.issue_token(&ask.cx, permit, &principal, request, keeper(&keep)).await?;
    let about = |IssuedToken { row, text }: IssuedToken| {
        let token = String::from_utf8_lossy(text.expose()).into_owned();
        shown(&row).map(|about| TokenIssued { token, about })
    };
    json_reply(issued.try_map(about)?, StatusCode::CREATED, |issued| issued)
}

async fn key_ids(ask: &Ask, names: &[Name]) -> Result<BTreeSet<KeyId>, Failure> {
    ask.cx.require_tenant()?;
    if names.is_empty() || names.len() > 256 {
        return Err(Failure::invalid("/keys", "1 to 256 names, or left out for every key"));
    }
    let mut ids = BTreeSet::new();
    for name in names {
        ids.insert(ask.broker.reached_key(&ask.cx, name.as_str()).await?);
    }
    Ok(ids)
}

#[utoipa::path(get, path = "/v1/principals/{principal}/tokens", operation_id = "listTokens", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name."),
        ("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of tokens.", body = TokenList)))]
/// List a principal's tokens; their texts are never shown again.
pub async fn list(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&["page_size", "page_token"])?;
    let permit = permit::<op::ManageTokens>(&ask)?;
    let principal = named(&ask).await?;
    let listed = ask.broker.list_tokens(&ask.cx, &permit, &principal, &ask.page()?).await?;
    let list = listed.try_map(|Listed { items, next }| {
        Ok(TokenList {
            items: items.iter().map(shown).collect::<Result<_, _>>()?,
            next_page_token: next.as_deref().map(page::encode),
        })
    })?;
    json_reply(list, StatusCode::OK, |list| list)
}

#[utoipa::path(delete, path = "/v1/principals/{principal}/tokens/{token}", operation_id = "deleteToken", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name."), ("token" = String, Path, description = "The token's id.", pattern = "^[0-9a-f]{32}$")),
    responses((status = 204, description = "Revoked.")))]
/// Revoke a token: refused at the next request.
pub async fn delete(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = permit::<op::ManageTokens>(&ask)?;
    let principal = named(&ask).await?;
    let id = TokenId::from_str(ask.raw("token")).map_err(|_| Failure::invalid("path:token", "a token's id: 32 lower-case hex digits"))?;
    let token = ask.broker.token(&principal, id).await?;
    empty_reply(ask.broker.revoke_token(&ask.cx, permit, &token).await?)
}
