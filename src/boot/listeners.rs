//! The listeners: bound at the start, and given the gateway's routers once it serves.

use std::net::SocketAddr;
use std::sync::Arc;

use super::errors::BootError;
use crate::broker;
use crate::config::server::{Limits, Server, Transport};
use crate::listener::{Listener, Recall, Running, SwappableRouter, Tls};
use crate::protocols::rest::RestService;

/// A running listener and its router.
pub(super) struct BoundListener {
    pub(super) running: Running,
    pub(super) router: SwappableRouter<RestService>,
}

impl BoundListener {
    fn address(&self) -> String {
        self.running.local_addr().to_string()
    }
}

/// All listeners of a gateway.
pub(super) struct Listeners {
    pub(super) api: BoundListener,
    /// The separate listener for the service endpoints, if there is one.
    pub(super) service: Option<BoundListener>,
    /// The operator's listener, if there is one.
    pub(super) operator: Option<BoundListener>,
    pub(super) certificates: Vec<Arc<Tls>>,
    recall: Arc<Recall>,
}

impl Listeners {
    /// Binds the configured listeners. `starting` creates their first router; its argument says
    /// whether the listener serves the service endpoints.
    pub(super) async fn bind(server: &Server, starting: impl Fn(bool) -> RestService) -> Result<Self, BootError> {
        let recall = Arc::default();
        let (api, tls) = bind(
            "api",
            server.listen,
            &server.transport,
            &server.limits,
            starting(server.service.is_none()),
            &recall,
        )
        .await?;
        let mut certificates: Vec<Arc<Tls>> = tls.into_iter().collect();
        let service = match &server.service {
            None => None,
            Some(service) => {
                let (service, tls) = bind(
                    "service",
                    service.listen,
                    &service.transport,
                    &server.limits,
                    starting(true),
                    &recall,
                )
                .await?;
                certificates.extend(tls);
                Some(service)
            }
        };
        let operator = match &server.operator {
            None => None,
            Some(operator) => {
                let (operator, tls) = bind(
                    "operator",
                    operator.listen,
                    &operator.transport,
                    &operator.limits,
                    starting(true),
                    &recall,
                )
                .await?;
                certificates.extend(tls);
                Some(operator)
            }
        };
        Ok(Self {
            api,
            service,
            operator,
            certificates,
            recall,
        })
    }

    /// Recalls responses from the connections of all listeners.
    pub(super) fn recall(&self) -> broker::Recall {
        let recall = Arc::clone(&self.recall);
        Arc::new(move |id| {
            let recall = Arc::clone(&recall);
            Box::pin(async move {
                match id {
                    Some(id) => recall.depending_on(&id).await,
                    None => recall.of_earlier().await,
                }
            })
        })
    }

    /// Address of the API.
    pub(super) fn api_address(&self) -> SocketAddr {
        self.api.running.local_addr()
    }

    /// Address of the separate service listener, for the log.
    pub(super) fn service_address(&self) -> Option<String> {
        self.service.as_ref().map(BoundListener::address)
    }

    /// Address of the operator's listener, for the log.
    pub(super) fn operator_address(&self) -> Option<String> {
        self.operator.as_ref().map(BoundListener::address)
    }
}

async fn bind(
    name: &'static str,
    address: SocketAddr,
    transport: &Transport,
    limits: &Limits,
    router: RestService,
    recall: &Arc<Recall>,
) -> Result<(BoundListener, Option<Arc<Tls>>), BootError> {
    let tls = match transport {
        Transport::Plain => None,
        Transport::Tls(files) => Some(Arc::new(Tls::load(name, files)?)),
    };
    let bound = Listener::bind(address, tls.clone(), limits.clone()).await;
    let listener = bound.map_err(|error| BootError::Listen {
        address,
        kind: error.kind(),
    })?;
    let router = SwappableRouter::to(router);
    let running = listener.reached_by(recall).serve(router.clone());
    Ok((BoundListener { running, router }, tls))
}
