//! Rewrap: the same data key under the key's primary version, or under another key.

use claviger_provider::How;

use super::export::{Destination, may_leave};
use super::reach::permitted;
use super::wrapping::{ReadyKey, unfit};
use super::{Authorized, Broker, Code, Failure, Guarded, RequestContext, op, opening};
use crate::audit::{Digest, Number, Rewrap, RewrapEnd};
use crate::envelope::{Context, DataKeyLength, Draft, Envelope, Pending, Suite};
use crate::store::model::{KeyState, KeyVersion};

/// A rewrapped key.
#[derive(Debug)]
pub struct Rewrapped {
    /// The new envelope's text.
    pub wrapped: String,
    /// The name of the key that wraps it now.
    pub key: String,
    /// The number of the key's version that wrapped.
    pub version: u32,
    /// Whether the envelope differs from the one given.
    pub changed: bool,
    /// Whether the provider rewrapped it without showing the data key.
    pub inside_provider: bool,
}

impl Broker {
    /// Rewraps under the primary version of the same key. Header and commitment stay. A sealed
    /// envelope that is wrapped by the primary version alone is returned unchanged, but only after
    /// it was opened, so that a wrong context is refused here, too.
    ///
    /// # Errors
    /// As [`Broker::unwrap`].
    pub async fn rewrap(
        &self,
        authorized: Authorized<op::Rewrap>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Rewrapped>, Failure> {
        let (cx, entry) = (authorized.cx(), authorized.object());
        let view = entry.view()?;
        let source = opening::usable(&view, envelope).next();
        let _turn = authorized.turn(source.map_or(&view.key.primary, |(_, version)| version)).await?;
        // Before any call to a provider, the question about a version's state included.
        let accepted = self.accept(cx, &view.key, envelope, context).await?;
        let ready = self.ready(cx, entry).await?;
        let openable = self.openable(cx, entry, ready.view.clone(), envelope).await?;
        let members = self.all_members(entry, &openable, envelope).await?;
        let guarded = |answer: Guarded<Rewrapped>| members.into_iter().fold(answer, Guarded::and_guard);
        let (key, to) = (&ready.view.key, &ready.view.key.primary);
        let secrets = self.directory().secrets(entry.tenant()).await?;
        let seal = secrets.seal_key();

        // A provider can rewrap internally only if both versions use the same connection and the
        // same specification.
        let at_primary =
            opening::usable(&openable, envelope).find(|(_, version)| version.connection == to.connection && version.spec == to.spec);
        if let (How::InsideProvider, Some(attested), Some((recipient, from))) = (ready.can()?.rewrap, accepted.attested, at_primary)
            && let Some((_, wrapped)) = recipient.wrapped()
        {
            let made = ready.rewrap_key(cx, self, &wrapped, &accepted.bound).await?;
            let new = attested.rewrap(ready.provider(), &made, seal).map_err(unfit)?;
            let version = ready.version_of(cx, self, &made).await?;
            note_rewrap(cx, (envelope, from.number), Some((&new, version)), true);
            return Ok(guarded(answer(&ready, &new, version, true, true).and_guard(ready.epoch_guard)));
        }

        let admits = |from: &KeyVersion| {
            authorized.names(from);
            may_leave(key, from, Destination::SameKey(to.custody))
        };
        let source = self.open(cx, (entry, &openable), envelope, &accepted.bound, admits).await?;
        authorized.names(to);
        let from = source.version;
        let is_alone = accepted.attested.is_some() && envelope.recipients().len() == 1 && !to.provider_version.is_empty();
        let unchanged = || {
            note_rewrap(cx, (envelope, from), Some((envelope, from)), false);
            answer(&ready, envelope, from, false, false)
        };
        if is_alone && from == to.number && !ready.can()?.chooses_version {
            return Ok(unchanged().and_guard(source.epoch_guard));
        }
        // Which version is current, a provider that chooses it says with each wrap.
        let made = ready.wrap_key(cx, self, source.opened.data_key(), &accepted.bound).await?;
        let version = ready.version_of(cx, self, &made).await?;
        if is_alone && from == version {
            return Ok(unchanged().and_guard(source.epoch_guard).and_guard(ready.epoch_guard));
        }
        let new = source.opened.rewrap(ready.provider(), &made, seal).map_err(unfit)?;
        note_rewrap(cx, (envelope, from), Some((&new, version)), false);
        let answer = answer(&ready, &new, version, true, false);
        Ok(guarded(answer.and_guard(source.epoch_guard).and_guard(ready.epoch_guard)))
    }

    /// Rewraps under another key of the tenant, always through the gateway's memory and never
    /// inside the provider.
    ///
    /// Always makes a new envelope with a new `dek_id`, because the header contains the key's id.
    /// In suite 2 (wrapped bytes of a caller) it also makes a new data key: the payload is
    /// encrypted with a fixed nonce, so its key must never encrypt under a second header.
    ///
    /// # Errors
    /// As [`Broker::unwrap`] for the source and [`Broker::wrap`] for the target;
    /// `permission_denied` where the source's custody is external and export was not allowed.
    pub async fn rewrap_to(
        &self,
        authorized: Authorized<op::RewrapToOther>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Rewrapped>, Failure> {
        let (cx, from) = (authorized.cx(), &authorized.object().source);
        let view = from.view()?;
        let source = opening::usable(&view, envelope).next();
        let _turn = authorized.turn(source.map_or(&view.key.primary, |(_, version)| version)).await?;
        permitted(&view, KeyState::unwraps)?;
        if envelope.header().scope().is_some() {
            return Err(scope_unsupported());
        }
        // Before any call to a provider, the question about a version's state included.
        let accepted = self.accept(cx, &view.key, envelope, context).await?;
        let target = self.ready(cx, &authorized.object().target).await;
        let target = target.inspect_err(|_| authorized.turn_to_target())?;
        let view = from.view()?;
        permitted(&view, KeyState::unwraps)?;
        let view = self.openable(cx, from, view, envelope).await?;
        let members = self.all_members(from, &view, envelope).await?;
        let admits = |from: &KeyVersion| {
            authorized.names(from);
            may_leave(&view.key, from, Destination::AnotherKey)
        };
        let source = self.open(cx, (from, &view), envelope, &accepted.bound, admits).await?;
        let (opened, version) = (source.opened, source.version);
        note_rewrap(cx, (envelope, version), None, false);

        let origin = target.origin(None, self.now());
        let draft = match envelope.header().suite() {
            Suite::Direct => {
                // The envelope opened, so the length is valid.
                let length = DataKeyLength::from_bytes(opened.plaintext().len()).ok_or_else(Failure::ciphertext_rejected)?;
                Pending::new(origin, length, context).commit(opened.into_plaintext())
            }
            Suite::Sealed => Draft::sealed(origin, opened.plaintext(), context),
        }
        .map_err(|_| Failure::ciphertext_rejected())?;
        let wrapped_key = target.wrap(cx, self, &draft).await?;
        note_rewrap(cx, (envelope, version), Some((&wrapped_key.envelope, wrapped_key.version)), false);
        authorized.turn_to_target();
        let answer = answer(&target, &wrapped_key.envelope, wrapped_key.version, true, false);
        let answer = members.into_iter().fold(answer, Guarded::and_guard);
        Ok(answer.and_guard(source.epoch_guard).and_guard(target.epoch_guard))
    }
}

/// Adds source and target to the record.
fn note_rewrap(cx: &RequestContext, source: (&Envelope, u32), target: Option<(&Envelope, u32)>, inside_provider: bool) {
    let end = |(envelope, version): (&Envelope, u32)| RewrapEnd {
        dek_id: envelope.header().dek_id(),
        key: envelope.header().key(),
        key_version: Number::from(version),
        wrapped_sha256: Digest(envelope.fingerprint()),
    };
    cx.note(|fields| {
        fields.rewrap = Some(Rewrap {
            source: end(source),
            target: target.map(end),
        });
        fields.key_version = target.map(|(_, version)| version);
        fields.inside_provider = Some(inside_provider);
    });
}

/// The answer, which the caller guards by each connection that it depends on.
fn answer(ready: &ReadyKey, envelope: &Envelope, version: u32, changed: bool, inside_provider: bool) -> Guarded<Rewrapped> {
    let answer = Rewrapped {
        wrapped: envelope.as_text().to_owned(),
        key: ready.view.key.name.clone(),
        version,
        changed,
        inside_provider,
    };
    Guarded::free(answer)
}

/// The failure for a scope: scopes are reserved until they can be bound to keys.
pub fn scope_unsupported() -> Failure {
    Failure::new(Code::Unsupported, "Scopes cannot be bound to keys yet.").advice("Leave the scope out.")
}
