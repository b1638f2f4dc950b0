//! A key at its providers: the turn to change it there, and the way to each of its provider keys.

use std::sync::Arc;

use claviger_provider::Kek;
use futures::future::join_all;
use tokio::sync::MutexGuard;

use super::reach::Reach;
use super::{Broker, Code, Failure, RequestContext};
use crate::keys::KeyEntry;
use crate::store::model::{Key, KeyVersion};

/// A key that was enabled or disabled.
#[derive(Debug)]
pub struct Switched {
    /// Its row.
    pub key: Key,
    /// What became of the change at the providers; `None` if none was asked for.
    pub at_provider: Option<AtProvider>,
}

/// What became of a change of a key's state at the providers of its versions.
#[derive(Debug, Clone)]
pub struct AtProvider {
    /// The result for all of them.
    pub result: AtProviderResult,
    /// What could not be done, by connection. `None` if everything was done.
    pub detail: Option<String>,
}

/// The result at all providers of a key, the later one of two that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtProviderResult {
    /// Every provider key has the state.
    Done,
    /// A provider key's state cannot be changed from here.
    Unsupported,
    /// A provider refused.
    Denied,
    /// A provider could not be asked, or did not answer. The request can be repeated.
    Pending,
}

impl AtProviderResult {
    fn of(failure: &Failure) -> Self {
        match failure.code {
            Code::Unsupported => Self::Unsupported,
            Code::ProviderDenied | Code::ExternalDenied | Code::KeyState | Code::ConnectionMisconfigured => Self::Denied,
            // A severed connection among them: once it is restored, the same request may do it.
            _ => Self::Pending,
        }
    }
}

impl AtProvider {
    /// Every provider key was changed.
    const DONE: Self = Self {
        result: AtProviderResult::Done,
        detail: None,
    };

    /// From what failed, with the names of the connections; and the code that the record has.
    pub(super) fn of(failed: &[(String, Failure)]) -> (Self, Option<Code>) {
        let worst = failed.iter().max_by_key(|(_, failure)| AtProviderResult::of(failure));
        let Some((_, worst)) = worst else { return (Self::DONE, None) };
        let told: Vec<String> = failed.iter().map(|(name, failure)| format!("{name}: {}", failure.detail)).collect();
        let at_provider = Self {
            result: AtProviderResult::of(worst),
            detail: Some(told.join(" ")),
        };
        (at_provider, Some(worst.code))
    }
}

/// Waits for the turn to change a key at its providers, at most until the request's deadline. The
/// caller must not hold the key's `change` lock meanwhile, because a slow provider must not delay a
/// disable.
pub(super) async fn turn_at_provider<'k>(cx: &RequestContext, key: &'k KeyEntry) -> Result<MutexGuard<'k, ()>, Failure> {
    tokio::time::timeout_at(cx.info().deadline.into(), key.at_provider().lock())
        .await
        .map_err(|_| Failure::deadline())
}

/// A provider key, with the way to it.
pub(super) struct Switch {
    connection: String,
    reach: Reach,
    kek: Kek,
}

impl Switch {
    async fn set(&self, cx: &RequestContext, enabled: bool) -> Result<(), Failure> {
        Ok(self.reach.pipeline.set_state(&cx.op_context(), &self.kek, enabled).await?)
    }
}

impl Broker {
    /// The way to each provider key of a key's versions, through its own connection, the newest
    /// first; and what is told of the others, where a provider does not enable or disable keys. A provider key
    /// whose connection was deleted is left out, because the gateway cannot use it either.
    ///
    /// # Errors
    /// `connection_severed`.
    pub(super) async fn switches(&self, key: &Arc<KeyEntry>) -> Result<(Vec<Switch>, (AtProvider, Option<Code>)), Failure> {
        let view = key.view()?;
        let (mut switches, mut unsupported) = (Vec::new(), Vec::new());
        for version in view.provider_keys().into_iter().filter(|version| version.connection.is_some()) {
            match self.switch(key, version).await {
                Ok(switch) => switches.push(switch),
                Err(failure) if failure.code == Code::Unsupported => unsupported.push((connection_of(version), failure)),
                Err(failure) => return Err(failure),
            }
        }
        Ok((switches, AtProvider::of(&unsupported)))
    }

    async fn switch(&self, key: &Arc<KeyEntry>, version: &KeyVersion) -> Result<Switch, Failure> {
        let reach = self.reach(key, version).await?;
        if !reach.pipeline.capabilities().set_state {
            return Err(
                Failure::new(Code::Unsupported, "The connection's provider does not enable or disable keys.")
                    .at("/at_provider", "false, or left out"),
            );
        }
        Ok(Switch {
            connection: connection_of(version),
            reach,
            kek: version.whole_kek(key.id()),
        })
    }

    /// Enables provider keys. Stops at the first failure; the call can be repeated.
    ///
    /// # Errors
    /// What a provider reports.
    pub(super) async fn enable_all(&self, cx: &RequestContext, key: &KeyEntry, switches: &[Switch]) -> Result<(), Failure> {
        for switch in switches {
            switch.set(cx, true).await?;
            // What is stored as disabled there may be asked for at once.
            key.ask_again(switch.reach.row.id, &switch.kek.key.id);
        }
        Ok(())
    }

    /// Disables every provider key of a key that can be reached, all at once, so that none waits for a
    /// provider that does not answer. `announce` is called before the first call to a provider.
    ///
    /// # Errors
    /// What `announce` fails with, and `not_found`.
    pub(super) async fn disable_all(
        &self,
        cx: &RequestContext,
        key: &Arc<KeyEntry>,
        announce: impl AsyncFnOnce() -> Result<(), Failure>,
    ) -> Result<(AtProvider, Option<Code>), Failure> {
        let view = key.view()?;
        let (mut switches, mut failed) = (Vec::new(), Vec::new());
        for version in view.provider_keys() {
            let way = match &version.connection {
                Some(_) => self.switch(key, version).await,
                None => Err(Failure::new(Code::Unsupported, "The connection of a version was deleted.")),
            };
            match way {
                Ok(switch) => switches.push(switch),
                Err(failure) => failed.push((connection_of(version), failure)),
            }
        }
        if !switches.is_empty() {
            announce().await?;
        }
        let switched = join_all(switches.iter().map(|switch| switch.set(cx, false))).await;
        for (switch, result) in switches.iter().zip(switched) {
            if let Err(failure) = result {
                failed.push((switch.connection.clone(), failure));
            }
        }
        Ok(AtProvider::of(&failed))
    }
}

/// The name of a version's connection, `-` if that was deleted.
fn connection_of(version: &KeyVersion) -> String {
    let connection = version.connection.as_ref();
    connection.map_or_else(|| "-".to_owned(), |connection| connection.name.clone())
}
