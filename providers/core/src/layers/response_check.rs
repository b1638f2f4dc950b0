//! Validates every output of an adapter against the request and the envelope's limits.
//!
//! An adapter translates a server's responses. A broken or hostile server must not reach the envelope,
//! the store or the record through it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Call, Capabilities, Error, ErrorKind, Kek, KeyDescription, KeyState, MAX_REQUEST_ID, Op, OpContext, Output, ProviderKeyRef,
    ProviderKind, Wrapped,
};

/// The most bytes of a recipient's ciphertext (`docs/format.md`, Recipient, member 6).
pub(super) const MAX_CIPHERTEXT: usize = 6144;
/// The most bytes of a provider key id (member 3).
pub(super) const MAX_KEY_ID: usize = 512;
/// The most bytes of a provider key version (member 4).
const MAX_KEY_VERSION: usize = 128;
/// The most versions of one key: one a day for 27 years.
const MAX_VERSIONS: usize = 10_000;
/// The most bytes of the text of a probe.
const MAX_DETAIL: usize = 1024;

/// The innermost layer.
pub(super) struct ResponseCheck {
    inner: Arc<dyn Call>,
    max_plaintext: usize,
}

impl ResponseCheck {
    pub(super) fn new(inner: Arc<dyn Call>, capabilities: &Capabilities) -> Self {
        Self {
            inner,
            max_plaintext: capabilities.keys.iter().map(|keys| keys.max_plaintext).max().unwrap_or(0),
        }
    }

    /// What is wrong with an output; `None` for a valid one.
    fn check(&self, op: Op<'_>, output: &Output) -> Result<(), &'static str> {
        match output {
            Output::Wrapped(wrapped) => self::wrapped(op, wrapped),
            Output::Rewrapped(rewrapped) => wrapped(op, &rewrapped.wrapped),
            Output::Generated(generated) => {
                wrapped(op, &generated.wrapped)?;
                let right = matches!(op, Op::GenerateDataKey { bytes, .. } if bytes == generated.plaintext.len());
                ensure(right, "the generated key has another length than requested")
            }
            Output::Unwrapped(dek) => ensure((1..=self.max_plaintext).contains(&dek.len()), "the unwrapped key's length"),
            Output::Key(description) => self::description(description),
            Output::Found(found) => found.as_ref().map_or(Ok(()), description),
            Output::Probed(probe) => ensure(probe.detail.len() <= MAX_DETAIL, "the probe's text is too long"),
            Output::Done => Ok(()),
        }
    }
}

fn ensure(right: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if right { Ok(()) } else { Err(otherwise) }
}

fn wrapped(op: Op<'_>, wrapped: &Wrapped) -> Result<(), &'static str> {
    key_ref(&wrapped.key)?;
    ensure(
        (1..=MAX_CIPHERTEXT).contains(&wrapped.ciphertext.len()),
        "the ciphertext is empty or too long",
    )?;
    ensure(
        wrapped.key_material.as_ref().is_none_or(|id| id.len() <= MAX_KEY_VERSION),
        "the key material's id is too long",
    )?;
    ensure(
        wrapped.upstream_request_id.as_ref().is_none_or(|id| id.len() <= MAX_REQUEST_ID),
        "the request id is too long",
    )?;
    // A data key wrapped under another key than requested would name a key that the caller was not
    // permitted to use. The version may differ: some providers choose it.
    ensure(
        target(op).is_some_and(|kek| kek.key.id == wrapped.key.id),
        "wrapped under another key than requested",
    )
}

/// The key that an operation wraps under, if it wraps.
fn target(op: Op<'_>) -> Option<&Kek> {
    match op {
        Op::WrapKey { kek, .. } | Op::GenerateDataKey { kek, .. } | Op::RewrapKey { to: kek, .. } => Some(kek),
        Op::UnwrapKey { .. }
        | Op::CreateKey { .. }
        | Op::FindMade { .. }
        | Op::Rotate { .. }
        | Op::Describe { .. }
        | Op::SetState { .. }
        | Op::ScheduleDeletion { .. }
        | Op::Import { .. }
        | Op::Probe { .. } => None,
    }
}

fn key_ref(key: &ProviderKeyRef) -> Result<(), &'static str> {
    ensure((1..=MAX_KEY_ID).contains(&key.id.len()), "the key id is empty or too long")?;
    ensure(key.version.len() <= MAX_KEY_VERSION, "the key version is too long")
}

fn description(key: &KeyDescription) -> Result<(), &'static str> {
    ensure((1..=MAX_KEY_ID).contains(&key.id.len()), "the key id is empty or too long")?;
    ensure(key.versions.len() <= MAX_VERSIONS, "too many versions")?;
    // A key without imported material has no version yet.
    let waiting = key.versions.is_empty() && key.state == KeyState::PendingImport;
    ensure(
        waiting || key.primary < key.versions.len(),
        "the primary version is not in the list",
    )?;
    key.versions.iter().try_for_each(|version| key_ref(&version.key))
}

#[async_trait]
impl Call for ResponseCheck {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let output = self.inner.call(cx, op).await?;
        match self.check(op, &output) {
            Ok(()) => Ok(output),
            Err(what) => Err(Error::new(ErrorKind::UpstreamProtocol, format!("{}: {what}", op.name())).provider(self.kind())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use super::ResponseCheck;
    use crate::layers::scripted::{Scripted, Step, all_ops, capable, context, cx, description, kek, wrapped};
    use crate::{Call, ErrorKind, Generated, KeyDescription, KeyState, Op, Output, Probe, ProviderKeyRef, Rewrapped, Secret, Wrapped};

    async fn answer(op: Op<'_>, output: Output) -> Result<(), ErrorKind> {
        let scripted = Arc::new(Scripted::new([Step::Output(output)]));
        let layer = ResponseCheck::new(scripted, &capable());
        layer
            .call(&cx(Duration::from_secs(1)), op)
            .await
            .map(drop)
            .map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn sound_answers_pass() {
        for own in all_ops() {
            let layer = ResponseCheck::new(Arc::new(Scripted::new([])), &capable());
            layer.call(&cx(Duration::from_secs(1)), own.op()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn wrapped_out_of_bounds_is_refused_wherever_it_appears() {
        let (kek, context, source) = (kek(), context(), wrapped());
        let named = |id: String, version: String| Wrapped {
            key: ProviderKeyRef { id, version },
            ..wrapped()
        };
        let sized = |len| Wrapped {
            ciphertext: vec![1; len],
            ..wrapped()
        };
        let bad = [
            sized(0),
            sized(6145),
            named(String::new(), "1".into()),
            named("k".repeat(513), "1".into()),
            named("another".into(), "1".into()),
            named(kek.key.id.clone(), "1".repeat(129)),
            Wrapped {
                key_material: Some("m".repeat(129)),
                ..wrapped()
            },
            Wrapped {
                upstream_request_id: Some("r".repeat(257)),
                ..wrapped()
            },
        ];
        for wrapped in bad {
            let wrap = Op::WrapKey {
                kek: &kek,
                dek: &Secret::random(32),
                context: &context,
            };
            assert_eq!(
                answer(wrap, Output::Wrapped(wrapped.clone())).await,
                Err(ErrorKind::UpstreamProtocol)
            );
            let rewrap = Op::RewrapKey {
                wrapped: &source,
                to: &kek,
                context: &context,
            };
            let output = Output::Rewrapped(Rewrapped { wrapped: wrapped.clone() });
            assert_eq!(answer(rewrap, output).await, Err(ErrorKind::UpstreamProtocol));
            let generate = Op::GenerateDataKey {
                kek: &kek,
                bytes: 32,
                context: &context,
            };
            let plaintext = Secret::random(32);
            let output = Output::Generated(Generated { plaintext, wrapped });
            assert_eq!(answer(generate, output).await, Err(ErrorKind::UpstreamProtocol));
        }
    }

    #[tokio::test]
    async fn keys_have_the_length_asked_for() {
        let (kek, context, wrapped) = (kek(), context(), wrapped());
        for (len, expected) in [
            (31, Err(ErrorKind::UpstreamProtocol)),
            (32, Ok(())),
            (33, Err(ErrorKind::UpstreamProtocol)),
        ] {
            let op = Op::GenerateDataKey {
                kek: &kek,
                bytes: 32,
                context: &context,
            };
            let output = Output::Generated(Generated {
                plaintext: Secret::random(len),
                wrapped: wrapped.clone(),
            });
            assert_eq!(answer(op, output).await, expected, "{len}");
        }
        for (len, expected) in [
            (0, Err(ErrorKind::UpstreamProtocol)),
            (1, Ok(())),
            (capable().keys[0].max_plaintext + 1, Err(ErrorKind::UpstreamProtocol)),
        ] {
            let op = Op::UnwrapKey {
                wrapped: &wrapped,
                context: &context,
            };
            assert_eq!(answer(op, Output::Unwrapped(Secret::random(len))).await, expected, "{len}");
        }
    }

    #[tokio::test]
    async fn descriptions_make_sense() {
        let kek = kek();
        let many = vec![description().versions[0].clone(); 10_001];
        let cases: [(KeyDescription, Result<(), ErrorKind>); 4] = [
            (
                KeyDescription {
                    primary: 1,
                    ..description()
                },
                Err(ErrorKind::UpstreamProtocol),
            ),
            (
                KeyDescription {
                    versions: many,
                    ..description()
                },
                Err(ErrorKind::UpstreamProtocol),
            ),
            (
                KeyDescription {
                    id: String::new(),
                    ..description()
                },
                Err(ErrorKind::UpstreamProtocol),
            ),
            (
                KeyDescription {
                    versions: Vec::new(),
                    state: KeyState::PendingImport,
                    ..description()
                },
                Ok(()),
            ),
        ];
        for (description, expected) in cases {
            assert_eq!(answer(Op::Describe { kek: &kek }, Output::Key(description)).await, expected);
        }
        let detail = "x".repeat(1025);
        assert_eq!(
            answer(
                Op::Probe { keks: &[] },
                Output::Probed(Probe {
                    problem: None,
                    detail,
                    rights: Vec::new(),
                    policy: None
                })
            )
            .await,
            Err(ErrorKind::UpstreamProtocol)
        );
    }
}
