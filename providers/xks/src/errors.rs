//! Converts a proxy's response to the gateway's error type.

use std::time::Duration;

use claviger_provider::kit::call_error;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::{Error, ErrorKind, ProviderKind};

use crate::codes::{self, SKEWED, UNAUTHENTICATED};

/// Why a call to the proxy failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// A response other than success.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The specification's name of the error; `None` where the body has none.
    pub(crate) name: Option<String>,
    pub(crate) message: Option<String>,
    /// The pause that the proxy asks for.
    pub(crate) pause: Option<Duration>,
    /// Whether the proxy's clock and the gateway's differ by more than a signature allows.
    pub(crate) skewed: bool,
}

impl Refusal {
    /// Whether the proxy does not accept the signature.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.name.as_deref() == Some(UNAUTHENTICATED)
    }

    /// Whether the clocks may be the reason for that.
    pub(crate) fn blames_clock(&self) -> bool {
        self.skewed && self.is_unauthenticated()
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Xks;
    const LOGIN: &'static str = "sign a request";

    fn meaning(&self) -> Meaning {
        if self.blames_clock() {
            return SKEWED;
        }
        codes::meaning(self.status, self.name.as_deref(), self.pause)
    }

    fn status(&self) -> Option<u16> {
        Some(self.status)
    }

    fn is_of_credential(&self) -> bool {
        self.is_unauthenticated()
    }

    fn code(&self) -> Option<String> {
        // Any other name is what whoever answers likes.
        let known = self.name.clone().filter(|name| codes::is_known(name));
        Some(known.unwrap_or_else(|| self.status.to_string()))
    }

    fn message(&self) -> Option<String> {
        // It may repeat what was sent.
        self.message.as_deref().map(scrubbed)
    }
}

/// Whether the proxy refused the access key, so that the connection's other one may help.
pub(crate) fn refused_access_key(error: &CallError) -> bool {
    error
        .refusal()
        .is_some_and(|refusal| refusal.is_unauthenticated() && !refusal.blames_clock())
}

/// An error that no response of the proxy's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Xks)
}
