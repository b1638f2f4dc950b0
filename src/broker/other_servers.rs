//! Provider keys of one id at several servers: a Unique Identifier of KMIP, the name of a Transit key or an external key's
//! id does not name the server, so a tenant can have a key of the same id at each of two.
//!
//! Another address is no proof of another server: a host name, an address and a forwarded port can lead to one. What
//! proves that two keys are two is a canary: the one that was wrapped with the first key, and that the second one rejects.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_provider::{ConnectionId, KeyId, OpContext, TenantId};

use super::identity::CanaryResponse;
use super::reach::Reach;
use super::{Broker, Failure, RequestContext};
use crate::keys::KeyEntry;
use crate::store::model::{Connection, KeyVersion};

impl Broker {
    /// The tenant's keys, other than `own`, whose provider keys have this id and are proven to be at other servers than
    /// the connection's.
    ///
    /// # Errors
    /// What the store fails with.
    pub(super) async fn keys_elsewhere(
        &self,
        cx: &OpContext,
        (tenant, own): (TenantId, KeyId),
        provider_key: &str,
        through: &Reach,
    ) -> Result<Vec<KeyId>, Failure> {
        let mut elsewhere = Vec::new();
        for (held, _) in self.store.provider_key_holders(tenant, through.row.provider, provider_key).await? {
            if held != own && self.is_elsewhere(cx, (tenant, held), provider_key, through).await? {
                elsewhere.push(held);
            }
        }
        Ok(elsewhere)
    }

    /// Whether a key whose provider key has this id is proven to be at another server than the connection's.
    ///
    /// # Errors
    /// What the store fails with.
    pub(super) async fn is_elsewhere(
        &self,
        cx: &OpContext,
        (tenant, held): (TenantId, KeyId),
        provider_key: &str,
        through: &Reach,
    ) -> Result<bool, Failure> {
        let server = self.server(&through.row);
        if server.is_none() {
            return Ok(false);
        }
        let versions = self.versions_of(tenant, held).await?;
        let of_id = versions.iter().filter(|version| is_of_id(version, provider_key, through));
        let connections: BTreeSet<ConnectionId> = of_id.filter_map(KeyVersion::connection_id).collect();
        for connection in connections {
            if self.server(&self.store.connection(tenant, connection).await?) == server {
                return Ok(false);
            }
        }
        Ok(self.canary_through(cx, (tenant, held), provider_key, through).await? == CanaryResponse::Rejected)
    }

    /// As [`Broker::keys_elsewhere`], of the provider key that a rotation of a key made.
    ///
    /// # Errors
    /// Those of [`Broker::reach`].
    pub(super) async fn keys_beside(
        &self,
        cx: &RequestContext,
        key: &Arc<KeyEntry>,
        from: &KeyVersion,
        made: &str,
    ) -> Result<Vec<KeyId>, Failure> {
        let reach = self.reach(key, from).await?;
        self.keys_elsewhere(&cx.op_context(), (key.tenant(), key.id()), made, &reach).await
    }

    /// Which of these detached keys, whose provider keys have this id, comes back through the connection: the one that it
    /// led to or, of several at other connections, the one whose canary opens. `None` if there is none.
    ///
    /// # Errors
    /// What the store fails with.
    pub(super) async fn comes_back(
        &self,
        cx: &OpContext,
        (tenant, detached): (TenantId, &[KeyId]),
        provider_key: &str,
        through: &Reach,
    ) -> Result<Option<KeyId>, Failure> {
        let [first, _, ..] = detached else {
            return Ok(detached.first().copied());
        };
        for held in detached {
            let versions = self.versions_of(tenant, *held).await?;
            let led_to = |version: &KeyVersion| version.connection_id() == Some(through.row.id) && version.provider_key == provider_key;
            if versions.iter().any(led_to) {
                return Ok(Some(*held));
            }
        }
        for held in detached {
            if self.canary_through(cx, (tenant, *held), provider_key, through).await? == CanaryResponse::Opens {
                return Ok(Some(*held));
            }
        }
        Ok(Some(*first))
    }

    /// What the provider responds to the newest canary that a key has of provider keys of this id.
    async fn canary_through(
        &self,
        cx: &OpContext,
        key: (TenantId, KeyId),
        provider_key: &str,
        through: &Reach,
    ) -> Result<CanaryResponse, Failure> {
        let versions = self.versions_of(key.0, key.1).await?;
        for version in versions.iter().rev().filter(|version| is_of_id(version, provider_key, through)) {
            match self.try_canary(cx, key, version, &through.pipeline).await? {
                CanaryResponse::NoCanary => {}
                response => return Ok(response),
            }
        }
        Ok(CanaryResponse::NoCanary)
    }

    fn server(&self, connection: &Connection) -> Option<String> {
        let factory = self.directory().factories().get(connection.provider)?;
        factory.server(&connection.settings)
    }
}

/// Whether a version's provider key has this id, of the provider that a connection leads to.
fn is_of_id(version: &KeyVersion, provider_key: &str, through: &Reach) -> bool {
    version.provider == through.row.provider && version.provider_key == provider_key
}
