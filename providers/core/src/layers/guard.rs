//! Refuses operations that the provider does not declare, and input outside its limits, before anything
//! waits or is sent.

use std::sync::Arc;

use async_trait::async_trait;

use super::response_check::{MAX_CIPHERTEXT, MAX_KEY_ID};
use crate::{Call, Capabilities, Error, ErrorKind, How, Kek, KeyCapabilities, KeyRequest, Op, OpContext, Output, ProviderKind, Wrapped};

/// The capability guard.
pub(super) struct CapabilityGuard {
    inner: Arc<dyn Call>,
    capabilities: Arc<Capabilities>,
}

impl CapabilityGuard {
    pub(super) fn new(inner: Arc<dyn Call>, capabilities: Arc<Capabilities>) -> Self {
        Self { inner, capabilities }
    }

    fn check(&self, op: Op<'_>) -> Result<(), Error> {
        let can = &self.capabilities;
        match op {
            Op::WrapKey { kek, dek, .. } => {
                let keys = self.keys(kek, op)?;
                declared(keys.wrap != How::No, op)?;
                data_key_length(dek.len(), keys, op)
            }
            // A ciphertext names the key and not its specification, so the provider checks the rest.
            Op::UnwrapKey { wrapped, .. } => {
                declared(can.keys.iter().any(|keys| keys.wrap != How::No), op)?;
                ciphertext_length(wrapped, op)
            }
            // The broker composes these two of wrap and unwrap, unless the provider does them inside.
            Op::GenerateDataKey { kek, bytes, .. } => {
                let keys = self.keys(kek, op)?;
                declared(keys.generate_data_key == How::InsideProvider, op)?;
                data_key_length(bytes, keys, op)
            }
            Op::RewrapKey { wrapped, to, .. } => {
                declared(self.keys(to, op)?.rewrap == How::InsideProvider, op)?;
                ciphertext_length(wrapped, op)
            }
            Op::CreateKey { request } | Op::FindMade { request } => self.key_request(request, op),
            Op::Rotate { kek } => declared(self.keys(kek, op)?.rotation.is_some(), op),
            Op::SetState { .. } => declared(can.set_state, op),
            Op::ScheduleDeletion { .. } => declared(can.schedule_deletion, op),
            Op::Import { .. } => declared(can.import, op),
            // Every provider supports these two.
            Op::Describe { .. } | Op::Probe { .. } => Ok(()),
        }
    }

    fn keys(&self, kek: &Kek, op: Op<'_>) -> Result<&KeyCapabilities, Error> {
        self.capabilities.of(kek.spec).ok_or_else(|| undeclared(op))
    }

    fn key_request(&self, request: &KeyRequest, op: Op<'_>) -> Result<(), Error> {
        declared(self.capabilities.of(request.spec).is_some(), op)?;
        match &request.adopt {
            None => declared(self.capabilities.create_key, op),
            Some(name) if name.is_empty() || name.len() > MAX_KEY_ID => {
                Err(Error::new(ErrorKind::InvalidInput, "the provider key's name is empty or too long"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn data_key_length(bytes: usize, keys: &KeyCapabilities, op: Op<'_>) -> Result<(), Error> {
    if bytes == 0 {
        Err(Error::new(ErrorKind::InvalidInput, format!("{} of an empty key", op.name())))
    } else if bytes > keys.max_plaintext {
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("{} of {bytes} bytes, at most {}", op.name(), keys.max_plaintext),
        ))
    } else {
        Ok(())
    }
}

fn undeclared(op: Op<'_>) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{} is not declared", op.name()))
}

fn declared(declared: bool, op: Op<'_>) -> Result<(), Error> {
    if declared { Ok(()) } else { Err(undeclared(op)) }
}

/// No adapter makes ciphertexts outside these limits.
fn ciphertext_length(wrapped: &Wrapped, op: Op<'_>) -> Result<(), Error> {
    if (1..=MAX_CIPHERTEXT).contains(&wrapped.ciphertext.len()) {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::CiphertextRejected,
            format!("{} of a ciphertext of {} bytes", op.name(), wrapped.ciphertext.len()),
        ))
    }
}

#[async_trait]
impl Call for CapabilityGuard {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::clone(&self.capabilities)
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        self.check(op).map_err(|error| error.provider(self.kind()))?;
        self.inner.call(cx, op).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use super::CapabilityGuard;
    use crate::layers::scripted::{Scripted, all_ops, capable, context, cx, incapable, kek, keys, wrapped};
    use crate::{Call, ErrorKind, KeyId, KeyRequest, KeySpec, Op, Secret};

    fn guard(scripted: &Arc<Scripted>, capabilities: crate::Capabilities) -> CapabilityGuard {
        CapabilityGuard::new(Arc::clone(scripted) as Arc<dyn Call>, Arc::new(capabilities))
    }

    #[tokio::test]
    async fn what_is_declared_passes() {
        let scripted = Arc::new(Scripted::new([]));
        let guard = guard(&scripted, capable());
        for op in all_ops().iter().map(|own| own.op()) {
            guard.call(&cx(Duration::from_secs(1)), op).await.unwrap();
        }
        assert_eq!(scripted.calls(), all_ops().len());
    }

    #[tokio::test]
    async fn what_is_not_declared_never_arrives() {
        let scripted = Arc::new(Scripted::new([]));
        let guard = guard(&scripted, incapable());
        for op in all_ops().iter().map(|own| own.op()) {
            let result = guard.call(&cx(Duration::from_secs(1)), op).await;
            match op {
                Op::Describe { .. } | Op::Probe { .. } => assert!(result.is_ok(), "{}", op.name()),
                Op::WrapKey { .. }
                | Op::UnwrapKey { .. }
                | Op::GenerateDataKey { .. }
                | Op::RewrapKey { .. }
                | Op::CreateKey { .. }
                | Op::FindMade { .. }
                | Op::Rotate { .. }
                | Op::SetState { .. }
                | Op::ScheduleDeletion { .. }
                | Op::Import { .. } => assert_eq!(result.unwrap_err().kind, ErrorKind::Unsupported, "{}", op.name()),
            }
        }
        assert_eq!(scripted.calls(), 2);
    }

    #[tokio::test]
    async fn lengths_are_held() {
        let scripted = Arc::new(Scripted::new([]));
        let guard = guard(&scripted, capable());
        let (kek, context, cx) = (kek(), context(), cx(Duration::from_secs(1)));
        let max = capable().keys[0].max_plaintext;
        for (len, expected) in [
            (0, Err(ErrorKind::InvalidInput)),
            (1, Ok(())),
            (max, Ok(())),
            (max + 1, Err(ErrorKind::TooLarge)),
        ] {
            let dek = Secret::random(len);
            let wrap = Op::WrapKey {
                kek: &kek,
                dek: &dek,
                context: &context,
            };
            let generate = Op::GenerateDataKey {
                kek: &kek,
                bytes: len,
                context: &context,
            };
            for op in [wrap, generate] {
                assert_eq!(
                    guard.call(&cx, op).await.map(drop).map_err(|e| e.kind),
                    expected,
                    "{} {len}",
                    op.name()
                );
            }
        }
        for (len, accepted) in [(0, false), (1, true), (6144, true), (6145, false)] {
            let mut wrapped = wrapped();
            wrapped.ciphertext = vec![0; len];
            let op = Op::UnwrapKey {
                wrapped: &wrapped,
                context: &context,
            };
            let expected = if accepted { Ok(()) } else { Err(ErrorKind::CiphertextRejected) };
            assert_eq!(guard.call(&cx, op).await.map(drop).map_err(|e| e.kind), expected, "{len}");
        }
    }

    #[tokio::test]
    async fn keys_are_made_only_where_declared_and_adopted_by_a_name_in_bounds() {
        let scripted = Arc::new(Scripted::new([]));
        let guard = guard(
            &scripted,
            crate::Capabilities {
                create_key: false,
                keys: vec![keys(KeySpec::Aes256)],
                ..capable()
            },
        );
        for (adopt, spec, expected) in [
            (None, KeySpec::Aes256, Err(ErrorKind::Unsupported)),
            (Some("a".repeat(512)), KeySpec::Aes256, Ok(())),
            (Some("a".into()), KeySpec::Rsa3072, Err(ErrorKind::Unsupported)),
            (Some(String::new()), KeySpec::Aes256, Err(ErrorKind::InvalidInput)),
            (Some("a".repeat(513)), KeySpec::Aes256, Err(ErrorKind::InvalidInput)),
        ] {
            let request = KeyRequest {
                key_id: KeyId::random(),
                made_as: KeyId::random(),
                repeated: false,
                spec,
                adopt,
                taken: false,
            };
            let result = guard.call(&cx(Duration::from_secs(1)), Op::CreateKey { request: &request }).await;
            assert_eq!(result.map(drop).map_err(|e| e.kind), expected, "{request:?}");
        }
    }
}
