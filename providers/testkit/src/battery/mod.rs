//! The test cases that every provider must pass. They call the [`Provider`] trait directly,
//! without the pipeline's layers.
//!
//! A case runs with keys of one specification; run all cases once for each specification that a
//! provider declares. The declared capabilities decide what a case expects. Nothing is skipped:
//! for an undeclared operation, the case checks that it fails with `Unsupported`. Each case
//! creates its own keys, so cases may run concurrently on one server.

mod bench;
mod crypto;
mod declared;
pub mod known;
mod lifecycle;
pub mod logins;

use std::sync::Arc;

use bench::{Bench, Outcome};
use claviger_provider::{KeySpec, Provider, TenantId};
use futures::future::BoxFuture;

pub use bench::{Failure, OwnersKey};

/// Creates a new connection to the provider under test.
pub type Factory = Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Provider>> + Send + Sync>;

/// A test case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Name of the case. It never changes.
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

    /// As [`Case::run`], for keys that wrap multiples of `unit` bytes only, at least two units.
    /// For AES key wrap (RFC 3394) that is 8 bytes.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub async fn run_in_units(&self, factory: &Factory, spec: KeySpec, unit: usize) -> Result<(), Failure> {
        self.run_with(factory, spec, unit, None).await
    }

    /// As [`Case::run`], for a provider that creates no keys: it adopts those of `owners`.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub async fn run_adopting(&self, factory: &Factory, spec: KeySpec, owners: &OwnersKey) -> Result<(), Failure> {
        self.run_with(factory, spec, 1, Some(Arc::clone(owners))).await
    }

    async fn run_with(&self, factory: &Factory, spec: KeySpec, unit: usize, owners: Option<OwnersKey>) -> Result<(), Failure> {
        let provider = factory().await;
        let can = provider.capabilities();
        let can = *can.of(spec).ok_or(Failure(format!("{} is not declared", spec.as_str())))?;
        let bench = Bench {
            provider,
            tenant: TenantId::random(),
            can,
            unit,
            owners,
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
        declared::a_bad_key_takes_nothing_from_a_probe,
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
        lifecycle::a_repeated_creation_finds_what_the_first_one_made,
        lifecycle::looking_for_a_made_key_makes_none,
        lifecycle::rotation_keeps_what_was_wrapped_before,
        lifecycle::a_wrap_that_names_no_version_uses_the_current_one,
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
/// The failed cases.
pub async fn run(factory: &Factory, spec: KeySpec) -> Result<(), Vec<(&'static str, Failure)>> {
    let mut failed = Vec::new();
    for case in cases() {
        if let Err(failure) = case.run(factory, spec).await {
            failed.push((case.name, failure));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}
