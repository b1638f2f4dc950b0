//! Rewrap: the same data key under the key's primary version, or under another key.

use claviger_provider::How;

use super::wrapping::{ReadyKey, ready, unfit};
use super::{Authorized, Broker, Code, Failure, Guarded, RequestContext, op, opening};
use crate::audit::{Digest, Number, Rewrap, RewrapEnd};
use crate::envelope::{Context, DataKeyLength, Draft, Envelope, Pending, Suite};

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
    /// envelope that is wrapped by the primary version alone is returned unchanged, after it was
    /// opened: a wrong context is refused here, too.
    ///
    /// # Errors
    /// As [`Broker::unwrap`].
    pub async fn rewrap(
        &self,
        authorized: Authorized<op::Rewrap>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Rewrapped>, Failure> {
        let cx = authorized.cx();
        let _turn = authorized.turn().await?;
        let ready = ready(authorized.object())?;
        let accepted = self.accept(cx, &ready, envelope, context).await?;
        let primary = ready.primary();
        let secrets = self.directory().secrets(ready.entry.tenant()).await?;
        let pipeline = &ready.pipeline;
        let seal = secrets.seal_key();

        if let (How::InsideProvider, Some(attested), Some((wrapped, from))) =
            (ready.can()?.rewrap, accepted.attested, opening::usable(&ready.view, envelope))
        {
            let made = pipeline
                .rewrap_key(&cx.op_context(), &wrapped, &primary, &accepted.bound)
                .await?
                .wrapped;
            let new = attested.rewrap(pipeline.kind(), &made, seal).map_err(unfit)?;
            let version = ready.version_of(cx, self, &made).await?;
            note_rewrap(cx, (envelope, from), Some((&new, version)), true);
            return Ok(answer(ready, &new, version, true, true));
        }

        let (opened, from) = self.open(cx, &ready, envelope, &accepted.bound).await?;
        let current = accepted.attested.is_some() && envelope.recipients().len() == 1 && from == ready.view.key.primary.number;
        if current && !primary.key.version.is_empty() {
            note_rewrap(cx, (envelope, from), Some((envelope, from)), false);
            return Ok(answer(ready, envelope, from, false, false));
        }
        let made = pipeline
            .wrap_key(&cx.op_context(), &primary, opened.data_key(), &accepted.bound)
            .await?;
        let new = opened.rewrap(pipeline.kind(), &made, seal).map_err(unfit)?;
        let version = ready.version_of(cx, self, &made).await?;
        note_rewrap(cx, (envelope, from), Some((&new, version)), false);
        Ok(answer(ready, &new, version, true, false))
    }

    /// Rewraps under another key of the tenant, always through the gateway's memory. Always makes a
    /// new envelope: the payload key of suite 2 must never be used with a second header.
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
        let cx = authorized.cx();
        let _turn = authorized.turn().await?;
        let target = ready(&authorized.object().target).inspect_err(|_| authorized.turn_to_target())?;
        let from = ready(&authorized.object().source)?;
        let leaves = from.pipeline.kind().external_custody() && !target.pipeline.kind().external_custody();
        if leaves && !from.view.key.allow_export {
            return Err(Failure::new(
                Code::PermissionDenied,
                "The source key's custody is external and export is not allowed.",
            )
            .advice("The tenant's administrator can set allow_export on the source key, with a justification."));
        }
        if envelope.header().scope().is_some() {
            return Err(scope_unsupported());
        }
        let accepted = self.accept(cx, &from, envelope, context).await?;
        let (opened, version) = self.open(cx, &from, envelope, &accepted.bound).await?;
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
        Ok(answer(target, &wrapped_key.envelope, wrapped_key.version, true, false).and_guard(from.epoch_guard))
    }
}

/// Notes source and target for the record.
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

fn answer(ready: ReadyKey, envelope: &Envelope, version: u32, changed: bool, inside_provider: bool) -> Guarded<Rewrapped> {
    let answer = Rewrapped {
        wrapped: envelope.as_text().to_owned(),
        key: ready.view.key.name.clone(),
        version,
        changed,
        inside_provider,
    };
    Guarded::new(answer, vec![ready.epoch_guard])
}

/// The failure for a scope: scopes are reserved until they can be bound to keys.
pub fn scope_unsupported() -> Failure {
    Failure::new(Code::Unsupported, "Scopes cannot be bound to keys yet.").advice("Leave the scope out.")
}
