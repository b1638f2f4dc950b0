//! Stops a severed connection's operations, and drops its provider.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::breaker::{BreakerState, CallFailure, Circuits};
use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, SeverSwitch};

/// The layers that a sever takes away.
pub(super) struct Behind {
    pub(super) outermost: Arc<dyn Call>,
    pub(super) circuits: Arc<Circuits>,
}

/// The gate of a connection's operations.
pub(super) struct SeverGate {
    kind: ProviderKind,
    capabilities: Arc<Capabilities>,
    switch: SeverSwitch,
    /// `None` once severed. Without its provider, no client, socket, credential or background task of
    /// a vendor's library is left that could send.
    behind: RwLock<Option<Behind>>,
}

impl SeverGate {
    pub(super) fn new(behind: Behind, capabilities: Arc<Capabilities>, switch: SeverSwitch) -> Self {
        let kind = behind.outermost.kind();
        let behind = RwLock::new((!switch.is_severed()).then_some(behind));
        Self {
            kind,
            capabilities,
            switch,
            behind,
        }
    }

    pub(super) const fn switch(&self) -> &SeverSwitch {
        &self.switch
    }

    pub(super) fn sever(&self) {
        self.switch.sever();
        // Not dropped under the lock.
        let behind = self.behind.write().take();
        drop(behind);
    }

    /// The breaker's state; closed for a severed connection.
    pub(super) fn breaker(&self) -> BreakerState {
        let behind = self.behind.read();
        behind.as_ref().map_or(BreakerState::Closed, |behind| behind.circuits.connection())
    }

    /// Why the last call failed, while the connection's circuit is not closed; `None` for a severed connection.
    pub(super) fn last_failure(&self) -> Option<CallFailure> {
        self.behind.read().as_ref()?.circuits.last_failure()
    }

    /// The number of keys whose circuit is open; 0 for a severed connection.
    pub(super) fn open_keys(&self) -> usize {
        let behind = self.behind.read();
        behind.as_ref().map_or(0, |behind| behind.circuits.open_keys())
    }

    fn refusal(&self, op: Op<'_>) -> Error {
        Error::new(ErrorKind::Severed, format!("{}: the connection is severed", op.name())).provider(self.kind)
    }
}

#[async_trait]
impl Call for SeverGate {
    fn kind(&self) -> ProviderKind {
        self.kind
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::clone(&self.capabilities)
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let inner = self.behind.read().as_ref().map(|behind| Arc::clone(&behind.outermost));
        let Some(inner) = inner else { return Err(self.refusal(op)) };
        // The future owns the provider, which is dropped with it.
        match self.switch.pass(async move { inner.call(cx, op).await }).await {
            Ok(Ok(output)) => Ok(output),
            // A client inside may have seen the sever first, and have reported it in its own way.
            Ok(Err(error)) if !self.switch.is_severed() => Err(error),
            Ok(Err(_)) | Err(_) => Err(self.refusal(op)),
        }
    }
}
