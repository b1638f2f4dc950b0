//! What a change writes beside its effect.

use std::sync::Arc;

use claviger_provider::KeyId;

use super::Refusals;
use super::model::{Creation, CredentialRef, IdempotencyRecord, Quotas};

/// What every change writes in its transaction beside its effect.
#[derive(Debug, Clone)]
pub struct Change {
    /// Position of the intent in this node's write-ahead log; `None` for a change without an intent
    /// (at the first start of an installation). Several changes may belong to one intent.
    pub intent: Option<u64>,
    /// The answer to keep for a repeated request.
    pub idempotency: Option<IdempotencyRecord>,
    /// The credential that must be in force when the change is committed ([`super::rules::check_credential`]).
    /// `None` for the gateway's own work, and where the effect is there already: at a provider, or in
    /// the kill file.
    pub credential: Option<Asker>,
    /// The quotas that limit what is added ([`super::rules::check_quota`]). `None` for revocations, for the
    /// gateway's own work, and where the effect exists already: rows are counted, and none is refused.
    pub quotas: Option<Quotas>,
    /// Whether it is a revocation, which is written before every other change that waits.
    pub revocation: bool,
    /// The creation of a provider key that begins or ends with it.
    pub creation: Option<CreationMark>,
    /// Keys of the tenant whose provider keys may have the id of one that is claimed: they were found at other servers.
    pub beside: Vec<KeyId>,
}

/// Who asks for a change.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The credential.
    pub credential: CredentialRef,
    /// What is refused although the rows do not show it.
    pub refusals: Arc<Refusals>,
}

/// Where a change stands in the creation of a provider key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreationMark {
    /// The provider is asked next; or, of a creation that has begun, it is asked again when this is due.
    Begins(Box<Creation>),
    /// A version has the key that was created under this id, or nothing was made.
    Ends(KeyId),
}

impl Change {
    /// A change with its intent at this position of the log.
    pub const fn announced(position: u64) -> Self {
        Self {
            intent: Some(position),
            idempotency: None,
            credential: None,
            quotas: None,
            revocation: false,
            creation: None,
            beside: Vec::new(),
        }
    }

    /// A change without an intent.
    pub const fn unannounced() -> Self {
        Self {
            intent: None,
            idempotency: None,
            credential: None,
            quotas: None,
            revocation: false,
            creation: None,
            beside: Vec::new(),
        }
    }

    /// Is refused unless this credential is in force in the transaction.
    #[must_use]
    pub fn asked_with(mut self, credential: Option<CredentialRef>, refusals: &Arc<Refusals>) -> Self {
        self.credential = credential.map(|credential| Asker {
            credential,
            refusals: Arc::clone(refusals),
        });
        self
    }

    /// Is refused where it adds more than these quotas allow.
    #[must_use]
    pub const fn within(mut self, quotas: Option<Quotas>) -> Self {
        self.quotas = quotas;
        self
    }

    /// Is written before every other change that waits.
    #[must_use]
    pub fn for_revocation(mut self) -> Self {
        self.revocation = true;
        self
    }

    /// Is committed whatever became of the credential and the quotas: the effect exists at the provider, and
    /// the rows must say so.
    #[must_use]
    pub fn already_effective(mut self) -> Self {
        self.credential = None;
        self.quotas = None;
        self
    }

    /// Notes that the provider is asked next to create a key.
    #[must_use]
    pub fn beginning(mut self, creation: Creation) -> Self {
        self.creation = Some(CreationMark::Begins(Box::new(creation)));
        self
    }

    /// Ends the creation of the key that was created under this id.
    #[must_use]
    pub fn ending(mut self, made_as: KeyId) -> Self {
        self.creation = Some(CreationMark::Ends(made_as));
        self
    }

    /// Claims provider keys beside those of the same ids that these keys of the tenant have at other servers.
    #[must_use]
    pub fn beside(mut self, keys: Vec<KeyId>) -> Self {
        self.beside = keys;
        self
    }

    /// Adds the answer to keep, if the request is to be kept.
    #[must_use]
    pub fn keeping(mut self, kept: Option<IdempotencyRecord>) -> Self {
        self.idempotency = kept;
        self
    }
}
