//! The provider of a connection that none can be made from: its stored settings or secrets can no
//! longer be used, or this build lacks its kind. The connection can be shown, severed, changed and
//! deleted like every other; every call through it fails with the reason.

use async_trait::async_trait;
use claviger_provider::{Call, Capabilities, Error, Op, OpContext, Output, ProviderKind, UpstreamMessage};

/// Fails every call.
pub(super) struct Unusable {
    pub(super) kind: ProviderKind,
    /// Those of the family, so that the guard lets calls pass to the reason; nothing, without a family.
    pub(super) capabilities: Capabilities,
    pub(super) reason: Reason,
}

/// Why there is no provider.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    kind: claviger_provider::ErrorKind,
    advice: Option<&'static str>,
    cause: String,
}

impl Reason {
    pub(super) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind,
            advice: error.advice,
            cause: error.to_string(),
        }
    }

    /// The error, made anew for each call.
    pub(super) fn error(&self, provider: ProviderKind) -> Error {
        let error = Error::new(self.kind, "make the connection").provider(provider);
        let error = error.source(UpstreamMessage(self.cause.clone()));
        match self.advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

#[async_trait]
impl Call for Unusable {
    fn kind(&self) -> ProviderKind {
        self.kind
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn call(&self, _: &OpContext, _: Op<'_>) -> Result<Output, Error> {
        Err(self.reason.error(self.kind))
    }
}
