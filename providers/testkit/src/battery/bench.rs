//! What the cases share: the provider under test, and checks of its results.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{
    BoundContext, Error, ErrorKind, Kek, KeyCapabilities, KeyDescription, KeyId, KeyRequest, OpContext, Provider, TenantId, Wrapped,
};
use futures::future::BoxFuture;

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub(super) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// The result of a case.
pub(super) type Outcome = Result<(), Failure>;

/// Makes a key at the service, as its owner does, and returns the name to adopt it by.
pub type OwnersKey = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// The provider under test, and what a case needs to call it.
pub(super) struct Bench {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) tenant: TenantId,
    /// The declared capabilities of the keys under test.
    pub(super) can: KeyCapabilities,
    /// Keys wrap multiples of this many bytes only; at least two units, unless it is 1.
    pub(super) unit: usize,
    /// Makes the keys to adopt, for a provider that creates none.
    pub(super) owners: Option<OwnersKey>,
}

impl Bench {
    /// Whether keys wrap data keys of this length.
    pub(super) fn takes(&self, len: usize) -> bool {
        self.unit == 1 || (len.is_multiple_of(self.unit) && len >= 2 * self.unit)
    }

    /// The context of a call.
    pub(super) fn cx(&self) -> OpContext {
        OpContext::for_system("battery", self.tenant, Duration::from_secs(30))
    }

    /// A request to create a key.
    pub(super) fn creation(&self) -> KeyRequest {
        KeyRequest {
            key_id: KeyId::random(),
            made_as: KeyId::random(),
            repeated: false,
            spec: self.can.spec,
            adopt: None,
            taken: false,
        }
    }

    /// A request for a new key: to create it, or to adopt one that its owner just made.
    pub(super) async fn request(&self) -> KeyRequest {
        let adopt = match &self.owners {
            Some(owners) => Some(owners().await),
            None => None,
        };
        KeyRequest { adopt, ..self.creation() }
    }

    /// Fails unless a provider that creates no keys says so. Returns whether it creates some.
    pub(super) async fn creates_keys(&self) -> Result<bool, Failure> {
        if self.provider.capabilities().create_key {
            return Ok(true);
        }
        let (cx, request) = (self.cx(), self.creation());
        refused(
            "create_key",
            self.provider.create_key(&cx, &request).await,
            &[ErrorKind::Unsupported],
        )?;
        refused("find_made", self.provider.find_made(&cx, &request).await, &[ErrorKind::Unsupported])?;
        Ok(false)
    }

    /// Creates a key and returns its primary version.
    pub(super) async fn primary(&self) -> Result<Kek, Failure> {
        let request = self.request().await;
        let key = self.provider.create_key(&self.cx(), &request).await?;
        primary(&key, request.key_id)
    }
}

/// The primary version of a key, for the logical key `id`.
pub(super) fn primary(key: &KeyDescription, id: KeyId) -> Result<Kek, Failure> {
    key.kek(id).ok_or(Failure("the primary version is not in the list".into()))
}

/// An encryption context. Its bytes are arbitrary, not its real encoding: providers treat them as opaque.
pub(super) fn context(purpose: &str) -> BoundContext {
    let pairs = BTreeMap::from([
        ("claviger:tenant".to_owned(), "00".repeat(16)),
        ("purpose".to_owned(), purpose.to_owned()),
    ]);
    BoundContext::new(pairs, format!("context of {purpose}").into_bytes())
}

/// Fails unless `right`.
pub(super) fn ensure(right: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if right { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Fails unless the result is an error of one of the expected kinds.
pub(super) fn refused<T>(what: &str, result: Result<T, Error>, expected: &[ErrorKind]) -> Outcome {
    match result {
        Ok(_) => Err(Failure(format!("{what}: succeeded, expected {expected:?}"))),
        Err(error) => ensure(expected.contains(&error.kind), || format!("{what}: {error}, expected {expected:?}")),
    }
}

/// A copy with one change.
pub(super) fn changed(wrapped: &Wrapped, change: impl FnOnce(&mut Wrapped)) -> Wrapped {
    let mut other = wrapped.clone();
    change(&mut other);
    other
}
