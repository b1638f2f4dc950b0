//! `/v1/principals/{principal}/tokens`: API tokens. A token's text stands in one answer only.

use http::Method;
use std::str::FromStr;

use claviger_provider::{KeyId, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, Object, Type};

use super::handler::empty_reply;
use super::list::{List, Listed, list_reply};
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{DurationText, Name, Timestamp};
use crate::access::{Action, KeySet};
use crate::broker::{Failure, GrantedToken, IssuedToken, NewTokenNamed, TokenNamed, op};

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
pub type TokenList = List<Token>;

impl Listed for Token {
    const LIST: &'static str = "TokenList";
    const DESCRIPTION: &'static str = "A page of tokens.";
    const ITEMS: &'static str = "The tokens, by id.";
}

fn response(granted: &GrantedToken) -> Token {
    let GrantedToken { row: token, grants } = granted;
    Token {
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
    }
}

fn created(issued: &IssuedToken) -> CreatedToken {
    CreatedToken {
        token: String::from_utf8_lossy(issued.text.expose()).into_owned(),
        about: response(&issued.token),
    }
}

/// `POST /v1/principals/{principal}/tokens`
pub const CREATE: Route = Route::new(
    Method::POST,
    "/v1/principals/{principal}/tokens",
    "createToken",
    "access",
    "Issue a token. It can allow no more than the credential that issues it.",
    &[Action::ManageTokens],
)
.repeatable()
.body::<CreateToken>()
.answers::<CreatedToken>(201, "The token with its text.");

pub async fn create(request: ApiRequest, body: CreateToken) -> Result<ApiResponse, Failure> {
    let principal = request.name("principal")?;
    let keys: Option<Vec<&str>> = body.keys.as_ref().map(|names| names.iter().map(Name::as_str).collect());
    let named = NewTokenNamed {
        principal: principal.as_str(),
        operations: body.operations.into_iter().collect(),
        keys: keys.as_deref(),
    };
    let life = body.expires_in.map(|life| life.0);
    let issue = |authorized, keep| request.broker.issue_token(authorized, life, keep);
    request.once::<op::IssueToken, _, _, _>(named, created, issue).await
}

/// `GET /v1/principals/{principal}/tokens`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/principals/{principal}/tokens",
    "listTokens",
    "access",
    "List a principal's tokens; their texts are never shown again.",
    &[Action::ManageTokens],
)
.query(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<TokenList>(200, "A page of tokens.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListTokens>(request.name("principal")?.as_str()).await?;
    let listed = request.broker.list_tokens(authorized, &request.page()?).await?;
    list_reply(listed, response)
}

/// `DELETE /v1/principals/{principal}/tokens/{token}`
pub const DELETE: Route = Route::new(
    Method::DELETE,
    "/v1/principals/{principal}/tokens/{token}",
    "deleteToken",
    "access",
    "Revoke a token: refused at the next request.",
    &[Action::ManageTokens],
)
.answers_nothing(204, "Revoked.");

pub async fn delete(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let token =
        TokenId::from_str(&request.raw("token")).map_err(|_| Failure::invalid("path:token", "a token's id: 32 lower-case hex digits"))?;
    let principal = request.name("principal")?;
    let named = TokenNamed {
        principal: principal.as_str(),
        token,
    };
    let authorized = request.admit::<op::RevokeToken>(named).await?;
    empty_reply(request.broker.revoke_token(authorized).await?)
}
