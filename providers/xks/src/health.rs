//! The proxy's health: what it reports of itself and the key managers behind it, and the checks of it while the connection
//! is in use.

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::{HealthCheck, of_canary};
use claviger_provider::{Error, ErrorKind, Finding, Health, KeyId, OpContext, RightReport};

use crate::api;
use crate::errors::fault;
use crate::external_keys::{ExternalKeys, Target};
use crate::names::KeyName;

/// The call, in reports and records.
pub(crate) const HEALTH: &str = "health";
/// The longest text about the proxy, in characters.
const MAX_DETAIL: usize = 240;
/// What to do about key managers of which some do not work.
const PARTLY: &str = "The proxy's owner has to look after the key managers behind it: calls may fail.";

/// The logical key of tries with the canary key: no key has it.
pub(crate) const CANARY_KEY: KeyId = KeyId::from_bytes([0; 16]);

/// The proxy's report on itself and the key managers behind it.
pub(crate) struct Report {
    pub(crate) detail: String,
    /// How many key managers there are, how many of them are well, and how many cannot be used.
    all: usize,
    active: usize,
    unavailable: usize,
}

impl Report {
    /// Asks the proxy.
    ///
    /// # Errors
    /// The call's.
    pub(crate) async fn ask(external: &ExternalKeys, cx: &OpContext) -> Result<Self, Error> {
        external.health(cx).await.map(|health| Self::of(&health))
    }

    fn of(health: &api::Health) -> Self {
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

    /// Whether every key manager works.
    const fn is_well(&self) -> bool {
        self.active == self.all && self.all > 0
    }

    /// The row of a check.
    pub(crate) fn report(&self) -> RightReport {
        let how = format!(
            "/health: {} of {} key managers are ACTIVE, {} UNAVAILABLE",
            self.active, self.all, self.unavailable
        );
        match self.is_well() {
            true => RightReport::new(HEALTH, Finding::Granted, how),
            false => RightReport::new(HEALTH, Finding::Failed, how).advise(PARTLY),
        }
    }

    /// That no key manager can serve a call.
    pub(crate) fn problem(&self) -> Option<Error> {
        (self.unavailable == self.all).then(|| {
            let error = fault(ErrorKind::UpstreamUnavailable, HEALTH);
            error.advice("The proxy works, and no key manager behind it does: ask the owner of the keys.")
        })
    }
}

/// The external keys of a connection, and how their proxy is checked.
pub(crate) struct MonitoredKeys {
    pub(crate) keys: ExternalKeys,
    /// The key that its owner made for deep checks.
    pub(crate) canary: Option<KeyName>,
}

#[async_trait]
impl HealthCheck for MonitoredKeys {
    async fn check(&self, cx: &OpContext, deep: bool) -> Result<Health, Error> {
        let report = Report::ask(&self.keys, cx).await?;
        if let Some(problem) = report.problem() {
            return Err(problem);
        }
        if let (true, Some(name)) = (deep, &self.canary) {
            let tried = self.keys.canary(cx, Target { name, key: CANARY_KEY }).await;
            if let degraded @ Health::Degraded(_) = of_canary(tried)? {
                return Ok(degraded);
            }
        }
        Ok(match report.is_well() {
            true => Health::Ok,
            false => Health::Degraded(PARTLY),
        })
    }
}
