//! What every provider is held against: named cases over the [`Provider`] trait alone, without
//! the pipeline's layers, so that it is the adapter that is tested.
//!
//! Every case runs with keys of one specification, so a provider is held against all of them
//! once for each that it declares. What a provider declares decides what a case expects; nothing is skipped silently: where
//! an operation is not declared, the case shows that it answers `Unsupported`.
//! Each case makes its own keys, so cases may run at once on one server.

mod crypto;
mod declared;
pub mod known;
mod lifecycle;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{
    BoundContext, Error, ErrorKind, Kek, KeyCapabilities, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, Provider, TenantId,
    Wrapped,
};
use futures::future::BoxFuture;

/// Makes a fresh connection to the provider under test.
pub type Factory = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Provider>> + Send + Sync>;

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

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

type Outcome = Result<(), Failure>;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, stable.
    pub name: &'static str,
    run: fn(Bench) -> BoxFuture<'static, Outcome>,
}

impl Case {
    /// Runs the case with keys of one specification, which the provider must declare.
    ///
    /// # Errors
    /// What the provider did wrong.
    pub async fn run(&self, factory: &Factory, spec: KeySpec) -> Result<(), Failure> {
        self.run_in_units(factory, spec, 1).await
    }

    /// As [`Case::run`], for keys that wrap whole units of so many bytes only, at least two of
    /// them: AES key wrap (RFC 3394) does, of 8 bytes.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub async fn run_in_units(&self, factory: &Factory, spec: KeySpec, unit: usize) -> Result<(), Failure> {
        let provider = factory().await;
        let can = provider.capabilities();
        let can = *can.of(spec).ok_or(Failure(format!("{} is not declared", spec.as_str())))?;
        let bench = Bench {
            provider,
            tenant: TenantId::random(),
            can,
            unit,
        };
        (self.run)(bench).await
    }
}

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$(Case {
            name: stringify!($name),
            run: |bench| Box::pin($module::$name(bench)),
        }),*]
    };
}

/// All cases.
pub fn cases() -> Vec<Case> {
    cases![
        declared::what_is_declared_makes_sense,
        declared::what_is_not_declared_is_unsupported,
        declared::a_probe_answers,
        crypto::every_length_comes_back,
        crypto::lengths_out_of_bounds_are_refused,
        crypto::another_context_is_rejected_where_it_is_bound,
        crypto::another_key_does_not_open,
        crypto::a_flipped_bit_is_rejected_everywhere,
        crypto::a_cut_or_longer_ciphertext_is_rejected,
        crypto::another_algorithm_is_rejected,
        crypto::generated_keys_open_and_differ,
        crypto::rewrapped_keys_open,
        crypto::sixty_four_callers_at_once,
        lifecycle::a_new_key_is_described,
        lifecycle::the_same_key_is_not_made_twice,
        lifecycle::rotation_keeps_what_was_wrapped_before,
        lifecycle::rotations_at_once_lose_nothing,
        lifecycle::a_disabled_key_does_nothing_until_enabled,
        lifecycle::a_missing_key_is_not_found,
        lifecycle::a_missing_version_is_not_found,
        lifecycle::a_key_to_be_deleted_does_nothing,
        lifecycle::imported_material_wraps,
    ]
}

/// Runs all cases one after another with keys of one specification.
///
/// # Errors
/// The names and failures of those that failed.
pub async fn run(factory: &Factory, spec: KeySpec) -> Result<(), Vec<(&'static str, Failure)>> {
    let mut failed = Vec::new();
    for case in cases() {
        if let Err(failure) = case.run(factory, spec).await {
            failed.push((case.name, failure));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// What a case works with.
struct Bench {
    provider: Arc<dyn Provider>,
    tenant: TenantId,
    /// What is declared of the specification whose keys are used.
    can: KeyCapabilities,
    /// What is wrapped is a multiple of so many bytes, and two of them where it is more than one.
    unit: usize,
}

impl Bench {
    /// Whether keys wrap so many bytes.
    fn takes(&self, len: usize) -> bool {
        self.unit == 1 || (len.is_multiple_of(self.unit) && len >= 2 * self.unit)
    }

    fn cx(&self) -> OpContext {
        OpContext::for_system("battery", self.tenant, Duration::from_secs(30))
    }

    /// A request for a new key.
    fn request(&self) -> KeyRequest {
        KeyRequest {
            key_id: KeyId::random(),
            spec: self.can.spec,
            adopt: None,
        }
    }

    /// The primary version of a new key.
    async fn primary(&self) -> Result<Kek, Failure> {
        let request = self.request();
        let key = self.provider.create_key(&self.cx(), &request).await?;
        primary(&key, request.key_id)
    }
}

/// The version that wraps, of a key that stands behind the logical key `id`.
fn primary(key: &KeyDescription, id: KeyId) -> Result<Kek, Failure> {
    key.kek(id).ok_or(Failure("the primary version is not in the list".into()))
}

/// A context whose pairs and bytes belong together as far as a provider can see.
fn context(purpose: &str) -> BoundContext {
    let pairs = BTreeMap::from([
        ("claviger:tenant".to_owned(), "00".repeat(16)),
        ("purpose".to_owned(), purpose.to_owned()),
    ]);
    BoundContext::new(pairs, format!("context of {purpose}").into_bytes())
}

fn ensure(right: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if right { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Holds a result against the error kinds that are right.
fn refused<T>(what: &str, result: Result<T, Error>, expected: &[ErrorKind]) -> Outcome {
    match result {
        Ok(_) => Err(Failure(format!("{what}: succeeded, expected {expected:?}"))),
        Err(error) => ensure(expected.contains(&error.kind), || format!("{what}: {error}, expected {expected:?}")),
    }
}

/// The same data key wrapped, with one thing changed.
fn changed(wrapped: &Wrapped, change: impl FnOnce(&mut Wrapped)) -> Wrapped {
    let mut other = wrapped.clone();
    change(&mut other);
    other
}
