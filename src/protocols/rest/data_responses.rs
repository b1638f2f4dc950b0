//! The responses of data operations, single and as items of a batch.

use serde::Serialize;
use utoipa::ToSchema;

use super::types::Base64Secret;
use crate::broker::{self, Rewrapped, Unwrapped, Wrapped};

/// A generated data key.
#[derive(Serialize, ToSchema)]
pub struct DataKey {
    /// The data key, standard base64; absent if the request did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Byte, extensions(("x-secret" = json!(true))))]
    pub plaintext: Option<Base64Secret>,
    /// The wrapped key, opaque text of at most 22 KiB.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
}

impl From<broker::DataKey> for DataKey {
    fn from(made: broker::DataKey) -> Self {
        Self {
            plaintext: made.plaintext.map(Base64Secret),
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
        }
    }
}

/// A wrapped key.
#[derive(Serialize, ToSchema)]
pub struct WrapResult {
    /// The wrapped key, opaque text of at most 22 KiB.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
}

impl From<Wrapped> for WrapResult {
    fn from(made: Wrapped) -> Self {
        Self {
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
        }
    }
}

/// An unwrapped key.
#[derive(Serialize, ToSchema)]
pub struct UnwrapResult {
    /// The unwrapped bytes, standard base64.
    #[schema(value_type = String, format = Byte, extensions(("x-secret" = json!(true))))]
    pub plaintext: Base64Secret,
    /// The key's name.
    pub key: String,
    /// The version that unwrapped it.
    pub version: u32,
    /// Whether the data key came from the cache, without a call to the provider.
    pub cached: bool,
}

impl From<Unwrapped> for UnwrapResult {
    fn from(opened: Unwrapped) -> Self {
        Self {
            plaintext: Base64Secret(opened.plaintext),
            key: opened.key,
            version: opened.version,
            cached: opened.cached,
        }
    }
}

/// A rewrapped key.
#[derive(Serialize, ToSchema)]
pub struct RewrapResult {
    /// The wrapped key.
    pub wrapped: String,
    /// The name of the key that wraps it now.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
    /// Whether it differs from the wrapped key in the request.
    pub changed: bool,
    /// Whether the provider rewrapped it internally, so that the gateway never had the data key.
    pub inside_provider: bool,
}

impl From<Rewrapped> for RewrapResult {
    fn from(made: Rewrapped) -> Self {
        Self {
            wrapped: made.wrapped,
            key: made.key,
            version: made.version,
            changed: made.changed,
            inside_provider: made.inside_provider,
        }
    }
}

/// The response of one data operation.
pub trait DataResponse: Serialize + ToSchema + Into<ItemResponse> + Send {
    /// Name of the schema of the batch's response, such as `BatchWrapResult`.
    const BATCH: &'static str;
    /// Name of the schema of one item's result, such as `WrapItemResult`.
    const ITEM: &'static str;
}

/// The response of a successful item.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ItemResponse {
    /// A generated data key.
    DataKey(DataKey),
    /// A wrapped key.
    Wrap(WrapResult),
    /// An unwrapped key.
    Unwrap(UnwrapResult),
    /// A rewrapped key.
    Rewrap(RewrapResult),
}

impl DataResponse for DataKey {
    const BATCH: &'static str = "BatchGenerateDataKeysResult";
    const ITEM: &'static str = "GenerateItemResult";
}

impl From<DataKey> for ItemResponse {
    fn from(response: DataKey) -> Self {
        Self::DataKey(response)
    }
}

impl DataResponse for WrapResult {
    const BATCH: &'static str = "BatchWrapResult";
    const ITEM: &'static str = "WrapItemResult";
}

impl From<WrapResult> for ItemResponse {
    fn from(response: WrapResult) -> Self {
        Self::Wrap(response)
    }
}

impl DataResponse for UnwrapResult {
    const BATCH: &'static str = "BatchUnwrapResult";
    const ITEM: &'static str = "UnwrapItemResult";
}

impl From<UnwrapResult> for ItemResponse {
    fn from(response: UnwrapResult) -> Self {
        Self::Unwrap(response)
    }
}

impl DataResponse for RewrapResult {
    const BATCH: &'static str = "BatchRewrapResult";
    const ITEM: &'static str = "RewrapItemResult";
}

impl From<RewrapResult> for ItemResponse {
    fn from(response: RewrapResult) -> Self {
        Self::Rewrap(response)
    }
}
