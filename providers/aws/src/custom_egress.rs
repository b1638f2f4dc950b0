//! The HTTP clients of a connection with its own CA certificates or proxy. No other connection uses
//! them, so that one tenant's authorities are never trusted for another.

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use claviger_provider::egress::{Egress, EgressPolicy, Options};
use claviger_provider::kit::http::ConnectionHttp;
use claviger_provider::{Error, ProviderKind, SeverSwitch};

use crate::http::Hosts;
use crate::settings::Settings;

/// The HTTP settings of such a connection.
pub(crate) struct CustomEgress {
    egress: Egress,
    options: Options,
}

impl CustomEgress {
    /// The egress of a connection with these settings; `None` where it has neither.
    ///
    /// # Errors
    /// `Misconfigured` when a stored setting can no longer be used.
    pub(crate) fn of(settings: &Settings, egress: &Egress, switch: &SeverSwitch) -> Result<Option<Self>, Error> {
        if settings.ca.is_none() && settings.proxy.is_none() {
            return Ok(None);
        }
        let http = ConnectionHttp {
            ca: settings.ca.as_deref(),
            proxy: settings.proxy.as_deref(),
            client_certificate: None,
            switch: switch.clone(),
        };
        let options = http.options(egress, ProviderKind::Aws)?;
        let egress = match &options.proxy {
            // The gateway connects to the proxy alone.
            Some(_) => egress.clone(),
            // To AWS's own hosts, which may have private addresses in the operator's network.
            None => Egress::new(EgressPolicy::everywhere()),
        };
        Ok(Some(Self { egress, options }))
    }

    /// A client of one service. Its first call names the host, and it sends to no other.
    pub(crate) fn client(&self) -> SharedHttpClient {
        Hosts::one(self.egress.clone(), self.options.clone()).client(self.options.switch.clone())
    }
}
