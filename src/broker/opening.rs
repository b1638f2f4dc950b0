//! What every use of a wrapped key has in common: is it ours, may it be used, and the way
//! from its recipients to K.

use claviger_provider::{BoundContext, Pipeline, Wrapped};

use super::wrapping::ReadyKey;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{Attested, Context, Envelope, Opened, SealStatus};
use crate::keys::KeyView;

/// A wrapped key that may be used.
pub struct Accepted<'e> {
    /// The context as it is bound to this envelope.
    pub bound: BoundContext,
    /// There when the seal is valid: such an envelope may go inside a provider unopened.
    pub attested: Option<Attested<'e>>,
}

impl Broker {
    /// Decides whether a wrapped key may be used, before any provider call: it must be this
    /// tenant's and this key's, and its seal must hold, or there must be leave to do without.
    pub(super) async fn accept<'e>(
        &self,
        cx: &RequestContext,
        ready: &ReadyKey,
        envelope: &'e Envelope,
        context: &Context,
    ) -> Result<Accepted<'e>, Failure> {
        let header = envelope.header();
        if header.tenant() != ready.entry.tenant() || header.key() != ready.entry.id() {
            return Err(Failure::ciphertext_rejected());
        }
        let secrets = self.directory().secrets(ready.entry.tenant()).await?;
        let bound = context.bind(header);
        cx.note(|fields| {
            fields.dek_id = Some(header.dek_id());
            fields.context_hash = Some(secrets.hash_context(bound.bytes()));
            fields.wrapped_sha256 = Some(Digest(envelope.fingerprint()));
        });
        let attested = match envelope.seal_status(secrets.seal_keys()) {
            SealStatus::Sealed(attested) => Some(attested),
            SealStatus::Forged => return Err(Failure::ciphertext_rejected()),
            SealStatus::Unsealed => {
                self.admit_unsealed(cx, &ready.view.key).await?;
                None
            }
        };
        Ok(Accepted { bound, attested })
    }
}

/// The first recipient that our rows know, with our number of its version.
pub(super) fn usable(view: &KeyView, envelope: &Envelope) -> Option<(Wrapped, u32)> {
    recipients(view, envelope).next()
}

/// Addresses and connections never come from the blob: a recipient counts only if it names
/// a provider key and version that stand in our store for this very key.
fn recipients(view: &KeyView, envelope: &Envelope) -> impl Iterator<Item = (Wrapped, u32)> {
    envelope.recipients().iter().filter_map(|recipient| {
        let (provider, wrapped) = recipient.wrapped()?;
        let version = view.matching(provider, &wrapped.key).filter(|version| version.enabled)?;
        Some((wrapped, version.number))
    })
}

/// Tries the usable recipients, each once, until one opens the envelope.
///
/// # Errors
/// Unless one opens: what kept a recipient from being asked, else `ciphertext_rejected`.
pub(super) async fn open<'e>(
    cx: &RequestContext,
    view: &KeyView,
    pipeline: &Pipeline,
    envelope: &'e Envelope,
    bound: &BoundContext,
) -> Result<(Opened<'e>, u32), Failure> {
    let mut first: Option<Failure> = None;
    for (wrapped, version) in recipients(view, envelope) {
        let opened = match pipeline.unwrap_key(&cx.op_context(), &wrapped, bound).await {
            // K of the wrong length, or another K: the same answer as for any other fault of the blob.
            Ok(k) => envelope.open(k, bound).map_err(|_| Failure::ciphertext_rejected()),
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(opened) => return Ok((opened, version)),
            // That one recipient does not open it says less than that another could not be asked.
            Err(failure) => {
                if first.as_ref().is_none_or(|first| first.code == Code::CiphertextRejected) {
                    first = Some(failure);
                }
            }
        }
    }
    Err(first.unwrap_or_else(Failure::ciphertext_rejected))
}
