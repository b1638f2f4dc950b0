//! The metrics of connections' logins, rendered when they are read: a connection that leaves memory, or whose
//! credential has ended, has none. Their labels are ids of connections, which tell nobody whose they are.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use claviger_provider::{ConnectionId, LoginState, LoginStatus};

const LOGINS: &str = "claviger_connection_logins";
const EXPIRES: &str = "claviger_connection_login_expires_seconds";

/// The most connections whose expiry is rendered: those that expire first.
const MAX_CONNECTIONS: usize = 10_000;

/// Number of connections by the state of their logins.
#[derive(Debug, Default)]
pub struct LoginCounts([u64; LoginState::ALL.len()]);

impl LoginCounts {
    /// Counts these logins.
    pub fn of(logins: &[(ConnectionId, LoginStatus)]) -> Self {
        let mut counts = Self::default();
        for (_, status) in logins {
            if let Some(at) = LoginState::ALL.iter().position(|state| *state == status.state) {
                counts.0[at] += 1;
            }
        }
        counts
    }

    /// The number of connections in this state.
    pub fn get(&self, wanted: LoginState) -> u64 {
        let all = LoginState::ALL.iter().zip(self.0);
        all.filter(|(state, _)| **state == wanted).map(|(_, count)| count).sum()
    }
}

/// Renders the metrics in Prometheus' text format 0.0.4.
pub fn render(logins: &[(ConnectionId, LoginStatus)]) -> String {
    let mut text = format!(
        "# HELP {LOGINS} Connections in memory by the state of their login: none, not_tried, ok, renewal_failing, failing or refused\n# TYPE {LOGINS} gauge\n"
    );
    let counts = LoginCounts::of(logins);
    for state in LoginState::ALL {
        let _ = writeln!(text, "{LOGINS}{{state=\"{}\"}} {}", state.as_str(), counts.get(state));
    }
    let mut expiring: Vec<(u64, ConnectionId)> = logins
        .iter()
        .filter_map(|(id, status)| Some((seconds(status.expires?), *id)))
        .collect();
    expiring.sort_unstable_by_key(|(seconds, _)| *seconds);
    expiring.truncate(MAX_CONNECTIONS);
    let _ = write!(
        text,
        "# HELP {EXPIRES} Expiry of the credential that a connection's login got, in seconds since 1970, by the connection's id\n# TYPE {EXPIRES} gauge\n"
    );
    for (seconds, id) in expiring {
        let _ = writeln!(text, "{EXPIRES}{{connection=\"{id}\"}} {seconds}");
    }
    text
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
