//! The answers of data operations, alone and as items of a batch.

use serde::Serialize;
use utoipa::ToSchema;

use super::types::Base64Secret;
use crate::broker::{DataKey, Rewrapped, Unwrapped, Wrapped};

/// A generated data key.
#[derive(Serialize, ToSchema)]
pub struct DataKeyResponse {
    /// The key in clear, standard base64; absent if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Byte)]
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
    /// The bytes, standard base64.
    #[schema(value_type = String, format = Byte)]
    pub plaintext: Base64Secret,
    /// The key's name.
    pub key: String,
    /// The version that opened it.
    pub version: u32,
    /// Whether it came from the cache.
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
    /// The name of the key that it stands under now.
    pub key: String,
    /// The version that wrapped.
    pub version: u32,
    /// Whether it differs from what came in.
    pub changed: bool,
    /// Whether the data key stayed inside the provider.
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

/// The answer of one data operation.
pub trait DataResponse: Serialize + ToSchema + Into<ItemResponse> + Send {
    /// The name of the schema of a batch's answer, such as `BatchWrapResponse`.
    const BATCH: &'static str;
    /// The name of the schema of one item of it, such as `WrapItemResult`.
    const ITEM: &'static str;
}

/// The answer of an item that succeeded.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ItemResponse {
    /// Of generating a data key.
    DataKey(DataKeyResponse),
    /// Of wrapping.
    Wrap(WrapResponse),
    /// Of unwrapping.
    Unwrap(UnwrapResponse),
    /// Of rewrapping.
    Rewrap(RewrapResponse),
}

impl DataResponse for DataKeyResponse {
    const BATCH: &'static str = "BatchGenerateDataKeysResponse";
    const ITEM: &'static str = "GenerateItemResult";
}

impl From<DataKeyResponse> for ItemResponse {
    fn from(response: DataKeyResponse) -> Self {
        Self::DataKey(response)
    }
}

impl DataResponse for WrapResponse {
    const BATCH: &'static str = "BatchWrapResponse";
    const ITEM: &'static str = "WrapItemResult";
}

impl From<WrapResponse> for ItemResponse {
    fn from(response: WrapResponse) -> Self {
        Self::Wrap(response)
    }
}

impl DataResponse for UnwrapResponse {
    const BATCH: &'static str = "BatchUnwrapResponse";
    const ITEM: &'static str = "UnwrapItemResult";
}

impl From<UnwrapResponse> for ItemResponse {
    fn from(response: UnwrapResponse) -> Self {
        Self::Unwrap(response)
    }
}

impl DataResponse for RewrapResponse {
    const BATCH: &'static str = "BatchRewrapResponse";
    const ITEM: &'static str = "RewrapItemResult";
}

impl From<RewrapResponse> for ItemResponse {
    fn from(response: RewrapResponse) -> Self {
        Self::Rewrap(response)
    }
}
