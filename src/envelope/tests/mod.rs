//! What holds of every envelope. The vectors of `tests/vectors` stand beside the properties,
//! and the forgeries are tried as they are, sealed anew, and unsealed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod context;
mod forgery;
mod making;
mod properties;
mod vectors;
mod wycheproof;

use claviger_provider::{Algorithm, KeyId, ProviderKeyRef, ProviderKind, Secret, TenantId, Wrapped};

use super::{Context, DataKeyLength, Draft, Envelope, Origin, Pending, Scope, SealKey, SealStatus};

/// The pairs of most tests.
fn context() -> Context {
    Context::from_pairs([("purpose".to_owned(), "test".to_owned())]).unwrap()
}

/// A tenant and key at random.
fn origin() -> Origin {
    Origin {
        tenant: TenantId::random(),
        key: KeyId::random(),
        scope: Some(Scope::try_from("orders".to_owned()).unwrap()),
        created: 1_790_000_000,
    }
}

/// A wrapping of a K of `len` bytes that has the right shape and random content.
fn wrapped(len: usize) -> Wrapped {
    Wrapped {
        key: ProviderKeyRef {
            id: "0123".to_owned(),
            version: "1".to_owned(),
        },
        algorithm: Algorithm::Xaes256Gcm,
        ciphertext: Secret::random(len + 40).expose().to_vec(),
        key_material: None,
        upstream_request_id: Some("not part of the envelope".to_owned()),
    }
}

/// A suite 1 draft with a random data key.
fn direct(length: DataKeyLength) -> Draft {
    let k = Secret::random(length.bytes());
    Pending::new(origin(), length, &context()).commit(k).unwrap()
}

/// A suite 2 draft over these bytes.
fn sealed(plaintext: &[u8]) -> Draft {
    Draft::sealed(origin(), &Secret::copy_from(plaintext), &context()).unwrap()
}

/// A draft's envelope with one recipient of the local provider.
fn finish(draft: &Draft, seal: &SealKey) -> Envelope {
    draft.finish(ProviderKind::Local, &wrapped(draft.data_key().len()), seal).unwrap()
}

/// A copy, which the type itself does not offer.
fn copy(secret: &Secret) -> Secret {
    Secret::copy_from(secret.expose())
}

fn is_sealed(envelope: &Envelope, key: &SealKey) -> bool {
    matches!(envelope.seal_status([key]), SealStatus::Sealed(_))
}
