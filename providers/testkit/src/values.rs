//! What the calls of an adapter's own tests take.

use std::time::Duration;

use claviger_provider::{BoundContext, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, TenantId};

use crate::connection::new_key;

/// A name that no other case uses.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", KeyId::random())
}

/// The context of one call, of a tenant of its own.
pub fn cx() -> OpContext {
    OpContext::for_system("test", TenantId::random(), Duration::from_secs(30))
}

/// An encryption context of one pair.
pub fn context() -> BoundContext {
    let pairs = [("table".to_owned(), "orders".to_owned())];
    BoundContext::new(pairs.into(), b"\xa1\x65table\x66orders".to_vec())
}

/// A request for an AES key: a new provider key, or an existing one to adopt.
pub fn new_aes_key(adopt: Option<&str>) -> KeyRequest {
    new_key(KeySpec::Aes256, adopt)
}

/// The primary version of a key.
#[allow(clippy::expect_used, reason = "for tests only, and an adapter describes no key without one")]
pub fn primary(key: &KeyDescription) -> Kek {
    key.kek(KeyId::random()).expect("a primary version")
}
