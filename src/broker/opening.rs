//! Opening an envelope: whether it belongs to the key, whether its seal is valid, and which
//! recipient's wrapping the provider opens.

use claviger_provider::{BoundContext, Error, ErrorKind, Pipeline, Wrapped};

use super::wrapping::ReadyKey;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{Attested, Context, Envelope, Opened, SealStatus};
use crate::keys::KeyView;
use crate::store::model::KeyVersion;

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

    /// Opens an accepted envelope as [`open`]. If all its versions are stored as unusable at their provider,
    /// the provider is asked anew first, since their owner may have enabled them.
    ///
    /// # Errors
    /// Those of [`open`]; `key_state` while the provider's state forbids it, and what asking fails with.
    pub(super) async fn open<'e>(
        &self,
        cx: &RequestContext,
        ready: &ReadyKey,
        envelope: &'e Envelope,
        bound: &BoundContext,
    ) -> Result<(Opened<'e>, u32), Failure> {
        let refused = match usable(&ready.view, envelope) {
            Some(_) => None,
            None => refused_at_provider(&ready.view, envelope),
        };
        let Some(refused) = refused else {
            return open(cx, &ready.view, &ready.pipeline, envelope, bound).await;
        };
        self.ask_anew(cx, &ready.entry, refused).await?;
        let view = ready.entry.view()?;
        if usable(&view, envelope).is_none() {
            let error = Error::new(ErrorKind::KeyState, "the version's stored state at the provider forbids it");
            return Err(error.provider(refused.provider).into());
        }
        open(cx, &view, &ready.pipeline, envelope, bound).await
    }
}

/// A version that could open the envelope if its provider permitted it.
fn refused_at_provider<'v>(view: &'v KeyView, envelope: &Envelope) -> Option<&'v KeyVersion> {
    let matching = envelope.recipients().iter().filter_map(|recipient| {
        let (provider, wrapped) = recipient.wrapped()?;
        view.matching(provider, &wrapped.key)
    });
    matching
        .into_iter()
        .find(|version| version.state.unwraps() && !version.provider_state.permits())
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
async fn open<'e>(
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
