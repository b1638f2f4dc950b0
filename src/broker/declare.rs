//! What the operator's configuration declares: what is missing is made, what differs is told.
//! No state is ever changed: what was disabled or severed stays so.
//!
//! Called by `boot` at a start, and by [`Broker::apply`]. Each thing that is made goes through the use case that the API
//! calls for it, so it has its intent and its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{Factory, KeyId, KeySpec, ProviderKind, Secret, SettingsOrigin, TenantId};

use super::connections::{MANAGED_BY, parse};
use super::{
    Authorized, Broker, Code, Failure, Guarded, Keep, Names, NewConnection, NewKey, NewTenant, Operation, RequestContext, RequestInfo, op,
};
use crate::access::Caller;
use crate::audit;
use crate::keys::Factories;
use crate::store::StoreError;
use crate::store::model::{Connection, Labels, Timeouts};

/// How long one thing may take, its provider included.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A declared tenant.
#[derive(Debug, Clone)]
pub struct DeclaredTenant {
    /// Its name.
    pub name: String,
    /// The id to take.
    pub id: Option<TenantId>,
}

/// A declared connection of one tenant.
#[derive(Debug, Clone)]
pub struct DeclaredConnection {
    /// Whose, by name.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Which family.
    pub provider: ProviderKind,
    /// Its settings, JSON, secrets included.
    pub settings: Arc<Secret>,
}

/// A declared key.
#[derive(Debug, Clone)]
pub struct DeclaredKey {
    /// Whose, by name.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Its connection, by name.
    pub connection: String,
    /// What it is made of.
    pub spec: KeySpec,
    /// A provider key to adopt.
    pub provider_key: Option<String>,
    /// The id to take.
    pub id: Option<KeyId>,
}

/// Whether something is done about what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing is changed, and no provider is asked.
    Look,
    /// What is missing is made, and new secrets are taken.
    CarryOut,
}

/// What was found of one declared thing; with [`How::CarryOut`], what it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is not there.
    Missing,
    /// It is as declared.
    AsDeclared,
    /// It is as declared, with other secrets.
    NewSecrets,
    /// It is there and differs; nothing was changed. Says in what.
    Differs(&'static str),
}

impl Broker {
    /// A tenant.
    ///
    /// # Errors
    /// What kept it from being made.
    pub async fn declare_tenant(&self, declared: &DeclaredTenant, how: How) -> Result<Found, Failure> {
        match self.store.tenant_by_name(&declared.name).await {
            Ok(there) if declared.id.is_some_and(|id| id != there.id) => return Ok(Found::Differs("id")),
            Ok(_) => return Ok(Found::AsDeclared),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match how {
            How::Look => return Ok(Found::Missing),
            How::CarryOut => {}
        }
        let new = NewTenant {
            name: declared.name.clone(),
            id: declared.id,
        };
        self.carry_out::<op::CreateTenant, _>(TenantId::INSTALLATION, (), async |authorized| {
            self.create_tenant(authorized, new, Keep::nothing()).await
        })
        .await?;
        Ok(Found::Missing)
    }

    /// A connection. Its secrets are those of the configuration from now on.
    ///
    /// # Errors
    /// What kept it from being made: a tenant that does not exist, settings that cannot be used.
    pub async fn declare_connection(&self, declared: &DeclaredConnection, how: How) -> Result<Found, Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        match self.store.connection_by_name(tenant, &declared.name).await {
            Ok(row) => return self.compare_connection(&row, declared, how).await,
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        match how {
            How::Look => return self.could_be_made(declared),
            How::CarryOut => {}
        }
        let new = NewConnection {
            name: declared.name.clone(),
            settings: Arc::clone(&declared.settings),
            labels: Labels::new(),
            timeouts: Timeouts::default(),
            declared: true,
        };
        self.carry_out::<op::CreateConnection, _>(tenant, declared.provider, async |authorized| {
            self.create_connection(authorized, new, Keep::nothing()).await
        })
        .await?;
        Ok(Found::Missing)
    }

    /// A connection that is not there: missing, if its settings can be used.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn could_be_made(&self, declared: &DeclaredConnection) -> Result<Found, Failure> {
        parse(
            self.family(declared.provider)?.as_ref(),
            &declared.settings,
            SettingsOrigin::Operator,
        )?;
        Ok(Found::Missing)
    }

    fn family(&self, provider: ProviderKind) -> Result<&Arc<dyn Factory>, Failure> {
        let factory = self.directory().factories().get(provider);
        factory.ok_or_else(|| Failure::new(Code::Unsupported, "This gateway has no such provider."))
    }

    async fn compare_connection(&self, row: &Connection, declared: &DeclaredConnection, how: How) -> Result<Found, Failure> {
        if row.managed_by.as_deref() != Some(MANAGED_BY) {
            return Ok(Found::Differs("managed_by: it was made over the API"));
        }
        if row.provider != declared.provider {
            return Ok(Found::Differs("provider"));
        }
        let parsed = parse(self.family(row.provider)?.as_ref(), &declared.settings, SettingsOrigin::Operator)?;
        if parsed.public != row.settings {
            return Ok(Found::Differs("settings: where a connection leads never changes; make another one"));
        }
        let mut fresh = Vec::new();
        for (name, value) in parsed.secrets {
            let name = Factories::secret_name(row, &name);
            if self.store.get(&name).await?.as_ref() != Some(&value) {
                fresh.push((name, value));
            }
        }
        if fresh.is_empty() {
            return Ok(Found::AsDeclared);
        }
        match how {
            How::Look => return Ok(Found::NewSecrets),
            How::CarryOut => {}
        }
        self.carry_out::<op::UpdateConnection, _>(row.tenant, row.name.as_str(), async |authorized| {
            self.put_connection(&authorized, None, None, None, fresh).await
        })
        .await?;
        Ok(Found::NewSecrets)
    }

    /// A key, made or adopted through its connection.
    ///
    /// # Errors
    /// What kept it from being made; a provider that is away among it.
    pub async fn declare_key(&self, declared: &DeclaredKey, how: How) -> Result<Found, Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        let connection = match self.store.connection_by_name(tenant, &declared.connection).await {
            Ok(row) => row,
            Err(StoreError::NotFound) => return Err(Failure::new(Code::NotFound, "The key's connection does not exist.")),
            Err(error) => return Err(error.into()),
        };
        match self.store.key_by_name(tenant, &declared.name).await {
            Ok(there) => {
                let differs = if there.managed_by.as_deref() != Some(MANAGED_BY) {
                    Some("managed_by: it was made over the API")
                } else if there.connection != connection.id {
                    Some("connection")
                } else if there.spec != declared.spec {
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
            How::Look => return Ok(Found::Missing),
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
        self.carry_out::<op::CreateKey, _>(tenant, declared.connection.as_str(), async |authorized| {
            self.create_key(authorized, new, Keep::nothing()).await
        })
        .await?;
        Ok(Found::Missing)
    }

    async fn declared_tenant(&self, name: &str) -> Result<TenantId, Failure> {
        match self.store.tenant_by_name(name).await {
            Ok(tenant) => Ok(tenant.id),
            Err(StoreError::NotFound) => {
                Err(Failure::new(Code::NotFound, "The tenant does not exist.")
                    .advice("Declare it with [[tenants]], or make it over the API."))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs one use case for the configuration, with a record of its own.
    async fn carry_out<O: Operation, T: Send>(
        &self,
        tenant: TenantId,
        named: impl Names<O::Object>,
        run: impl AsyncFnOnce(Authorized<O>) -> Result<Guarded<T>, Failure>,
    ) -> Result<(), Failure> {
        let cx = carrying_out::<O>(tenant);
        let result = match self.admit::<O>(&cx, named).await {
            Ok(authorized) => run(authorized).await,
            Err(failure) => Err(failure),
        };
        let render = |result: Result<T, &Failure>, _: Option<&audit::Receipt>| result.map(drop).map_err(Failure::clone);
        match self.conclude(&cx, result, &render).await {
            Ok(recorded) => recorded.into_value(),
            Err(unrecorded) => Err(unrecorded.failure().clone()),
        }
    }
}

/// One operation that the configuration asks for.
fn carrying_out<O: Operation>(tenant: TenantId) -> RequestContext {
    let now = Instant::now();
    let mut id = [0; 16];
    claviger_provider::fill_random(&mut id);
    let info = RequestInfo {
        request_id: hex::encode(id),
        client_request_id: None,
        justification: None,
        started: now,
        deadline: now + PATIENCE,
    };
    RequestContext::new(Arc::new(Caller::configuration(tenant)), O::ACTION, Arc::new(info))
}
