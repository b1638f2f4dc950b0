//! What a handler gives to the exchange.

use serde::Serialize;

use super::data_responses::ItemResponse;
use super::errors::Problem;
use super::response::Payload;
use crate::broker::{BatchOutcome, Guarded};

/// What a handler gives to the exchange, which concludes it.
pub enum Reply {
    /// One outcome, one record.
    One(Guarded<Payload>),
    /// A batch: for each item its operation and its own outcome.
    Batch(Vec<BatchOutcome<BatchItem>>),
}

/// The answers of a batch, in the order of its items.
#[derive(Serialize)]
pub struct BatchResponse {
    /// One for each item.
    pub items: Vec<BatchItem>,
}

/// What became of one item: the members of the single call's answer, or `error`.
#[derive(Serialize)]
pub struct BatchItem {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    response: Option<ItemResponse>,
    /// The place of the item's record, as `Claviger-Audit-Index` has it for a single call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl BatchItem {
    /// An item that succeeded.
    pub const fn succeeded(response: ItemResponse) -> Self {
        Self {
            response: Some(response),
            audit_index: None,
            error: None,
        }
    }

    /// An item that failed.
    pub const fn failed(error: Problem) -> Self {
        Self {
            response: None,
            audit_index: None,
            error: Some(error),
        }
    }
}
