//! `/v1/principals/{principal}/tokens`: API tokens. A token's text stands in one answer only.

use std::collections::BTreeSet;
use std::str::FromStr;

use axum::http::StatusCode;
use claviger_provider::{KeyId, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, Object, Type};

use super::handler::{empty_reply, json_reply, keeper};
use super::page;
use super::principals::{named, permit};
use super::reply::Reply;
use super::request::ApiRequest;
use super::types::{DurationText, Name, Timestamp};
use crate::access::{Action, Grants, KeySet, op};
use crate::broker::{Failure, IssuedToken, Listed, TokenRequest};
use crate::store::model;

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
pub struct Token {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The first characters of its text, which name it.
    pub prefix: String,
    /// The operations that it allows.
    pub operations: Vec<String>,
    /// The ids of the keys that it reaches; null for all.
    pub keys: Option<Vec<String>>,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it is refused.
    pub expires: Timestamp,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
}

/// A token with its text, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct CreatedToken {
    /// The token's text: the credential itself.
    pub token: String,
    /// What it is.
    #[serde(flatten)]
    pub about: Token,
}

/// A page of tokens.
#[derive(Serialize, ToSchema)]
pub struct TokenList {
    /// The tokens, by id.
    pub items: Vec<Token>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

fn response(token: &model::Token) -> Result<Token, Failure> {
    let grants = Grants::from_kept(&token.grants).ok_or_else(|| Failure::internal(&"a token's grants are damaged"))?;
    Ok(Token {
        id: token.id.to_string(),
        prefix: format!("clv_{}", token.public_id),
        operations: grants.operations().iter().map(|action| action.as_str().to_owned()).collect(),
        keys: match grants.keys() {
            KeySet::All => None,
            KeySet::Only(keys) => Some(keys.iter().map(KeyId::to_string).collect()),
        },
        created: Timestamp(token.created),
        expires: Timestamp(token.expires),
        revoked: token.revoked.map(Timestamp),
    })
}

#[utoipa::path(post, path = "/v1/principals/{principal}/tokens", operation_id = "createToken", tag = "access", request_body = CreateToken,
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 201, description = "The token with its text.", body = CreatedToken)))]
/// Issue a token. It can allow no more than the credential that issues it.
pub async fn create(request: ApiRequest, body: CreateToken) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let permit = permit::<op::ManageTokens>(&request)?;
    let principal = named(&request).await?;
    let keys = match body.keys {
        None => KeySet::All,
        Some(names) => KeySet::Only(key_ids(&request, &names).await?),
    };
    let grants = Grants::new(body.operations.into_iter().collect(), keys)
        .map_err(|_| Failure::invalid("", "at least one operation, and 1 to 256 keys or none named"))?;
    let once = match request.once().await? {
        Ok(once) => once,
        Err(reply) => return Ok(reply),
    };
    let keep = once.keep_id(|row: &model::Token| row.id.to_string());
    let new_token = TokenRequest {
        grants,
        life: body.expires_in.map_or(TokenRequest::DEFAULT_LIFE, |life| life.0),
    };
    let issued = request
        .broker
        .issue_token(&request.cx, permit, &principal, new_token, keeper(&keep))
        .await?;
    let about = |IssuedToken { row, text }: IssuedToken| {
        let token = String::from_utf8_lossy(text.expose()).into_owned();
        response(&row).map(|about| CreatedToken { token, about })
    };
    json_reply(issued.try_map(about)?, StatusCode::CREATED, |issued| issued)
}

async fn key_ids(request: &ApiRequest, names: &[Name]) -> Result<BTreeSet<KeyId>, Failure> {
    request.cx.require_tenant()?;
    if names.is_empty() || names.len() > 256 {
        return Err(Failure::invalid("/keys", "1 to 256 names, or left out for every key"));
    }
    let mut ids = BTreeSet::new();
    for name in names {
        ids.insert(request.broker.reached_key(&request.cx, name.as_str()).await?);
    }
    Ok(ids)
}

#[utoipa::path(get, path = "/v1/principals/{principal}/tokens", operation_id = "listTokens", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name."),
        ("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of tokens.", body = TokenList)))]
/// List a principal's tokens; their texts are never shown again.
pub async fn list(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&["page_size", "page_token"])?;
    let permit = permit::<op::ManageTokens>(&request)?;
    let principal = named(&request).await?;
    let listed = request
        .broker
        .list_tokens(&request.cx, &permit, &principal, &request.page()?)
        .await?;
    let list = listed.try_map(|Listed { items, next }| {
        Ok(TokenList {
            items: items.iter().map(response).collect::<Result<_, _>>()?,
            next_page_token: next.as_deref().map(page::encode),
        })
    })?;
    json_reply(list, StatusCode::OK, |list| list)
}

#[utoipa::path(delete, path = "/v1/principals/{principal}/tokens/{token}", operation_id = "deleteToken", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name."), ("token" = String, Path, description = "The token's id.", pattern = "^[0-9a-f]{32}$")),
    responses((status = 204, description = "Revoked.")))]
/// Revoke a token: refused at the next request.
pub async fn delete(request: ApiRequest) -> Result<Reply, Failure> {
    request.only_query(&[])?;
    let permit = permit::<op::ManageTokens>(&request)?;
    let principal = named(&request).await?;
    let id =
        TokenId::from_str(request.raw("token")).map_err(|_| Failure::invalid("path:token", "a token's id: 32 lower-case hex digits"))?;
    let token = request.broker.token(&principal, id).await?;
    empty_reply(request.broker.revoke_token(&request.cx, permit, &token).await?)
}
