//! The check of a connection. It asks the proxy for its health, and describes and tries each key, each call by
//! itself. It changes nothing.

use std::sync::Arc;

use claviger_provider::kit::probe::{self, Calls, Trial};
use claviger_provider::{Error, ErrorKind, Kek, KeyState, OpContext, Probe, RightReport};
use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::errors::fault;
use crate::external_keys::{ExternalKeys, Target};
use crate::health::{HEALTH, MonitoredKeys, Report};
use crate::names::KeyName;
use crate::policy;

const DESCRIBE: &str = "describe";
/// The most keys that are tried at once, each with two calls: a check must not be a burst for the key manager.
const AT_ONCE: usize = 4;

/// What the calls with one key showed.
struct Tried<'k> {
    kek: &'k Kek,
    metadata: Result<(), Arc<Error>>,
    canary: Result<(), Arc<Error>>,
}

impl Tried<'_> {
    /// The report on a key that cannot be described, or not be used.
    fn wrong(&self) -> Option<RightReport> {
        let error = self.metadata.as_ref().err()?;
        Some(RightReport::failed(DESCRIBE, &format!("/metadata of {}", self.kek.key.id), error))
    }
}

/// Checks a connection with some of its keys.
pub(crate) async fn probe(MonitoredKeys { keys: external, canary }: &MonitoredKeys, cx: &OpContext, keks: &[Kek]) -> Probe {
    let (calls, places) = (Calls::default(), Semaphore::new(AT_ONCE));
    let (health, tried) = tokio::join!(
        calls.make(cx, Report::ask(external, cx)),
        join_all(
            keks.iter()
                .filter_map(|kek| Some((kek, KeyName::parse(&kek.key.id)?)))
                .map(|(kek, name)| {
                    let (calls, places) = (&calls, &places);
                    async move {
                        let _place = places.acquire().await;
                        let target = Target { name: &name, key: kek.id };
                        let (metadata, canary) = tokio::join!(
                            calls.make(cx, described(external, cx, &name)),
                            calls.make(cx, external.canary(cx, target))
                        );
                        Tried { kek, metadata, canary }
                    }
                })
        )
    );
    let mut rights = Vec::new();
    let problem = match &health {
        Ok(health) => {
            rights.push(health.report());
            health.problem().map(Arc::new)
        }
        Err(error) => {
            rights.push(RightReport::failed(HEALTH, "/health", error));
            // There is no such API at the address.
            Some(Arc::clone(error)).filter(|error| error.kind == ErrorKind::Misconfigured)
        }
    };
    let wrong: Vec<RightReport> = tried.iter().filter_map(Tried::wrong).collect();
    if wrong.is_empty() {
        let granted = tried.iter().map(|tried| (tried.kek, Trial::Granted));
        rights.extend(probe::worst(DESCRIBE, "/metadata", granted, |_| String::new()));
    }
    rights.extend(wrong);
    let keys: Vec<_> = keks.iter().map(|kek| (kek.key.id.clone(), kek.id)).collect();
    let canary = canary.as_ref().map(KeyName::as_str);
    rights.extend(tried.into_iter().map(|tried| RightReport::canary(tried.kek, tried.canary)));
    Probe {
        detail: health
            .map(|health| health.detail)
            .unwrap_or_else(|error| format!("a proxy that does not describe itself: {}", probe::word(&error))),
        problem: calls.problem().or(problem),
        rights,
        policy: Some(policy::printed(external.region(), cx.tenant, &keys, canary, false)),
    }
}

/// Describes a key, which must be usable.
async fn described(external: &ExternalKeys, cx: &OpContext, name: &KeyName) -> Result<(), Error> {
    let key = external.metadata(cx, name).await?;
    key.usable()?;
    match key.state() {
        KeyState::Disabled => Err(fault(ErrorKind::KeyState, "describe a key")
            .advice("The external key is disabled: its owner can enable it in the key manager.")),
        KeyState::Enabled
        | KeyState::DecryptOnly
        | KeyState::PendingImport
        | KeyState::PendingDeletion
        | KeyState::Destroyed
        | KeyState::Failed
        | KeyState::Unknown => Ok(()),
    }
}
