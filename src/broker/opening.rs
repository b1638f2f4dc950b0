//! Opening an envelope: whether it belongs to the key, whether its seal is valid, and which
//! recipient's wrapping the provider opens.

use claviger_provider::{BoundContext, Pipeline, Wrapped};

use super::wrapping::ReadyKey;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{Attested, Context, Envelope, Opened, SealStatus};
use crate::keys::KeyView;

/// An envelope that may be used.
pub struct Accepted<'e> {
    /// The context, bound to this envelope.
    pub bound: BoundContext,
    /// Set if the seal is valid: a provider may then rewrap the envelope without opening it here.
    pub attested: Option<Attested<'e>>,
}

impl Broker {
    /// Decides whether an envelope may be used, before any provider call. It must name this tenant
    /// and key. Its seal must be valid, or the caller must have the permission `UnwrapUnsealed`.
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

/// The first recipient of a known version of the key, with the version's number.
pub(super) fn usable(view: &KeyView, envelope: &Envelope) -> Option<(Wrapped, u32)> {
    recipients(view, envelope).next()
}

/// An envelope never decides which provider is called: a recipient counts only if the store has
/// its provider key and version for this key.
fn recipients(view: &KeyView, envelope: &Envelope) -> impl Iterator<Item = (Wrapped, u32)> {
    envelope.recipients().iter().filter_map(|recipient| {
        let (provider, wrapped) = recipient.wrapped()?;
        let version = view.matching(provider, &wrapped.key).filter(|version| version.unwraps())?;
        Some((wrapped, version.number))
    })
}

/// Tries the usable recipients, each once, until one opens the envelope.
///
/// # Errors
/// If none opens it: the first failure that is not a rejection, else `ciphertext_rejected`.
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
            // A data key of the wrong length, or another one: the same answer as for any other fault.
            Ok(k) => envelope.open(k, bound).map_err(|_| Failure::ciphertext_rejected()),
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(opened) => return Ok((opened, version)),
            // That another recipient could not be tried says more than that this one was rejected.
            Err(failure) => {
                if first.as_ref().is_none_or(|first| first.code == Code::CiphertextRejected) {
                    first = Some(failure);
                }
            }
        }
    }
    Err(first.unwrap_or_else(Failure::ciphertext_rejected))
}
