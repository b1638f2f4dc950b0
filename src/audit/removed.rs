//! What a record says of a part of the log whose files are removed: the record's member `removed`.

use std::collections::BTreeMap;

use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

use claviger_provider::TenantId;

use super::numbers::Numbers;
use super::scalar::{Digest, Number};

/// The oldest part of the log, whose files are removed after this record is durable. A removal of a
/// log with many tenants has several records, which differ in `next` alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub struct Removed {
    /// Whether its files were copied to the archive before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// The position of the last change before `to` that took effect. Absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Number>,
    /// The number of the first record that is not removed of tenants that no record of the removal names.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first: Number,
    /// The position of its first byte.
    pub from: Number,
    /// Whether further records of the same removal follow. The files are removed after the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The number of the first record of tenants that is not removed, or will be given next.
    pub next: BTreeMap<TenantId, Number>,
    /// SHA-256 of the contents from `from` to `to`.
    pub sha256: Digest,
    /// The position at which the log begins from then on.
    pub to: Number,
}

#[cfg(test)]
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &Number) -> bool {
    number.get() == 0
}

/// What recovery reads of [`Removed`]. As small as the other roles of a record: every frame has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removal {
    /// The position at which the log begins from then on.
    pub(super) to: u64,
    /// The position of the last change before it that took effect; 0 if there was none.
    pub(super) changed: u64,
    /// Whether this is the last record of the removal.
    pub(super) complete: bool,
}

impl Removed {
    /// Of what is between these positions, with the numbers at the second one.
    pub(super) fn between(from: u64, to: u64, numbers: Numbers, sha256: Digest) -> Self {
        let next = numbers.next.into_iter();
        Self {
            archived: false,
            changed: None,
            first: Number::saturating(numbers.first),
            from: Number::saturating(from),
            more: false,
            next: next.map(|(tenant, next)| (tenant, Number::saturating(next))).collect(),
            sha256,
            to: Number::saturating(to),
        }
    }

    /// What recovery reads of it.
    pub(super) fn summary(&self) -> Removal {
        Removal {
            to: self.to.get(),
            changed: self.changed.map_or(0, Number::get),
            complete: !self.more,
        }
    }
}
