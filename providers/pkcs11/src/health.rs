//! The checks of the token while the connection is in use.

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::{HealthCheck, of_canary};
use claviger_provider::{Error, Health, OpContext};

use crate::client::Client;
use crate::names::{KeyName, cka_id};

/// A `CKA_ID` that nobody gives a key, to look for: that shows that the token answers, and knows the login.
const NOBODYS: [u8; 16] = [0; 16];

/// The token of a connection, and how it is checked.
pub(crate) struct MonitoredToken {
    pub(crate) client: Client,
    /// The `CKA_ID`, in hex, of the key that its owner made for deep checks.
    pub(crate) canary: Option<String>,
}

#[async_trait]
impl HealthCheck for MonitoredToken {
    async fn check(&self, cx: &OpContext, deep: bool) -> Result<Health, Error> {
        let serial = self.client.serial(cx).await?;
        let named = |id| KeyName {
            serial: serial.clone(),
            id,
        };
        let found = self.client.find(cx, &named(NOBODYS.to_vec())).await;
        found.map_err(|error| error.into_error("look at the token"))?;
        let canary = self.canary.as_deref().filter(|_| deep).and_then(cka_id).map(named);
        let Some(name) = canary else { return Ok(Health::Ok) };
        of_canary(self.tried(cx, &name).await)
    }
}

impl MonitoredToken {
    async fn tried(&self, cx: &OpContext, name: &KeyName) -> Result<(), Error> {
        let key = self.client.key(cx, name).await?;
        key.usable()?;
        self.client.canary(cx, name, key.spec).await
    }
}
