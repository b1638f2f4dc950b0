//! Connections: make, change, delete and check the ways to providers.

use std::sync::Arc;

use claviger_provider::{
    Capabilities, ConnectionId, Factory, Kek, ParsedSettings, SealedName, Secret, SettingsError, SettingsOrigin, fill_random,
};

use super::sever::completed;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, Object, Verb};
use crate::keys::Factories;
use crate::store::StoreError;
use crate::store::model::{Connection, ConnectionPatch, Key, KeyFilter, Labels, Page, Timeouts};

/// How many of a connection's keys a check looks at, by name.
const PROBED_KEYS: u32 = 16;

/// What a new connection is to be.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// Unique in the tenant.
    pub name: String,
    /// Its settings, JSON, secrets included.
    pub settings: Arc<Secret>,
    /// Labels.
    pub labels: Labels,
    /// Whether the operator's configuration declares it.
    pub declared: bool,
    /// Its own times.
    pub timeouts: Timeouts,
}

/// What a connection's PATCH asks for; `None` stays as it is.
#[derive(Debug, Default)]
pub struct ConnectionChange {
    /// New labels, all of them.
    pub labels: Option<Labels>,
    /// New times, all of them.
    pub timeouts: Option<Timeouts>,
    /// New secrets, JSON as in the settings.
    pub secrets: Option<Secret>,
}

/// The word for what the operator's configuration declares.
pub(super) const MANAGED_BY: &str = "config";

/// Refuses to change over the API what the configuration declares: the next start would find
/// something else than what stands there. Cutting it off is no such change.
pub(super) fn not_declared(managed_by: Option<&String>) -> Result<(), Failure> {
    match managed_by {
        None => Ok(()),
        Some(_) => Err(Failure::new(Code::ManagedByConfig, "The operator's configuration declares it.")
            .advice("Change it there; or disable or sever it here, which needs no change.")),
    }
}

/// A connection's settings, read by its family.
pub(super) fn parse(factory: &dyn Factory, settings: &Secret, origin: SettingsOrigin) -> Result<ParsedSettings, Failure> {
    factory
        .parse(text(settings, "/settings")?, origin)
        .map_err(|errors| unusable("/settings", errors))
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Whether the provider answered.
    pub reachable: bool,
    /// What answered, or why nothing did, in our words.
    pub detail: String,
    /// Each right, and how it was tried.
    pub rights: Vec<claviger_provider::RightReport>,
    /// The least-privilege policy to paste at the provider, where there is such a thing.
    pub policy: Option<String>,
    /// What can be done where nothing answered as it should.
    pub advice: Option<&'static str>,
}

impl Broker {
    /// Makes a connection. Nothing is reached: that is what check is for.
    ///
    /// # Errors
    /// `invalid_request` and `operator_only_setting` with every setting that cannot be
    /// used, `unsupported` for a family that this build lacks, `already_exists`.
    pub async fn create_connection(
        &self,
        authorized: Authorized<op::CreateConnection>,
        new: NewConnection,
        keep: Keep<Connection>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, provider) = (authorized.cx(), authorized.object().provider);
        let factory = self.directory().factories().get(provider).ok_or_else(|| {
            Failure::new(Code::Unsupported, "This gateway has no such provider.")
                .at("/provider", "a provider that this gateway was built with")
        })?;
        let origin = if new.declared {
            SettingsOrigin::Operator
        } else {
            SettingsOrigin::Tenant
        };
        let parsed = parse(factory.as_ref(), &new.settings, origin)?;
        match self.store.connection_by_name(cx.tenant(), &new.name).await {
            Ok(_) => return Err(StoreError::AlreadyExists.into()),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let now = self.now();
        let mut external_id = [0; 16];
        fill_random(&mut external_id);
        let row = Connection {
            id: ConnectionId::random(),
            tenant: cx.tenant(),
            name: new.name,
            provider,
            settings: parsed.public,
            labels: new.labels,
            timeouts: new.timeouts,
            severed: false,
            epoch: 1,
            managed_by: new.declared.then(|| MANAGED_BY.to_owned()),
            external_id: hex::encode(external_id),
            revision: 1,
            created: now,
            updated: now,
        };
        authorized.creates(row.id);
        let sealed = parsed
            .secrets
            .into_iter()
            .map(|(name, value)| (Factories::secret_name(&row, &name), value))
            .collect();
        let change = self
            .announce(cx, audit::Change::new(Verb::Create, Object::Connection, &row.id))
            .await?;
        let kept = keep.row(Completion::Created, &row, Some(row.revision))?;
        self.store.create_connection(&row, sealed, &change.keeping(kept)).await?;
        Ok(Guarded::free(completed(Completion::Created, row)))
    }

    /// Changes a connection's labels, times and secrets, but never where it leads. `expected`
    /// is the revision the caller saw, `None` for any. Nothing is reached: whether the
    /// provider takes new secrets is a check's to say. From then on calls use them; answers
    /// that are under way and data keys in the cache stay good.
    ///
    /// # Errors
    /// `invalid_request` with every secret that cannot be used, `precondition_failed`.
    pub async fn update_connection(
        &self,
        authorized: Authorized<op::UpdateConnection>,
        expected: Option<u64>,
        change: ConnectionChange,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let connection = authorized.object();
        let now = connection.view();
        not_declared(now.managed_by.as_ref())?;
        if expected.is_some_and(|expected| expected != now.revision) {
            return Err(StoreError::Precondition.into());
        }
        let replaced = match &change.secrets {
            None => Vec::new(),
            Some(given) => self.new_secrets(&now, given)?,
        };
        self.put_connection(&authorized, expected, change.labels, change.timeouts, replaced)
            .await
    }

    /// Announces, commits and puts in force what was judged before.
    pub(super) async fn put_connection(
        &self,
        authorized: &Authorized<op::UpdateConnection>,
        expected: Option<u64>,
        labels: Option<Labels>,
        timeouts: Option<Timeouts>,
        replaced: Vec<(SealedName, Secret)>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let announced = self
            .announce(cx, audit::Change::new(Verb::Update, Object::Connection, &connection.id()))
            .await?;
        let _one_at_a_time = connection.change().lock().await;
        let now = connection.view();
        let patch = ConnectionPatch {
            expected_revision: expected.unwrap_or(now.revision),
            labels,
            timeouts,
            at: self.now(),
        };
        // Made before the commit: what no provider can be made from is not kept.
        let pipeline = if timeouts.is_some() || !replaced.is_empty() {
            let mut changed = Connection::clone(&now);
            changed.timeouts = timeouts.unwrap_or(now.timeouts);
            Some(self.directory().connect_anew(&changed, &replaced).await?)
        } else {
            None
        };
        let row = self
            .store
            .update_connection(connection.tenant(), connection.id(), &patch, replaced, &announced)
            .await?;
        match pipeline {
            Some(pipeline) => connection.put_with(row.clone(), pipeline),
            None => connection.put(row.clone()),
        }
        Ok(Guarded::free(completed(Completion::Done, row)))
    }

    /// The secrets that take the place of kept ones, under the names that they are sealed by.
    fn new_secrets(&self, connection: &Connection, given: &Secret) -> Result<Vec<(SealedName, Secret)>, Failure> {
        let factory = self
            .directory()
            .factories()
            .get(connection.provider)
            .ok_or_else(|| Failure::new(Code::Unsupported, "This gateway has no such provider."))?;
        let replaced = factory
            .replace_secrets(&connection.settings, text(given, "/secrets")?)
            .map_err(|errors| unusable("/secrets", errors))?;
        Ok(replaced
            .into_iter()
            .map(|(name, value)| (Factories::secret_name(connection, &name), value))
            .collect())
    }

    /// Deletes a connection that no key uses.
    ///
    /// # Errors
    /// `in_use`.
    pub async fn delete_connection(&self, authorized: Authorized<op::DeleteConnection>) -> Result<Guarded<()>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        not_declared(connection.view().managed_by.as_ref())?;
        let change = self
            .announce(cx, audit::Change::new(Verb::Delete, Object::Connection, &connection.id()))
            .await?;
        let _one_at_a_time = connection.change().lock().await;
        self.store.delete_connection(connection.tenant(), connection.id(), &change).await?;
        self.directory().forget_connection(connection.id());
        Ok(Guarded::free(()))
    }

    /// Tries a connection's rights without changing any key.
    ///
    /// # Errors
    /// Only a fault of ours: what the provider says is the report.
    pub async fn check_connection(&self, authorized: Authorized<op::CheckConnection>) -> Result<Guarded<CheckReport>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        if connection.view().severed {
            return Err(Failure::new(Code::ConnectionSevered, "The connection is severed.").advice("Restore the connection."));
        }
        let filter = KeyFilter {
            connection: Some(connection.id()),
            ..KeyFilter::default()
        };
        let page = Page {
            after: None,
            size: PROBED_KEYS,
        };
        let keys = self.store.keys(cx.tenant(), &filter, &page).await?;
        let keks: Vec<Kek> = keys.iter().map(Key::kek).collect();
        let report = match connection.pipeline().probe(&cx.op_context(), &keks).await {
            Ok(probe) => CheckReport {
                reachable: true,
                detail: probe.detail,
                rights: probe.rights,
                policy: probe.policy,
                advice: None,
            },
            Err(error) => {
                let failure = Failure::from(error);
                CheckReport {
                    reachable: false,
                    detail: failure.detail.into_owned(),
                    rights: Vec::new(),
                    policy: None,
                    advice: failure.advice,
                }
            }
        };
        Ok(Guarded::free(report))
    }

    /// What a connection's provider can do.
    pub fn capabilities(&self, authorized: &Authorized<op::ReadConnection>) -> Guarded<Capabilities> {
        Guarded::free(authorized.object().pipeline().capabilities().clone())
    }
}

fn text<'s>(settings: &'s Secret, pointer: &str) -> Result<&'s str, Failure> {
    std::str::from_utf8(settings.expose()).map_err(|_| Failure::invalid(pointer, "an object"))
}

/// Every setting that cannot be used, at its place below `pointer`.
fn unusable(pointer: &str, errors: Vec<SettingsError>) -> Failure {
    let code = if errors.iter().any(|error| error.operator_only) {
        Code::OperatorOnlySetting
    } else {
        Code::InvalidRequest
    };
    let mut failure = Failure::new(code, "The connection's settings cannot be used as they are.");
    for error in errors {
        failure = failure.at(format!("{pointer}{}", error.pointer), error.expected);
    }
    failure
}
