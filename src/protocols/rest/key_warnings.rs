//! The warnings of keys and versions.

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::model;

/// What weakens a key at its provider, or puts it in doubt. To end it, move the key to another provider key.
///
/// - `exportable`: whoever has the right to export keys at the provider gets the key material
/// - `plaintext_backup`: whoever has the right to back up keys at the provider gets the key material
/// - `missing`: the provider did not describe the version: it is gone there, or hidden
/// - `replaced`: another key has the version's names at the provider; nothing is wrapped with it
/// - `unproven`: another key may have the version's names at the provider; no new versions are taken over until the
///   provider opens what the version wrapped
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum KeyWarning {
    Exportable,
    PlaintextBackup,
    Missing,
    Replaced,
    Unproven,
}

/// The warnings of a version.
pub(super) fn warnings(version: &model::KeyVersion) -> Vec<KeyWarning> {
    let exportable = version.exposure.exportable.then_some(KeyWarning::Exportable);
    let plaintext_backup = version.exposure.plaintext_backup.then_some(KeyWarning::PlaintextBackup);
    let doubt = match version.provider_state {
        model::ProviderState::Unknown => Some(KeyWarning::Missing),
        model::ProviderState::Replaced | model::ProviderState::Unfit => version.is_replaced().then_some(KeyWarning::Replaced),
        model::ProviderState::Unproven => Some(KeyWarning::Unproven),
        model::ProviderState::Enabled
        | model::ProviderState::DecryptOnly
        | model::ProviderState::Disabled
        | model::ProviderState::PendingImport
        | model::ProviderState::PendingDeletion
        | model::ProviderState::Destroyed
        | model::ProviderState::Failed
        | model::ProviderState::Unrecognized => None,
    };
    exportable.into_iter().chain(plaintext_backup).chain(doubt).collect()
}
