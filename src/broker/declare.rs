//! What the operator's configuration declares: creates what is missing, and reports what differs. A
//! disabled key or a severed connection stays so.
//!
//! Called by `boot` at a start, and by [`Broker::apply`]. Each object is created by the use case that
//! the API calls for it, and so has its intent and its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{Factory, ProviderKind, Secret, SettingsOrigin, TenantId};

use super::connections::{ConnectionPut, MANAGED_BY, parse};
use super::declaration::{DeclaredConnection, MissingSecret};
use super::declared_files::DeclaredFiles;
use super::network::differing;
use super::{
    Authorized, Broker, Code, Failure, Guarded, Keep, Names, NewConnection, NewKey, NewTenant, Operation, RequestContext, RequestInfo, op,
};
use crate::access::Caller;
use crate::audit;
use crate::config::declared;
use crate::keys::Factories;
use crate::store::StoreError;
use crate::store::model::{Connection, Labels, Timeouts};

/// Timeout for one object, including its provider calls.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether to create what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Only compare: change nothing and call no provider.
    Look,
    /// As [`How::CarryOut`], as far as no provider is called: it may be down, and nothing is served yet.
    Start,
    /// Create what is missing, and store new secrets.
    CarryOut,
}

/// The result of comparing a declared object; with [`How::CarryOut`], before it was created or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It does not exist.
    Missing,
    /// It is as declared.
    AsDeclared,
    /// It is as declared, but the secrets differ.
    NewSecrets,
    /// It is as declared but for these network settings, which can change.
    NewNetwork(String),
    /// It exists and differs in this; nothing was changed.
    Differs(&'static str),
    /// It exists and is no longer declared; nothing was changed. It can be released.
    NotDeclared,
    /// It does not exist or has other network settings, and is not made or changed while its tenant is suspended:
    /// that would call the provider.
    Suspended,
}

impl Broker {
    /// Compares or creates a tenant. `asker` is the request that asks for it, whose credential must be in force for
    /// every change; `None` for the gateway's own work.
    ///
    /// # Errors
    /// Why it could not be created.
    pub async fn declare_tenant(&self, declared: &declared::Tenant, how: How, asker: Option<&RequestContext>) -> Result<Found, Failure> {
        match self.store.tenant_by_name(&declared.name).await {
            Ok(there) if declared.id.is_some_and(|id| id != there.id) => return Ok(Found::Differs("id")),
            Ok(_) => return Ok(Found::AsDeclared),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match how {
            How::Look => return Ok(Found::Missing),
            How::Start | How::CarryOut => {}
        }
        let new = NewTenant {
            name: declared.name.clone(),
            id: declared.id,
        };
        self.carry_out::<op::CreateTenant, _>(asker, TenantId::INSTALLATION, (), async |authorized| {
            self.create_tenant(authorized, new, Keep::nothing()).await
        })
        .await?;
        Ok(Found::Missing)
    }

    /// Compares or creates a connection. It gets the secrets of the configuration. `asker` as in
    /// [`Broker::declare_tenant`].
    ///
    /// # Errors
    /// Why it could not be created: its tenant does not exist, or its settings are invalid.
    pub async fn declare_connection(
        &self,
        declared: &DeclaredConnection,
        how: How,
        asker: Option<&RequestContext>,
    ) -> Result<Found, Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        let settings = declared.settings.as_ref().map_err(missing_secret)?;
        match how {
            How::Look => {}
            How::Start | How::CarryOut => self.degraded.end(tenant, &declared.name),
        }
        match self.store.connection_by_name(tenant, &declared.name).await {
            Ok(row) => return self.compare_connection(&row, declared, settings, how, asker).await,
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match how {
            How::Look => return self.could_be_made(declared),
            How::Start | How::CarryOut => {}
        }
        let new = NewConnection {
            name: declared.name.clone(),
            settings: Arc::clone(settings),
            labels: Labels::new(),
            timeouts: Timeouts::default(),
            declared: true,
        };
        self.carry_out::<op::CreateConnection, _>(asker, tenant, declared.provider, async |authorized| {
            self.create_connection(authorized, new, Keep::nothing()).await
        })
        .await?;
        let row = self.store.connection_by_name(tenant, &declared.name).await?;
        self.directory().factories().note_declared(&row);
        self.read_files_at_logins(&row, declared).await?;
        Ok(Found::Missing)
    }

    /// Lets the connection read its secrets from the declared files at each login.
    async fn read_files_at_logins(&self, row: &Connection, declared: &DeclaredConnection) -> Result<(), Failure> {
        let files = DeclaredFiles::of(&declared.source, self.family(row.provider)?, &row.settings);
        if self.directory().factories().read_secrets_from(row.id, files) {
            self.directory().reconnect(row.id).await?;
        }
        Ok(())
    }

    /// What a plan reports of a connection that does not exist.
    ///
    /// # Errors
    /// Why its settings are invalid.
    pub(super) fn could_be_made(&self, declared: &DeclaredConnection) -> Result<Found, Failure> {
        let settings = declared.settings.as_ref().map_err(missing_secret)?;
        parse(self.family(declared.provider)?.as_ref(), settings, SettingsOrigin::Operator)?;
        Ok(Found::Missing)
    }

    pub(super) fn family(&self, provider: ProviderKind) -> Result<&Arc<dyn Factory>, Failure> {
        let factory = self.directory().factories().get(provider);
        factory.ok_or_else(|| Failure::new(Code::Unsupported, "This gateway has no such provider."))
    }

    async fn compare_connection(
        &self,
        row: &Connection,
        declared: &DeclaredConnection,
        settings: &Secret,
        how: How,
        asker: Option<&RequestContext>,
    ) -> Result<Found, Failure> {
        if row.managed_by.as_deref() != Some(MANAGED_BY) {
            return Ok(Found::Differs("managed_by: it was created over the API"));
        }
        if row.provider != declared.provider {
            return Ok(Found::Differs("provider"));
        }
        let factory = self.family(row.provider)?;
        let parsed = parse(factory.as_ref(), settings, SettingsOrigin::Operator)?;
        let Some(network) = differing(factory.as_ref(), &row.settings, &parsed.public) else {
            return Ok(Found::Differs(
                "settings: only network settings can change; create another connection",
            ));
        };
        match how {
            How::Look => {}
            // Before other network settings are tried, and while they are refused.
            How::Start | How::CarryOut => self.read_files_at_logins(row, declared).await?,
        }
        let mut fresh = Vec::new();
        for (name, value) in parsed.secrets {
            let name = Factories::secret_name(row, &name);
            if self.store.get(&name).await?.as_ref() != Some(&value) {
                fresh.push((name, value));
            }
        }
        if !network.is_empty() {
            if how == How::CarryOut {
                if self.is_suspended(row.tenant).await? {
                    return Ok(Found::Suspended);
                }
                self.carry_out::<op::UpdateConnection, _>(asker, row.tenant, row.name.as_str(), async |authorized| {
                    self.change_declared_network(&authorized, row, parsed.public, fresh).await
                })
                .await?;
            }
            return Ok(Found::NewNetwork(network.join(", ")));
        }
        if fresh.is_empty() {
            return Ok(Found::AsDeclared);
        }
        match how {
            How::Look => return Ok(Found::NewSecrets),
            How::Start | How::CarryOut => {}
        }
        let put = ConnectionPut {
            replaced: fresh,
            ..ConnectionPut::default()
        };
        self.carry_out::<op::UpdateConnection, _>(asker, row.tenant, row.name.as_str(), async |authorized| {
            self.put_connection(&authorized, put).await
        })
        .await?;
        Ok(Found::NewSecrets)
    }

    /// Compares a key, or creates or adopts it through its connection, unless its tenant is suspended. `asker` as in
    /// [`Broker::declare_tenant`].
    ///
    /// # Errors
    /// Why it could not be created, for instance because the provider is unavailable.
    pub async fn declare_key(&self, declared: &declared::Key, how: How, asker: Option<&RequestContext>) -> Result<Found, Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        let connection = match self.store.connection_by_name(tenant, &declared.connection).await {
            Ok(row) => row,
            Err(StoreError::NotFound) => return Err(no_connection(declared)),
            Err(error) => return Err(error.into()),
        };
        match self.store.key_by_name(tenant, &declared.name).await {
            Ok(there) => {
                let differs = if there.managed_by.as_deref() != Some(MANAGED_BY) {
                    Some("managed_by: it was created over the API")
                } else if there.primary.connection_id() != Some(connection.id) {
                    Some("connection")
                } else if there.primary.spec != declared.spec {
                    Some("spec")
                } else if declared.id.is_some_and(|id| id != there.id) {
                    Some("id")
                } else {
                    None
                };
                return Ok(differs.map_or(Found::AsDeclared, Found::Differs));
            }
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match how {
            How::Look | How::Start => return Ok(Found::Missing),
            How::CarryOut if self.is_suspended(tenant).await? => return Ok(Found::Suspended),
            How::CarryOut => {}
        }
        let new = NewKey {
            name: declared.name.clone(),
            spec: declared.spec,
            adopt: declared.provider_key.clone(),
            id: declared.id,
            labels: Labels::new(),
            cache: crate::store::model::CacheSettings::default(),
            declared: true,
        };
        self.carry_out::<op::CreateKey, _>(asker, tenant, declared.connection.as_str(), async |authorized| {
            self.create_key(authorized, new, Keep::nothing()).await
        })
        .await?;
        Ok(Found::Missing)
    }

    pub(super) async fn declared_tenant(&self, name: &str) -> Result<TenantId, Failure> {
        match self.store.tenant_by_name(name).await {
            Ok(tenant) => Ok(tenant.id),
            Err(StoreError::NotFound) => Err(Failure::new(Code::NotFound, format!("The tenant `{name}` does not exist."))
                .advice("Declare it with [[tenants]], or create it over the API.")),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs one use case for the configuration, with a record of its own. `asker` as in
    /// [`Broker::declare_tenant`].
    pub(super) async fn carry_out<O: Operation, T: Send>(
        &self,
        asker: Option<&RequestContext>,
        tenant: TenantId,
        named: impl Names<O::Object>,
        run: impl AsyncFnOnce(Authorized<O>) -> Result<Guarded<T>, Failure>,
    ) -> Result<(), Failure> {
        let cx = carrying_out::<O>(asker, tenant);
        let result = match self.admit::<O>(&cx, named).await {
            Ok(authorized) => run(authorized).await,
            Err(failure) => Err(failure),
        };
        let render = |result: Result<T, &Failure>, _: Option<&audit::Receipt>| result.map(drop).map_err(Failure::clone);
        match self.conclude(&cx, result, &render, &mut |_| ()).await {
            Ok(recorded) => recorded.into_value(),
            Err(unrecorded) => Err(unrecorded.failure().clone()),
        }
    }
}

/// The failure of a connection that lacks a usable secret file. It names the file, for the operator alone.
fn missing_secret(MissingSecret(why): &MissingSecret) -> Failure {
    Failure::new(
        Code::ConnectionMisconfigured,
        format!("A secret file of the connection cannot be used: {why}."),
    )
    .advice("Correct the file: the gateway reads it every 5 seconds, and `claviger apply` does at once.")
}

/// The failure of a key whose connection does not exist.
pub(super) fn no_connection(key: &declared::Key) -> Failure {
    let detail = format!("The tenant `{}` has no connection `{}`.", key.tenant, key.connection);
    Failure::new(Code::NotFound, detail)
        .advice("Correct the key's `connection`, or declare it with [[connections]] and name the tenant in its `tenants`.")
}

/// The context of one operation for the configuration.
fn carrying_out<O: Operation>(asker: Option<&RequestContext>, tenant: TenantId) -> RequestContext {
    let now = Instant::now();
    let mut id = [0; 16];
    claviger_provider::fill_random(&mut id);
    let info = RequestInfo {
        request_id: audit::Text::new(hex::encode(id)),
        client_request_id: None,
        justification: None,
        started: now,
        deadline: now + PATIENCE,
    };
    let caller = match asker {
        Some(asker) => Caller::configuration_asked_by(asker.caller(), tenant),
        None => Caller::configuration(tenant),
    };
    RequestContext::new(caller, O::ACTION, info)
}
