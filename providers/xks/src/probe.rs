//! The check of a connection. It asks the proxy for its health, and describes and tries each key, each call by
//! itself. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_provider::kit::probe::{self, Calls, Trial};
use claviger_provider::{Error, ErrorKind, Finding, Kek, KeyState, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::api::Health;
use crate::errors::fault;
use crate::external_keys::{ExternalKeys, Target};
use crate::names::KeyName;
use crate::policy;

const HEALTH: &str = "health";
const DESCRIBE: &str = "describe";
/// The longest text about the proxy, in characters.
const MAX_DETAIL: usize = 240;

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
pub(crate) async fn probe(external: &ExternalKeys, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    let (health, tried) = tokio::join!(
        calls.make(cx, health(external, cx)),
        join_all(
            keks.iter()
                .filter_map(|kek| Some((kek, KeyName::parse(&kek.key.id)?)))
                .map(|(kek, name)| {
                    let calls = &calls;
                    async move {
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
            health.problem()
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
    let keys: BTreeMap<KeyName, _> = keks.iter().filter_map(|kek| Some((KeyName::parse(&kek.key.id)?, kek.id))).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    rights.extend(tried.into_iter().map(|tried| RightReport::canary(tried.kek, tried.canary)));
    Probe {
        detail: health
            .map(|health| health.detail)
            .unwrap_or_else(|error| format!("a proxy that does not describe itself: {}", probe::word(&error))),
        problem: calls.problem().or(problem),
        rights,
        policy: Some(policy::printed(external.region(), cx.tenant, &keys)),
    }
}

/// The proxy's report on itself and the key managers behind it.
struct Report {
    detail: String,
    /// How many key managers there are, how many of them are well, and how many cannot be used.
    all: usize,
    active: usize,
    unavailable: usize,
}

impl Report {
    fn of(health: &Health) -> Self {
        let count = |status: &str| {
            let managers = health.ekm_fleet_details.iter();
            managers.filter(|manager| manager.health_status == status).count()
        };
        let words = [&health.xks_proxy_vendor, &health.xks_proxy_model, &health.ekm_vendor];
        let words: Vec<&str> = words.iter().map(|word| word.as_str()).filter(|word| !word.is_empty()).collect();
        let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let detail: String = format!("XKS proxy: {}", words.join(", "))
            .chars()
            .take(MAX_DETAIL)
            .map(shown)
            .collect();
        Self {
            detail,
            all: health.ekm_fleet_details.len(),
            active: count("ACTIVE"),
            unavailable: count("UNAVAILABLE"),
        }
    }

    fn report(&self) -> RightReport {
        let how = format!(
            "/health: {} of {} key managers are ACTIVE, {} UNAVAILABLE",
            self.active, self.all, self.unavailable
        );
        match self.active == self.all && self.all > 0 {
            true => RightReport::new(HEALTH, Finding::Granted, how),
            false => RightReport::new(HEALTH, Finding::Failed, how)
                .advise("The proxy's owner has to look after the key managers behind it: calls may fail."),
        }
    }

    /// That no key manager can serve a call.
    fn problem(&self) -> Option<Arc<Error>> {
        (self.unavailable == self.all).then(|| {
            let error = fault(ErrorKind::UpstreamUnavailable, HEALTH);
            Arc::new(error.advice("The proxy works, and no key manager behind it does: ask the owner of the keys."))
        })
    }
}

/// Asks the proxy for its health.
async fn health(external: &ExternalKeys, cx: &OpContext) -> Result<Report, Error> {
    external.health(cx).await.map(|health| Report::of(&health))
}

/// Describes a key, which must be usable.
async fn described(external: &ExternalKeys, cx: &OpContext, name: &KeyName) -> Result<(), Error> {
    let key = external.metadata(cx, name).await?;
    key.usable()?;
    match key.state() {
        KeyState::Disabled => Err(fault(ErrorKind::KeyState, "describe a key")
            .advice("The external key is disabled: its owner can enable it in the key manager.")),
        KeyState::Enabled
        | KeyState::PendingImport
        | KeyState::PendingDeletion
        | KeyState::Destroyed
        | KeyState::Failed
        | KeyState::Unknown => Ok(()),
    }
}
