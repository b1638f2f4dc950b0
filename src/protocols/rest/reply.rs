//! What a handler gives to the exchange.

use serde::Serialize;
use utoipa::ToSchema;

use super::errors::Problem;
use super::response::Payload;

/// What a handler gives to the exchange, which records it.
pub type Reply = crate::protocols::exchange::Reply<Payload, BatchItem>;

/// The answers of a batch, in the order of its items.
#[derive(Serialize, ToSchema)]
pub struct BatchResponse {
    /// One for each item: the members of the single call's answer and `audit_index`, or `error`.
    pub items: Vec<BatchItem>,
}

/// What became of one item. It has the members of the single call's answer.
#[derive(Serialize, ToSchema)]
pub struct BatchItem {
    /// The plaintext, standard base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte)]
    pub plaintext: Option<String>,
    /// The wrapped key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<String>,
    /// The key's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The version that wrapped or opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Whether it came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// Whether a rewrap changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// Whether a rewrap stayed inside the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside_provider: Option<bool>,
    /// The place of the item's record, as `Claviger-Audit-Index` has it for a single call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_index: Option<String>,
    /// Why it failed; then nothing else is there but `audit_index`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

impl BatchItem {
    /// With nothing in it.
    pub const EMPTY: Self = Self {
        plaintext: None,
        wrapped: None,
        key: None,
        version: None,
        cached: None,
        changed: None,
        inside_provider: None,
        audit_index: None,
        error: None,
    };

    /// A failed item.
    pub const fn failed(error: Problem) -> Self {
        Self {
            error: Some(error),
            ..Self::EMPTY
        }
    }
}
