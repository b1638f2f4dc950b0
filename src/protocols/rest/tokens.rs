//! `/v1/principals/{principal}/tokens`: API tokens. Only the response that creates a token contains its text.

use http::{Method, StatusCode};
use std::str::FromStr;

use claviger_provider::{KeyId, TokenId};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::handler::{empty_reply, json_reply};
use super::list::{List, Listed, list_reply};
use super::once::first_answer;
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::route::{PAGE_SIZE, PAGE_TOKEN, Route};
use super::types::{DurationText, Name, Timestamp};
use crate::access::{Action, KeySet};
use crate::broker::{Failure, GrantedToken, IssuedToken, NewTokenNamed, TokenNamed, WhoAmI, op};
use crate::store::model;

/// Whether a token ends with the token that issued it.
///
/// - `delegated`: ends with the token that issued it, and with any token above that one
/// - `standing`: ends only at its own expiry or revocation
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum TokenKind {
    #[default]
    Delegated,
    Standing,
}

impl From<TokenKind> for model::TokenKind {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Delegated => Self::Delegated,
            TokenKind::Standing => Self::Standing,
        }
    }
}

impl From<model::TokenKind> for TokenKind {
    fn from(kind: model::TokenKind) -> Self {
        match kind {
            model::TokenKind::Delegated => Self::Delegated,
            model::TokenKind::Standing => Self::Standing,
        }
    }
}

/// A new token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// The operations that the token allows, from the closed list of actions.
    #[schema(value_type = Vec<Operation>, min_items = 1)]
    pub operations: Vec<Action>,
    /// The names of the keys that the token may use, at most 256. Default: every key, those created later included.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 256)]
    pub keys: Option<Vec<Name>>,
    /// How long the token is valid, at most 366d. A delegated token cannot be valid for longer than the
    /// token that issues it. Default: 90d, or until the issuing token expires if a delegated token would outlive it.
    #[serde(default)]
    pub expires_in: Option<DurationText>,
    /// Default: `delegated`. Only a standing token with `ManageTokens` on every key can issue a standing one.
    #[serde(default)]
    pub kind: Option<TokenKind>,
}

/// The closed list of actions in the OpenAPI document.
pub struct Operation;

impl PartialSchema for Operation {
    fn schema() -> RefOr<Schema> {
        let words = Action::ALL.iter().map(|action| action.as_str());
        let operation = Object::builder().schema_type(Type::String).enum_values(Some(words));
        operation.description(Some("An operation that a token allows.")).into()
    }
}

impl ToSchema for Operation {}

/// A token, without its text.
#[derive(Serialize, ToSchema)]
pub struct Token {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The first characters of the token's text, by which to recognise the token.
    pub prefix: String,
    /// Whether the token ends with the token that issued it.
    pub kind: TokenKind,
    /// The id of the token that issued it and that it ends with. Null for a standing token: who issued that one
    /// is in the audit record of its creation.
    #[schema(required)]
    pub parent: Option<String>,
    /// The name of the token's principal.
    pub principal: String,
    /// The operations that the token allows.
    #[schema(value_type = Vec<Operation>)]
    pub operations: Vec<String>,
    /// The ids of the keys that the token may use; null for every key.
    #[schema(required)]
    pub keys: Option<Vec<String>>,
    /// When the token was created.
    pub created: Timestamp,
    /// When the token expires. From then on it is refused.
    pub expires: Timestamp,
    /// When the token, or a token above it, was revoked; null if none was.
    #[schema(required)]
    pub revoked: Option<Timestamp>,
}

/// A token with its text, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct CreatedToken {
    /// The token's text, which is the credential.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    pub token: String,
    /// The token's other members.
    #[serde(flatten)]
    pub about: Token,
}

/// A page of tokens.
pub type TokenList = List<Token>;

impl Listed for Token {
    const LIST: &'static str = "TokenList";
    const DESCRIPTION: &'static str = "A page of tokens.";
    const ITEMS: &'static str = "The tokens, ordered by id.";
}

fn response(granted: &GrantedToken) -> Token {
    let GrantedToken {
        row: token,
        principal,
        grants,
    } = granted;
    Token {
        id: token.id.to_string(),
        prefix: format!("clv_{}", token.public_id),
        kind: token.kind.into(),
        parent: token.parent.map(|parent| parent.to_string()),
        principal: principal.clone(),
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
    "Issue a token. It cannot allow more than the credential that issues it. A delegated token ends with that credential, a standing one does not.",
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
        kind: body.kind.unwrap_or_default().into(),
    };
    let life = body.expires_in.map(|life| life.0);
    let issue = |authorized, keep| request.broker.issue_token(authorized, life, keep);
    request.once::<op::IssueToken, _, _, _>(named, created, issue, first_answer).await
}

/// `GET /v1/principals/{principal}/tokens`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/principals/{principal}/tokens",
    "listTokens",
    "access",
    "List a principal's tokens, without their texts.",
    &[Action::ManageTokens],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<TokenList>(200, "A page of tokens.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ListTokens>(request.name("principal")?.as_str()).await?;
    let listed = request.broker.list_tokens(authorized, &request.page()?).await?;
    list_reply(&request, listed, response)
}

/// `DELETE /v1/principals/{principal}/tokens/{token}`
pub const DELETE: Route = Route::new(
    Method::DELETE,
    "/v1/principals/{principal}/tokens/{token}",
    "deleteToken",
    "access",
    "Revoke a token with all tokens below it, effective at the next request. The caller's own token must allow everything that the token allows; every token may revoke itself.",
    &[Action::ManageTokens],
)
.revocation()
.own_token()
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

/// The credential of the request, and the tenant that the request acts for.
#[derive(Serialize, ToSchema)]
pub struct Caller {
    /// The id of the tenant that the request acts for; zeros for an operator who names none.
    pub tenant: String,
    /// Whether the credential belongs to a platform operator.
    pub operator: bool,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}

fn caller(who: &WhoAmI) -> Caller {
    Caller {
        tenant: who.tenant.to_string(),
        operator: who.token.row.tenant == claviger_provider::TenantId::INSTALLATION,
        token: response(&who.token),
    }
}

/// `GET /v1/whoami`
pub const WHOAMI: Route = Route::new(
    Method::GET,
    "/v1/whoami",
    "whoAmI",
    "access",
    "Get the credential that the request carries: whose it is, what it allows, when it ends.",
    &[Action::ManageTokens],
)
.own_token()
.answers::<Caller>(200, "The credential.");

pub async fn whoami(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadOwnToken>(()).await?;
    json_reply(request.broker.who_am_i(&authorized)?, StatusCode::OK, |who| caller(&who))
}
