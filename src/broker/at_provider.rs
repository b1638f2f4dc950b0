//! A key at its providers: the turn to change it there, and the way to each of its provider keys.

use std::sync::Arc;

use claviger_provider::Kek;
use tokio::sync::MutexGuard;

use super::reach::Reach;
use super::{Broker, Code, Failure, RequestContext};
use crate::keys::KeyEntry;

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
    reach: Reach,
    kek: Kek,
}

impl Broker {
    /// The way to each provider key of a key's versions, through its own connection, the newest
    /// first. A provider key whose connection was deleted is left out, because the gateway cannot
    /// use it either.
    ///
    /// # Errors
    /// `connection_severed`, and `unsupported` where a provider does not enable or disable keys.
    pub(super) async fn switches(&self, key: &Arc<KeyEntry>) -> Result<Vec<Switch>, Failure> {
        let view = key.view()?;
        let mut switches = Vec::new();
        for version in view.provider_keys() {
            if version.connection.is_none() {
                continue;
            }
            let reach = self.reach(key, version).await?;
            if !reach.pipeline.capabilities().set_state {
                return Err(
                    Failure::new(Code::Unsupported, "The connection's provider does not enable or disable keys.")
                        .at("/at_provider", "false, or left out"),
                );
            }
            switches.push(Switch {
                reach,
                kek: version.whole_kek(key.id()),
            });
        }
        Ok(switches)
    }

    /// Enables or disables provider keys. Stops at the first failure; the call can be repeated.
    ///
    /// # Errors
    /// What a provider reports.
    pub(super) async fn switch(&self, cx: &RequestContext, switches: &[Switch], enabled: bool) -> Result<(), Failure> {
        for Switch { reach, kek } in switches {
            reach.pipeline.set_state(&cx.op_context(), kek, enabled).await?;
        }
        Ok(())
    }
}
