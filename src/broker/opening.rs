//! Opening an envelope: whether it belongs to the key, whether its seal is valid, and which
//! recipient's wrapping the provider opens.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::{BoundContext, Error, OpContext, Pipeline, Secret};

use super::context::Behalf;
use super::lost_versions::{forbidden_at_provider, lost, refused_as};
use super::reach::{Reach, forbidden, permitted};
use super::young::WhileYoung;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{Attested, Context, Envelope, Opened, Recipient, Role, SealStatus};
use crate::keys::{EpochGuard, KeyEntry, KeyView};
use crate::store::model::{Key, KeyState, KeyVersion};

/// An envelope that may be used.
pub struct Accepted<'e> {
    /// The context, bound to this envelope.
    pub bound: BoundContext,
    /// Set if the seal is valid. A provider may then rewrap the envelope without opening it here.
    pub attested: Option<Attested<'e>>,
}

impl Broker {
    /// Decides whether an envelope may be used, before any provider call. It must name this tenant
    /// and key. Its seal must be valid, or the caller must have the permission `UnwrapUnsealed`.
    pub(super) async fn accept<'e>(
        &self,
        cx: &RequestContext,
        key: &Key,
        envelope: &'e Envelope,
        context: &Context,
    ) -> Result<Accepted<'e>, Failure> {
        let header = envelope.header();
        if header.tenant() != key.tenant || header.key() != key.id {
            return Err(Failure::ciphertext_rejected());
        }
        let secrets = self.directory().secrets(key.tenant).await?;
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
                self.admit_unsealed(cx, key).await?;
                None
            }
        };
        Ok(Accepted { bound, attested })
    }
}

/// The recipients that may be opened, in the envelope's order, each with the version that it names. A recovery recipient
/// is for recovery alone.
///
/// An envelope never decides which provider is called. A recipient counts only if the store has its
/// provider key and version for this key, and the version's states permit it.
pub(super) fn usable<'v>(view: &'v KeyView, envelope: &'v Envelope) -> impl Iterator<Item = (&'v Recipient, &'v KeyVersion)> {
    members(view, envelope).filter(|(_, version)| version.may_unwrap())
}

/// The member recipients that name a version of the key, each with that version.
fn members<'v>(view: &'v KeyView, envelope: &'v Envelope) -> impl Iterator<Item = (&'v Recipient, &'v KeyVersion)> {
    let members = envelope.recipients().iter().filter(|recipient| recipient.role() == Role::Member);
    members.filter_map(|recipient| Some((recipient, view.matching(recipient.provider()?, recipient.key())?)))
}

/// A version that could open the envelope if its provider permitted it.
fn refused_at_provider<'v>(view: &'v KeyView, envelope: &'v Envelope) -> Option<&'v KeyVersion> {
    members(view, envelope).find_map(|(_, version)| (version.state.unwraps() && !version.provider_state.unwraps()).then_some(version))
}

/// A version that would open the envelope if its own state permitted it.
fn refused_here<'v>(view: &'v KeyView, envelope: &'v Envelope) -> Option<&'v KeyVersion> {
    members(view, envelope).find_map(|(_, version)| (!version.state.unwraps()).then_some(version))
}

/// Opens one recipient's wrapping at the provider of its version. `young` has the version that may be too young for
/// its provider to know it, with its key; `None` if it is not known.
///
/// # Errors
/// What the provider reports, and `ciphertext_rejected`.
pub(super) async fn open_one<'e>(
    cx: &RequestContext,
    pipeline: &Pipeline,
    recipient: &Recipient,
    envelope: &'e Envelope,
    bound: &BoundContext,
    young: Option<(&Broker, &KeyEntry, &KeyVersion)>,
) -> Result<Opened<'e>, Failure> {
    // An algorithm that this release does not know, or a malformed ciphertext.
    let (_, wrapped) = recipient.wrapped().ok_or_else(Failure::ciphertext_rejected)?;
    let mut pauses = WhileYoung::new();
    let k = loop {
        match pipeline.unwrap_key(&cx.op_context(), &wrapped, bound).await {
            Ok(k) => break k,
            // Boxed, since it is rare and would be part of every unwrap's future.
            Err(error) => {
                Box::pin(async {
                    let Some((broker, entry, version)) = young else {
                        return Err(error.into());
                    };
                    pauses.wait(cx.info().deadline, version, error).await?;
                    broker.still_permitted(Behalf::Request(cx), entry, KeyState::unwraps)
                })
                .await?;
            }
        }
    };
    // A wrong data key or a wrong length gets the same error as every other fault.
    envelope.open(k, bound).map_err(|_| Failure::ciphertext_rejected())
}

/// Unwraps a canary through a pipeline.
///
/// # Errors
/// What the provider reports, and `ciphertext_rejected` for another data key than was wrapped.
pub(super) async fn open_canary<E: From<Error> + From<Failure>>(cx: &OpContext, pipeline: &Pipeline, canary: &Secret) -> Result<(), E> {
    let damaged = || Failure::internal(&"a canary that cannot be read");
    let text = std::str::from_utf8(canary.expose()).map_err(|_| damaged())?;
    let envelope = Envelope::parse(text).map_err(|_| damaged())?;
    let recipient = envelope.recipients().first().ok_or_else(damaged)?;
    let bound = Context::default().bind(envelope.header());
    let (_, wrapped) = recipient.wrapped().ok_or_else(damaged)?;
    let dek = pipeline.unwrap_key(cx, &wrapped, &bound).await?;
    envelope
        .open(dek, &bound)
        .map(drop)
        .map_err(|_| Failure::ciphertext_rejected().into())
}

/// A version, with the way to it.
pub(super) struct Through<'a> {
    /// The key.
    pub entry: &'a Arc<KeyEntry>,
    /// The version.
    pub version: &'a KeyVersion,
    /// The way.
    pub reach: &'a Reach,
}

/// The failure of an envelope none of whose recipients opened.
#[derive(Default)]
pub(super) struct Refusals(Option<Failure>);

impl Refusals {
    /// Notes why one recipient did not open. A failure to try a recipient takes precedence over a
    /// rejection, because it tells the caller more.
    pub(super) fn note(&mut self, failure: Failure) {
        if self.0.as_ref().is_none_or(|first| first.code == Code::CiphertextRejected) {
            self.0 = Some(failure);
        }
    }

    /// The first failure that is not a rejection, else `ciphertext_rejected`.
    pub(super) fn into_failure(self) -> Failure {
        self.0.unwrap_or_else(Failure::ciphertext_rejected)
    }
}

/// An opened envelope.
pub(super) struct OpenedThrough<'e> {
    /// Its data key.
    pub opened: Opened<'e>,
    /// The number of the version that opened it.
    pub version: u32,
    /// The epochs of the key, and of the connection that it was opened through.
    pub epoch_guard: EpochGuard,
}

impl Broker {
    /// The key's rows, with at least one version that may open the envelope. If all matching
    /// versions are stored as unusable at their provider, asks the provider for their state again,
    /// because their owner may have enabled them.
    ///
    /// # Errors
    /// `key_state` while the provider's state or the gateway's own forbids it, and what asking fails with.
    pub(super) async fn openable(
        &self,
        cx: &RequestContext,
        entry: &Arc<KeyEntry>,
        view: KeyView,
        envelope: &Envelope,
    ) -> Result<KeyView, Failure> {
        if usable(&view, envelope).next().is_some() {
            return Ok(view);
        }
        let Some(refused) = refused_at_provider(&view, envelope) else {
            return refused_here(&view, envelope).map(forbidden).map_or(Ok(view), Err);
        };
        // Boxed, since it is rare and would be part of every unwrap's future.
        Box::pin(self.ask_anew(cx, entry, refused)).await?;
        // A disable may have come while the provider was asked.
        let now = entry.view()?;
        permitted(&now, KeyState::unwraps)?;
        if usable(&now, envelope).next().is_none() {
            return Err(forbidden_at_provider(refused_at_provider(&now, envelope).unwrap_or(refused)));
        }
        Ok(now)
    }

    /// As [`open_one`]. If it is refused for the state of key or version, opens it once more after a look at what
    /// became of them.
    pub(super) async fn open_through<'e>(
        &self,
        cx: &RequestContext,
        through: &Through<'_>,
        recipient: &Recipient,
        envelope: &'e Envelope,
        bound: &BoundContext,
    ) -> Result<Opened<'e>, Failure> {
        self.directory().note_use(through.entry, through.version.provider, Instant::now());
        let young = Some((self, &**through.entry, through.version));
        match open_one(cx, &through.reach.pipeline, recipient, envelope, bound, young).await {
            // Boxed, since it is rare and would be part of every unwrap's future.
            Err(refused) if refused.code == Code::KeyState => {
                Box::pin(async {
                    let described = self.look_into(cx, through.entry, through.version).await;
                    let view = through.entry.view()?;
                    permitted(&view, KeyState::unwraps)?;
                    let mut versions = view.versions.iter();
                    let Some(now) = versions.find(|version| version.number == through.version.number) else {
                        return Err(refused);
                    };
                    if !(described && now.may_unwrap()) {
                        return Err(refused_as(now, refused));
                    }
                    open_one(cx, &through.reach.pipeline, recipient, envelope, bound, young).await
                })
                .await
            }
            // The ciphertext may be right, and the version another one, or gone. A key of another type calls the request
            // wrong.
            Err(rejected)
                if through.version.provider.reuses_names() && (rejected.rejected_by_provider || rejected.code == Code::InvalidRequest) =>
            {
                Box::pin(async {
                    let described = self.look_into(cx, through.entry, through.version).await;
                    let view = through.entry.view()?;
                    permitted(&view, KeyState::unwraps)?;
                    // Without a description since, the rejection may not be of the ciphertext.
                    let rejected = Failure {
                        rejected_by_provider: rejected.rejected_by_provider && described,
                        ..rejected
                    };
                    Err(lost(&view, through.version).map_or(rejected, forbidden_at_provider))
                })
                .await
            }
            opened => opened,
        }
    }

    /// The epoch guards of all members of an envelope with several recipients; none for one with a single recipient,
    /// which depends on what opens it alone. While the connection of any member is severed, no recipient is used:
    /// whoever severs must be sure that nothing opens the data keys that it protects.
    ///
    /// # Errors
    /// `connection_severed`, and what a connection cannot be read with.
    pub(super) async fn all_members(&self, entry: &Arc<KeyEntry>, view: &KeyView, envelope: &Envelope) -> Result<Vec<EpochGuard>, Failure> {
        if envelope.recipients().len() == 1 {
            return Ok(Vec::new());
        }
        // Boxed, since it is rare and would be part of every unwrap's future.
        Box::pin(async {
            let mut guards = Vec::new();
            for (_, version) in members(view, envelope) {
                if let Some(connection) = self.directory().reach(entry, version).await? {
                    guards.push(Reach::through(connection)?.epoch_guard(entry, view));
                }
            }
            Ok(guards)
        })
        .await
    }

    /// Tries the usable recipients, each once and through its own connection, until one opens the
    /// envelope. `admits` decides on each version before its provider is called.
    ///
    /// # Errors
    /// If none opens it, see [`Refusals::into_failure`].
    pub(super) async fn open<'e>(
        &self,
        cx: &RequestContext,
        (entry, view): (&Arc<KeyEntry>, &KeyView),
        envelope: &'e Envelope,
        bound: &BoundContext,
        admits: impl Fn(&KeyVersion) -> Result<(), Failure> + Send,
    ) -> Result<OpenedThrough<'e>, Failure> {
        let mut refusals = Refusals::default();
        for (recipient, version) in usable(view, envelope) {
            let tried = async {
                admits(version)?;
                let reach = self.reach(entry, version).await?;
                let through = Through {
                    entry,
                    version,
                    reach: &reach,
                };
                let opened = self.open_through(cx, &through, recipient, envelope, bound).await?;
                Ok((opened, reach.epoch_guard(entry, view)))
            };
            match tried.await {
                Ok((opened, epoch_guard)) => {
                    return Ok(OpenedThrough {
                        opened,
                        version: version.number,
                        epoch_guard,
                    });
                }
                Err(failure) => refusals.note(failure),
            }
        }
        Err(refusals.into_failure())
    }
}
