//! What the tests of faults call: a key, wraps and unwraps.

use std::time::Duration;

use claviger_provider::{Algorithm, BoundContext, Error, Kek, KeySpec, OpContext, Provider, Secret, TenantId, Wrapped};
use claviger_provider_pkcs11::Pkcs11Provider;
use claviger_testkit::connection::new_key;

/// The context of one operation.
pub fn cx() -> OpContext {
    OpContext::for_system("test", TenantId::random(), Duration::from_secs(30))
}

/// An encryption context.
pub fn context() -> BoundContext {
    BoundContext::new(Default::default(), b"context".to_vec())
}

/// Makes an AES key.
pub async fn key(provider: &Pkcs11Provider) -> Result<Kek, Error> {
    let request = new_key(KeySpec::Aes256, None);
    let key = provider.create_key(&cx(), &request).await?;
    Ok(key.kek(request.key_id).unwrap())
}

/// Wraps a data key.
pub async fn wrap(provider: &Pkcs11Provider, kek: &Kek, dek: &Secret) -> Result<Wrapped, Error> {
    let wrapped = provider.wrap_key(&cx(), kek, dek, &context()).await?;
    assert_eq!(wrapped.algorithm, Algorithm::CborGcm);
    Ok(wrapped)
}

/// Unwraps a data key.
pub async fn unwrap(provider: &Pkcs11Provider, wrapped: &Wrapped) -> Result<Secret, Error> {
    provider.unwrap_key(&cx(), wrapped, &context()).await
}

/// A key, and a data key that it wrapped.
pub async fn wrapped(provider: &Pkcs11Provider) -> (Kek, Secret, Wrapped) {
    let kek = key(provider).await.unwrap();
    let dek = Secret::random(32);
    let wrapped = wrap(provider, &kek, &dek).await.unwrap();
    (kek, dek, wrapped)
}

/// Unwraps until that works again.
pub async fn unwrap_at_last(provider: &Pkcs11Provider, wrapped: &Wrapped) -> Secret {
    let works = async {
        loop {
            match unwrap(provider, wrapped).await {
                Ok(dek) => return dek,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), works).await.unwrap()
}
