//! What is known of the service behind a connection without a call of anybody's: written by
//! [`crate::kit::health_monitor`], shown by the gateway. Logs each change of it once.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::{ConnectionId, Error, ErrorKind, ProviderKind, TenantId};

/// Whether a service can serve calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// All of it.
    Ok,
    /// It serves calls, and says that a part of it does not work.
    Degraded,
    /// It serves no calls.
    Failing,
}

impl HealthState {
    /// The word in responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// What a check of a service found, if it responded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All of it works.
    Ok,
    /// A part of it does not; with what to do.
    Degraded(&'static str),
}

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthStatus {
    /// The state.
    pub state: HealthState,
    /// When it was first found so.
    pub since: SystemTime,
    /// When it was checked last.
    pub checked: SystemTime,
    /// The error that a call would get, of a service that fails.
    pub kind: Option<ErrorKind>,
    /// What to do about it.
    pub advice: Option<&'static str>,
}

/// The report on one connection's service. Clones are the same report.
#[derive(Debug, Clone)]
pub struct HealthReport {
    tenant: TenantId,
    connection: ConnectionId,
    provider: ProviderKind,
    known: Arc<Mutex<Option<HealthStatus>>>,
}

impl HealthReport {
    /// An empty report.
    pub fn new(tenant: TenantId, connection: ConnectionId, provider: ProviderKind) -> Self {
        Self {
            tenant,
            connection,
            provider,
            known: Arc::default(),
        }
    }

    /// What the last check found; `None` before the first one.
    pub fn status(&self) -> Option<HealthStatus> {
        self.known.lock().clone()
    }

    /// Notes what a check found.
    pub(crate) fn found(&self, found: &Result<Health, Error>) {
        let (state, kind, advice) = match found {
            Ok(Health::Ok) => (HealthState::Ok, None, None),
            Ok(Health::Degraded(advice)) => (HealthState::Degraded, None, Some(*advice)),
            Err(error) => (HealthState::Failing, Some(error.kind), error.advice),
        };
        let now = SystemTime::now();
        let mut known = self.known.lock();
        let before = known.take();
        let same = before.as_ref().filter(|before| before.state == state);
        let since = same.map_or(now, |before| before.since);
        // That all is well at the first check is no news.
        let is_new = same.is_none() && (before.is_some() || state != HealthState::Ok);
        *known = Some(HealthStatus {
            state,
            since,
            checked: now,
            kind,
            advice,
        });
        drop(known);
        if !is_new {
            return;
        }
        let (tenant, connection, provider) = (self.tenant, self.connection, self.provider);
        match found {
            Ok(Health::Ok) => tracing::info!(%tenant, %connection, %provider, "the service behind the connection is well again"),
            Ok(Health::Degraded(advice)) => {
                tracing::warn!(%tenant, %connection, %provider, advice, "the service behind the connection says that a part of it fails")
            }
            Err(error) => tracing::warn!(%tenant, %connection, %provider, %error, "the service behind the connection fails"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{Health, HealthReport, HealthState};
    use crate::{ConnectionId, Error, ErrorKind, ProviderKind, TenantId};

    #[test]
    fn the_last_check_is_shown_with_the_beginning_of_its_state() {
        let report = HealthReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Xks);
        assert_eq!(report.status(), None);
        report.found(&Ok(Health::Ok));
        let first = report.status().unwrap();
        report.found(&Ok(Health::Ok));
        let second = report.status().unwrap();
        assert_eq!((second.state, second.since, second.kind), (HealthState::Ok, first.since, None));
        assert!(second.checked >= first.checked);
        report.found(&Ok(Health::Degraded("Mend it.")));
        let third = report.status().unwrap();
        assert_eq!((third.state, third.advice), (HealthState::Degraded, Some("Mend it.")));
        report.found(&Err(Error::new(ErrorKind::UpstreamTimeout, "check").advice("Start it.")));
        let last = report.status().unwrap();
        assert_eq!(
            (last.state, last.kind, last.advice),
            (HealthState::Failing, Some(ErrorKind::UpstreamTimeout), Some("Start it."))
        );
    }
}
