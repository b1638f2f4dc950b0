//! Converts a server's refusal to the gateway's error type.

use claviger_provider::kit::call_error;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::{Error, ErrorKind, ProviderKind};

use crate::codes;
use crate::message::Refused;

/// Why a call to the server failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// Why the server, or the adapter for it, refuses a call.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// A response other than success.
    Result(Refused),
    /// The server speaks neither 1.4 nor 2.0, or not the version of the settings.
    NoCommonVersion {
        /// The versions that it does speak, if it says so.
        speaks: Vec<(i32, i32)>,
    },
    /// What answers is no KMIP server.
    NotKmip,
}

const OTHER_VERSION: &str = "The key manager does not speak KMIP 1.4 or 2.0, or not the version of the connection's setting \
                             `protocol_version`. Older versions have no associated data and no tag, so they cannot be used: enable a \
                             newer one at the key manager.";
const NOT_KMIP: &str = "What answers on this port does not speak KMIP: give the connection the address of the key manager's KMIP port, \
                        usually 5696.";

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Kmip;
    const LOGIN: &'static str = "log in";

    fn meaning(&self) -> Meaning {
        match self {
            Self::Result(refused) => codes::known(refused.reason).map_or(Meaning::of(ErrorKind::InvalidInput), |reason| reason.meaning),
            Self::NoCommonVersion { .. } => Meaning::of(ErrorKind::Misconfigured).advice(OTHER_VERSION),
            Self::NotKmip => Meaning::of(ErrorKind::Misconfigured).advice(NOT_KMIP),
        }
    }

    fn rules_out_effect(&self) -> bool {
        match self {
            Self::Result(refused) => codes::rules_out_effect(refused.reason),
            Self::NoCommonVersion { .. } | Self::NotKmip => true,
        }
    }

    fn is_of_credential(&self) -> bool {
        match self {
            Self::Result(refused) => refused.reason == codes::AUTHENTICATION_NOT_SUCCESSFUL,
            Self::NoCommonVersion { .. } | Self::NotKmip => true,
        }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Result(refused) => Some(match codes::known(refused.reason) {
                Some(reason) => reason.name.to_owned(),
                None => format!("{:#010x}", refused.reason),
            }),
            Self::NoCommonVersion { speaks } if speaks.is_empty() => None,
            Self::NoCommonVersion { speaks } => {
                let speaks: Vec<String> = speaks.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
                Some(format!("speaks {}", speaks.join(", ")))
            }
            Self::NotKmip => None,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            // It may repeat what was sent.
            Self::Result(refused) => refused.message.as_deref().map(scrubbed),
            Self::NoCommonVersion { .. } | Self::NotKmip => None,
        }
    }
}

/// The reason of a refusal by the server.
pub(crate) fn reason(error: &CallError) -> Option<u32> {
    match error.refusal()? {
        Refusal::Result(refused) => Some(refused.reason),
        Refusal::NoCommonVersion { .. } | Refusal::NotKmip => None,
    }
}

/// An error that no response of the server's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Kmip)
}
