//! Proxies of the environment. The gateway takes none: a connection's setting `proxy` decides. Google's client has no
//! setting against them, so the variables are removed.

use std::io::{self, Write};

use claviger_guarded::remove_variables;

/// What HTTP clients read.
const VARIABLES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// What was done about proxies of the environment; `None` if it names none.
#[derive(Debug, Default)]
pub struct IgnoredProxies(Option<String>);

impl IgnoredProxies {
    /// Removes them. Must come before the process has another thread.
    pub(super) fn remove() -> Self {
        Self(match remove_variables(&VARIABLES) {
            Ok(removed) if removed.is_empty() => None,
            Ok(removed) => Some(format!(
                "ignored in the environment: {}. A connection's proxy is its setting `proxy`; Google's client has none",
                removed.join(", ")
            )),
            Err(why) => Some(format!(
                "the proxy variables cannot be removed from the environment ({why}), and Google's client takes them: start without them"
            )),
        })
    }

    /// Logs it.
    pub(super) fn report(&self) {
        if let Some(text) = &self.0 {
            tracing::warn!("{text}");
        }
    }

    /// Prints it, for a command without a log.
    pub(super) fn print(&self) {
        if let Some(text) = &self.0 {
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    }
}
