//! The responses of data operations, single and as items of a batch.

use serde::Serialize;
use utoipa::ToSchema;

use super::types::Base64Secret;
use crate::broker::{DataKey, Rewrapped, Unwrapped, Wrapped};

/// A generated data key.
#[derive(Serialize, ToSchema)]
pub struct DataKeyResponse {
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

impl From<DataKey> for DataKeyResponse {
    fn from(made: DataKey) -> Self {
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
pub struct WrapResponse {
    /// The wrapped key, opaque text of at most 22 KiB.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
}

impl From<Wrapped> for WrapResponse {
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
pub struct UnwrapResponse {
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

impl From<Unwrapped> for UnwrapResponse {
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
pub struct RewrapResponse {
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

impl From<Rewrapped> for RewrapResponse {
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
    /// Name of the schema of the batch's response, such as `BatchWrapResponse`.
    const BATCH: &'static str;
    /// Name of the schema of one item's result, such as `WrapItemResult`.
    const ITEM: &'static str;
    /// Name of the schema of a result that is no error, such as `WrappedItem`.
    const SUCCEEDED: &'static str;
}

/// The response of a successful item.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ItemResponse {
    /// A generated data key.
    DataKey(DataKeyResponse),
    /// A wrapped key.
    Wrap(WrapResponse),
    /// An unwrapped key.
    Unwrap(UnwrapResponse),
    /// A rewrapped key.
    Rewrap(RewrapResponse),
}

impl DataResponse for DataKeyResponse {
    const BATCH: &'static str = "BatchGenerateDataKeysResponse";
    const ITEM: &'static str = "GenerateItemResult";
    const SUCCEEDED: &'static str = "GeneratedItem";
}

impl From<DataKeyResponse> for ItemResponse {
    fn from(response: DataKeyResponse) -> Self {
        Self::DataKey(response)
    }
}

impl DataResponse for WrapResponse {
    const BATCH: &'static str = "BatchWrapResponse";
    const ITEM: &'static str = "WrapItemResult";
    const SUCCEEDED: &'static str = "WrappedItem";
}

impl From<WrapResponse> for ItemResponse {
    fn from(response: WrapResponse) -> Self {
        Self::Wrap(response)
    }
}

impl DataResponse for UnwrapResponse {
    const BATCH: &'static str = "BatchUnwrapResponse";
    const ITEM: &'static str = "UnwrapItemResult";
    const SUCCEEDED: &'static str = "UnwrappedItem";
}

impl From<UnwrapResponse> for ItemResponse {
    fn from(response: UnwrapResponse) -> Self {
        Self::Unwrap(response)
    }
}

impl DataResponse for RewrapResponse {
    const BATCH: &'static str = "BatchRewrapResponse";
    const ITEM: &'static str = "RewrapItemResult";
    const SUCCEEDED: &'static str = "RewrappedItem";
}

impl From<RewrapResponse> for ItemResponse {
    fn from(response: RewrapResponse) -> Self {
        Self::Rewrap(response)
    }
}
