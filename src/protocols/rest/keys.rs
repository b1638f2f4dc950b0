//! `/v1/keys`: logical keys.

use claviger_provider::KeyId;
use http::Method;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::json;
use utoipa::ToSchema;

use super::handler::empty_reply;
use super::json;
use super::key_response::{Key, KeyList, Spec, VersionList, detached_response, response, switched_response, told_first, version_response};
use super::list::list_reply;
use super::once::{completed_reply, first_answer};
use super::request::{ApiRequest, wrong_token};
use super::response::ApiResponse;
use super::route::{PAGE_SIZE, PAGE_TOKEN, QueryParam, Route, reference};
use super::types::{CacheRules, LabelMap, Name};
use crate::access::Action;
use crate::broker::{Completed, Failure, KeyNamed, KeyQuery, NewKey, NewPrimary, RotateNamed, UpdateNamed, op};
use crate::store::model;

/// A new key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The key's name, unique in the tenant.
    pub name: Name,
    /// The name of the connection to the key's provider.
    pub connection: Name,
    /// Algorithm and length. Default: `aes-256`.
    #[serde(default)]
    pub spec: Option<Spec>,
    /// The id of an existing key at the provider. The gateway uses it instead of creating a new one. For
    /// `vault`: the Transit key's name. For the embedded provider: only
    /// that of a key that the tenant detached.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 512)]
    pub provider_key: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// Cache rules.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub cache: Option<CacheRules>,
    /// A fixed id (32 lower-case hex digits), so that another installation opens this key's wrapped keys. For
    /// platform operators only.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    pub id: Option<KeyId>,
}

/// The members of a key to change. Members that are left out stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateKey {
    /// A new name. It takes the permission `CreateKey` as well.
    #[serde(default)]
    pub name: Option<Name>,
    /// Replaces all labels.
    #[serde(default)]
    pub labels: Option<LabelMap>,
    /// Replaces all cache rules.
    #[serde(default, deserialize_with = "json::optional_object")]
    pub cache: Option<CacheRules>,
    /// Whether a rewrap may move data keys from external custody to another key. Setting it requires a reason
    /// in the header `Claviger-Justification`.
    #[serde(default)]
    pub allow_export: Option<bool>,
}

/// Where to enable or disable the key.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetKeyState {
    /// Whether to change the provider key's state, too. Default: false.
    #[serde(default)]
    pub at_provider: Option<bool>,
}

/// The new primary version's provider key; what is left out stays as it is.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// The name of the connection to reach it through. Another one moves the key.
    #[serde(default)]
    pub connection: Option<Name>,
    /// A key that exists at the provider, to adopt instead of making one.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 512)]
    pub provider_key: Option<String>,
    /// Algorithm and length. Default: those of the key's primary version.
    #[serde(default)]
    pub spec: Option<Spec>,
}

const CONNECTION_FILTER: QueryParam = QueryParam {
    name: "connection",
    description: "Only keys whose primary version uses this connection.",
    schema: || reference("Name"),
    example: || json!("aws-eu"),
};
const STATE_FILTER: QueryParam = QueryParam {
    name: "state",
    description: "Only `enabled` or only `disabled` keys, or instead the `detached` ones: each with the\ntime of its detach and what brings it back. Those have no labels, and come in the order of their ids.",
    schema: || reference("KeyStateFilter"),
    example: || json!("enabled"),
};
const LABEL_FILTER: QueryParam = QueryParam {
    name: "label",
    description: "Only keys with this label, in the form `name=value`.",
    schema: || json!({"type": "string", "pattern": "^[^=]*="}),
    example: || json!("env=prod"),
};

/// Which keys a list contains.
///
/// - `enabled`: the enabled ones
/// - `disabled`: the disabled ones
/// - `detached`: the detached ones instead
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum KeyStateFilter {
    Enabled,
    Disabled,
    Detached,
}

impl KeyStateFilter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let parsed: Result<Self, serde::de::value::Error> = Self::deserialize(text.into_deserializer());
        parsed.map_err(|_| Failure::invalid("query:state", "enabled, disabled or detached"))
    }
}

/// `POST /v1/keys`
pub const CREATE: Route = Route::new(
    Method::POST,
    "/v1/keys",
    "createKey",
    "keys",
    "Create a key at the provider, or adopt an existing one.",
    &[Action::CreateKey],
)
.repeatable()
.body::<CreateKey>()
.answers::<Key>(201, "The key.");

pub async fn create(request: ApiRequest, body: CreateKey) -> Result<ApiResponse, Failure> {
    let connection = body.connection;
    let create = async |authorized, keep| {
        let new = NewKey {
            name: body.name.into_string(),
            spec: body.spec.unwrap_or_default().into(),
            adopt: body.provider_key,
            id: body.id,
            labels: body.labels.unwrap_or_default().0,
            cache: body.cache.unwrap_or_default().check()?,
            declared: false,
        };
        request.broker.create_key(authorized, new, keep).await
    };
    request
        .once::<op::CreateKey, _, _, _>(connection.as_str(), response, create, first_answer)
        .await
}

/// `GET /v1/keys`
pub const LIST: Route = Route::new(
    Method::GET,
    "/v1/keys",
    "listKeys",
    "keys",
    "List the keys that the credential allows, ordered by name, or detached ones. Where few keys match several filters, a page can have fewer than `page_size` keys, or none, and a `next_page_token`: continue until there is none.",
    &[Action::ReadKey],
)
.page(&[PAGE_SIZE, PAGE_TOKEN, CONNECTION_FILTER, STATE_FILTER, LABEL_FILTER])
.answers::<KeyList>(200, "A page of keys.");

pub async fn list(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let connection = match request.query("connection") {
        None => None,
        Some(text) => Some(Name::parse(text).ok_or_else(|| Failure::invalid("query:connection", "a connection's name"))?),
    };
    let authorized = request.admit::<op::ListKeys>(connection.as_ref().map(Name::as_str)).await?;
    let page = request.page()?;
    let state = match request.query("state").map(KeyStateFilter::parse).transpose()? {
        None => None,
        Some(KeyStateFilter::Enabled) => Some(model::KeyState::Enabled),
        Some(KeyStateFilter::Disabled) => Some(model::KeyState::Disabled),
        Some(KeyStateFilter::Detached) if request.query("label").is_some() => {
            return Err(Failure::invalid("query:label", "nothing: detached keys have no labels"));
        }
        Some(KeyStateFilter::Detached) => {
            let listed = request.broker.list_detached_keys(authorized, &page).await?;
            return list_reply(&request, listed, detached_response);
        }
    };
    let label = match request.query("label") {
        None => None,
        Some(text) => {
            let (name, value) = text.split_once('=').ok_or_else(|| Failure::invalid("query:label", "name=value"))?;
            Some((name.to_owned(), value.to_owned()))
        }
    };
    let listed = request.broker.list_keys(authorized, KeyQuery { state, label }, &page).await?;
    list_reply(&request, listed, response)
}

/// `GET /v1/keys/{key}`
pub const GET: Route =
    Route::new(Method::GET, "/v1/keys/{key}", "getKey", "keys", "Get a key.", &[Action::ReadKey]).answers::<Key>(200, "The key.");

pub async fn get(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadKey>(KeyNamed::Name(request.name("key")?.as_str())).await?;
    completed_reply(request.broker.read_key(&authorized)?, response)
}

/// `PATCH /v1/keys/{key}`
pub const UPDATE: Route = Route::new(
    Method::PATCH,
    "/v1/keys/{key}",
    "updateKey",
    "keys",
    "Change a key's name, labels, cache rules or export.",
    &[Action::UpdateKey],
)
.body::<UpdateKey>()
.if_match()
.answers::<Key>(200, "The key.");

pub async fn update(request: ApiRequest, body: UpdateKey) -> Result<ApiResponse, Failure> {
    let key = request.name("key")?;
    let named = UpdateNamed {
        key: key.as_str(),
        new_name: body.name.as_ref().map(Name::as_str),
        allows_export: body.allow_export == Some(true),
    };
    let authorized = request.admit::<op::UpdateKey>(named).await?;
    let expected = request.if_match()?;
    if body.allow_export == Some(true) && request.cx.info().justification.is_none() {
        return Err(Failure::invalid(
            "header:Claviger-Justification",
            "the reason for which keys may leave their owner's custody (in the CLI: --justification)",
        ));
    }
    let patch = model::KeyPatch {
        name: body.name.map(Name::into_string),
        labels: body.labels.map(|labels| labels.0),
        cache: body.cache.map(CacheRules::check).transpose()?,
        allow_export: body.allow_export,
        ..model::KeyPatch::default()
    };
    completed_reply(request.broker.update_key(authorized, expected, patch).await?, response)
}

/// `DELETE /v1/keys/{key}`
pub const DELETE: Route = Route::new(
    Method::DELETE,
    "/v1/keys/{key}",
    "deleteKey",
    "keys",
    "Detach a key. The key at the provider does not change, and the id stays reserved. The tenant brings it back under that id by adopting its provider key (`listKeys` with `state=detached` shows them).",
    &[Action::DeleteKey],
)
.answers_nothing(204, "Detached.");

pub async fn delete(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request
        .admit::<op::DeleteKey>(KeyNamed::Name(request.name("key")?.as_str()))
        .await?;
    empty_reply(request.broker.detach(authorized).await?)
}

/// `GET /v1/keys/{key}/versions`
pub const VERSIONS: Route = Route::new(
    Method::GET,
    "/v1/keys/{key}/versions",
    "listKeyVersions",
    "keys",
    "List a key's versions, oldest first.",
    &[Action::ReadKey],
)
.page(&[PAGE_SIZE, PAGE_TOKEN])
.answers::<VersionList>(200, "A page of versions.");

pub async fn versions(request: ApiRequest) -> Result<ApiResponse, Failure> {
    let authorized = request.admit::<op::ReadKey>(KeyNamed::Name(request.name("key")?.as_str())).await?;
    let page = request.page()?;
    // The page token of a list of versions contains a version's number.
    let after: u32 = match &page.after {
        None => 0,
        Some(number) => number.parse().map_err(|_| wrong_token())?,
    };
    let listed = request.broker.list_versions(&authorized, after, &page)?;
    list_reply(&request, listed, version_response)
}

/// `POST /v1/keys/{key}/rotate`
pub const ROTATE: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/rotate",
    "rotateKey",
    "keys",
    "Rotate a key: create a new primary version. Older versions still unwrap. With another connection, a provider key or another specification the key moves: that needs `CreateKey` as well.",
    &[Action::Rotate],
)
.repeatable()
.optional_body::<RotateKey>()
.answers::<Key>(200, "The key with its new primary version.")
.answers::<Key>(
    202,
    "The provider has not finished. `rotation.state` of the key is `in_progress` until the new primary version exists.",
);

pub async fn rotate(request: ApiRequest, body: RotateKey) -> Result<ApiResponse, Failure> {
    let key = request.name("key")?;
    let new = NewPrimary {
        connection: body.connection.as_ref().map(Name::as_str),
        provider_key: body.provider_key.as_deref(),
        spec: body.spec.map(Into::into),
    };
    let named = RotateNamed { key: key.as_str(), new };
    let rotate = |authorized, keep| request.broker.rotate(authorized, new, keep);
    request.once::<op::Rotate, _, _, _>(named, response, rotate, first_answer).await
}

/// `POST /v1/keys/{key}/enable`
pub const ENABLE: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/enable",
    "enableKey",
    "keys",
    "Enable a disabled key. Repeated with its idempotency key, the request changes nothing and returns the key as it is now, with `at_provider` of the first response.",
    &[Action::Enable],
)
.repeatable()
.optional_body::<SetKeyState>()
.answers::<Key>(200, "The key.");

pub async fn enable(request: ApiRequest, body: SetKeyState) -> Result<ApiResponse, Failure> {
    let key = request.name("key")?;
    let enable = |authorized, keep| request.broker.enable(authorized, body.at_provider.unwrap_or_default(), keep);
    let repeated = |authorized: &_, first: Completed<String>| {
        completed_reply(
            request.broker.enable_repeated(authorized, told_first(&first.object))?,
            switched_response,
        )
    };
    request
        .once::<op::Enable, _, _, _>(KeyNamed::Name(key.as_str()), switched_response, enable, repeated)
        .await
}

/// `POST /v1/keys/{key}/disable`
pub const DISABLE: Route = Route::new(
    Method::POST,
    "/v1/keys/{key}/disable",
    "disableKey",
    "keys",
    "Disable a key: from the next request on, no operation uses it, and no cached data key is returned. With `at_provider`, the provider keys of its versions are disabled, too, as far as possible; `at_provider.result` says how far. The key is disabled here in any case. Each request is carried out: an idempotency key is ignored.",
    &[Action::Disable],
)
.revocation()
.optional_body::<SetKeyState>()
.answers::<Key>(200, "The key.");

pub async fn disable(request: ApiRequest, body: SetKeyState) -> Result<ApiResponse, Failure> {
    let key = request.name("key")?;
    let authorized = request.admit::<op::Disable>(KeyNamed::Name(key.as_str())).await?;
    let at_provider = body.at_provider.unwrap_or_default();
    completed_reply(request.broker.disable(authorized, at_provider).await?, switched_response)
}
