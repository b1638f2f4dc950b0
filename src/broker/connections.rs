//! Connections: create, change, delete and check them.

use std::sync::Arc;

use claviger_provider::kit::probe;
use claviger_provider::{
    Capabilities, ClaimSpan, ConnectionId, Error, ErrorKind, Factory, Kek, ParsedSettings, Pipeline, SealedName, Secret, SettingsError,
    SettingsOrigin, fill_random,
};

use super::check_report::CheckReport;
use super::sever::completed;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, RequestContext, op};
use crate::audit::{self, Object, Verb};
use crate::keys::{ConnectionEntry, Factories, LoadError};
use crate::store::StoreError;
use crate::store::model::{Connection, ConnectionPatch, ConnectionSnapshot, Key, KeyFilter, Labels, NetworkPatch, Page, Timeouts};

/// The most keys that a check tries, in the order of their names.
const PROBED_KEYS: u32 = 16;

/// The most versions whose keys a printed policy names.
const NAMED_VERSIONS: u32 = 512;

/// A connection to be created.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// Unique in the tenant.
    pub name: String,
    /// The provider's settings: JSON, secrets included.
    pub settings: Arc<Secret>,
    /// Labels.
    pub labels: Labels,
    /// Whether the operator's configuration declares it.
    pub declared: bool,
    /// Timeouts of the connection.
    pub timeouts: Timeouts,
}

/// What a connection's PATCH asks for; `None` stays as it is.
#[derive(Debug, Default)]
pub struct ConnectionChange {
    /// New labels, all of them.
    pub labels: Option<Labels>,
    /// New timeouts, all of them.
    pub timeouts: Option<Timeouts>,
    /// New secrets as a JSON object: the secret members of the form in the settings' `auth`.
    pub secrets: Option<Secret>,
    /// New network settings as a JSON object: some of `ca`, `proxy` and `address`; null removes one.
    pub network: Option<Secret>,
}

/// A change of a connection that was validated: what is stored of it.
#[derive(Default)]
pub(super) struct ConnectionPut {
    /// The revision that must be the row's, `None` for any.
    pub(super) expected: Option<u64>,
    pub(super) labels: Option<Labels>,
    pub(super) timeouts: Option<Timeouts>,
    /// New secrets, by the names under which they are stored.
    pub(super) replaced: Vec<(SealedName, Secret)>,
    /// Within which span its provider keys are claimed from now on.
    pub(super) claims: Option<ClaimSpan>,
    /// New network settings, and the pipeline with all of this that they were tried with.
    pub(super) network: Option<(NetworkPatch, Pipeline)>,
}

/// The value of `managed_by` for what the operator's configuration declares.
pub(super) const MANAGED_BY: &str = "config";

/// Refuses to change what the configuration declares, since it would differ from the configuration
/// then. To disable or sever it is allowed.
pub(super) fn not_declared(managed_by: Option<&String>) -> Result<(), Failure> {
    match managed_by {
        None => Ok(()),
        Some(_) => Err(Failure::new(Code::ManagedByConfig, "The operator's configuration declares it.")
            .advice("Change it in the configuration. To stop its use now, disable or sever it here.")),
    }
}

/// Parses a connection's settings with its provider's own parser.
pub(super) fn parse(factory: &dyn Factory, settings: &Secret, origin: SettingsOrigin) -> Result<ParsedSettings, Failure> {
    factory
        .parse(text(settings, "/settings")?, origin)
        .map_err(|errors| unusable("/settings", errors))
}

impl Broker {
    /// Creates a connection. The provider is not called; use check for that.
    ///
    /// # Errors
    /// `invalid_request` and `operator_only_setting` with every setting that cannot be
    /// used, `unsupported` for a provider that this build lacks, `already_exists`.
    pub async fn create_connection(
        &self,
        authorized: Authorized<op::CreateConnection>,
        new: NewConnection,
        keep: Keep<Connection>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, provider) = (authorized.cx(), authorized.object().provider);
        let factory = self.directory().factories().get(provider).ok_or_else(|| {
            Failure::new(Code::Unsupported, "This gateway was built without that provider.")
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
        let claims = factory.claims(&parsed.public, origin);
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
            claims,
            severed: false,
            epoch: 1,
            lifts: 0,
            managed_by: new.declared.then(|| MANAGED_BY.to_owned()),
            external_id: hex::encode(external_id),
            revision: 1,
            created: now,
            updated: now,
        };
        authorized.creates(row.id);
        let sealed: Vec<_> = parsed
            .secrets
            .into_iter()
            .map(|(name, value)| (Factories::secret_name(&row, &name), value))
            .collect();
        let tried = self.directory().factories().try_out(&row, &sealed).await;
        tried.map_err(|error| wrong_setting("/settings", error))?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Connection, &row.id))
            .await?;
        let kept = keep.row(Completion::Created, &row, Some(row.revision))?;
        self.store.create_connection(&row, sealed, &change.keeping(kept)).await?;
        Ok(Guarded::free(completed(Completion::Created, row)))
    }

    /// Changes a connection's labels, timeouts, secrets and network settings. `expected` is
    /// the revision that the caller saw, `None` for any. Only for other network settings the provider is
    /// called ([`Broker::change_network`]): a check shows whether it accepts new secrets. Later calls use
    /// them; calls under way and cached data keys stay valid.
    ///
    /// # Errors
    /// `invalid_request` with every secret or setting that cannot be used, `precondition_failed`, and those of
    /// [`Broker::change_network`].
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
        let network = match &change.network {
            None => None,
            Some(given) => Some(self.changed_settings(&now, given)?).filter(|settings| *settings != now.settings),
        };
        // With secrets of the tenant's alone, the identity is the operator's no more.
        let own = match self.replaces_all(&now, &replaced).await? {
            true => Some(self.family(now.provider)?.claims(&now.settings, SettingsOrigin::Tenant)),
            false => None,
        };
        let put = ConnectionPut {
            expected,
            labels: change.labels,
            timeouts: change.timeouts,
            replaced,
            claims: own,
            network: None,
        };
        match network {
            None => self.put_connection(&authorized, put).await,
            Some(settings) => Box::pin(self.change_network(&authorized, &now, settings, put)).await,
        }
    }

    /// Announces, commits and applies a change that was validated before.
    pub(super) async fn put_connection(
        &self,
        authorized: &Authorized<op::UpdateConnection>,
        put: ConnectionPut,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let ConnectionPut {
            expected,
            labels,
            timeouts,
            replaced,
            claims,
            network,
        } = put;
        let (cx, connection) = (authorized.cx(), authorized.object());
        let announced = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Connection, &connection.id()))
            .await?;
        let _one_at_a_time = connection.change().lock().await;
        let now = connection.view();
        let (network, tried) = network.unzip();
        let patch = ConnectionPatch {
            expected_revision: expected.unwrap_or(now.revision),
            labels,
            timeouts,
            network,
            claims,
            at: self.now(),
        };
        // Make the pipeline before the commit, so that settings that no provider can be made from
        // are not stored.
        let pipeline = if tried.is_some() {
            tried
        } else if timeouts.is_some() || !replaced.is_empty() {
            let mut changed = Connection::clone(&now);
            changed.timeouts = timeouts.unwrap_or(now.timeouts);
            let made = self.directory().connect_anew(&changed, &replaced, connection.switch()).await;
            Some(made.map_err(|error| match error {
                LoadError::Provider(error) => wrong_setting("/secrets", error),
                error => error.into(),
            })?)
        } else {
            None
        };
        let updated = self
            .store
            .update_connection(connection.tenant(), connection.id(), &patch, replaced, &announced)
            .await;
        let row = updated.map_err(|error| self.refused_claim(&now, error))?;
        match pipeline {
            Some(pipeline) => connection.put_with(row.clone(), pipeline),
            None => connection.put(row.clone()),
        }
        Ok(Guarded::free(completed(Completion::Done, row)))
    }

    /// The secrets that replace stored ones, by the names under which they are stored.
    fn new_secrets(&self, connection: &Connection, given: &Secret) -> Result<Vec<(SealedName, Secret)>, Failure> {
        let factory = self
            .directory()
            .factories()
            .get(connection.provider)
            .ok_or_else(|| Failure::new(Code::Unsupported, "This gateway was built without that provider."))?;
        let replaced = factory
            .replace_secrets(&connection.settings, text(given, "/secrets")?)
            .map_err(|errors| unusable("/secrets", errors))?;
        Ok(replaced
            .into_iter()
            .map(|(name, value)| (Factories::secret_name(connection, &name), value))
            .collect())
    }

    /// Deletes a connection that no key uses. If it is severed, the detached keys that were reached
    /// through it come back disabled.
    ///
    /// # Errors
    /// `in_use`.
    pub async fn delete_connection(&self, authorized: Authorized<op::DeleteConnection>) -> Result<Guarded<()>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        not_declared(connection.view().managed_by.as_ref())?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Delete, Object::Connection, &connection.id()))
            .await?;
        let _one_at_a_time = connection.change().lock().await;
        self.store_sever(connection).await?;
        self.store.delete_connection(connection.tenant(), connection.id(), &change).await?;
        self.directory().forget_connection(connection.id());
        Ok(Guarded::free(()))
    }

    /// Tries a connection's rights without changing any key at the provider. A provider's failure is part of the
    /// report. Takes over what became of keys of the connection there, and makes canaries that they lack.
    ///
    /// # Errors
    /// `connection_severed`, also when a sever arrived during the check, and what the store fails with.
    pub async fn check_connection(&self, authorized: Authorized<op::CheckConnection>) -> Result<Guarded<CheckReport>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let before = connection.view();
        if before.severed {
            return Err(Failure::new(Code::ConnectionSevered, "The connection is severed.").advice("Restore the connection."));
        }
        let keys = self.keys_to_probe(connection).await?;
        let pipeline = connection.pipeline();
        let mut report = self.probe(cx, &before, &pipeline, &keys).await?;
        let is_operator = cx.caller().is_operator();
        if before.managed_by.is_some() {
            let read = Box::pin(self.directory().factories().unusable_files(connection.id()));
            report.note_files(self.unusable_secret_file(&before).or(read.await), is_operator);
        }
        report.note_login(pipeline.login(), is_operator);
        report.policy = self.policy_of_keys(&before).await?.or(report.policy);
        if before.managed_by.is_none() && keys.is_empty() && self.store.canaries(before.tenant, before.id, 1).await?.is_empty() {
            report.note_unused();
        }
        if report.problem.is_none() {
            if connection.may_look() {
                // Boxed: the calls of some providers' clients need most of a thread's stack in a debug build.
                Box::pin(self.look_at_checked(cx, connection.id(), &keys)).await;
            }
            for key in &keys {
                let entry = self.directory().key(key.tenant, key.id).await?;
                if let Some(view) = entry.and_then(|entry| entry.view().ok()) {
                    report.note_versions(&view, connection.id());
                }
            }
            Box::pin(self.keep_missing_canaries(cx, &before, PROBED_KEYS as usize)).await?;
        }
        // Also if it was restored since: what the provider said came through a severed connection.
        if connection.view().epoch != before.epoch {
            return Err(Failure::new(
                Code::ConnectionSevered,
                "The connection was severed during the check, so nothing was returned.",
            ));
        }
        Ok(Guarded::free(report))
    }

    /// The keys that a check tries: the first ones of the connection.
    pub(super) async fn keys_to_probe(&self, connection: &ConnectionEntry) -> Result<Vec<Key>, Failure> {
        let filter = KeyFilter {
            connection: Some(connection.id()),
            ..KeyFilter::default()
        };
        let page = Page {
            after: None,
            size: PROBED_KEYS,
        };
        Ok(self.store.keys(connection.tenant(), &filter, &page).await?.items)
    }

    /// Tries the rights of a connection, whose row this is, through a pipeline. A provider's failure is part of the
    /// report.
    ///
    /// # Errors
    /// `connection_severed` when a sever closed the pipeline's switch, and what the store fails with.
    pub(super) async fn probe(
        &self,
        cx: &RequestContext,
        row: &Connection,
        pipeline: &Pipeline,
        keys: &[Key],
    ) -> Result<CheckReport, Failure> {
        let mut keks: Vec<Kek> = Vec::new();
        for key in keys {
            // A probe wraps random bytes. Under a version that may not wrap any more, it does not.
            let declared = pipeline.capabilities().of(key.primary.spec);
            // It names what a wrap names: the version here may not be the provider's current one any more.
            let chooses_version = declared.is_some_and(|can| can.chooses_version);
            if declared.is_some_and(|can| can.random_nonce_bound)
                && let Some(entry) = self.directory().key(key.tenant, key.id).await?
                && let Err(failure) = self.count_wrap(cx.info().deadline, &entry, key.primary.number).await
            {
                match failure.code {
                    Code::KeyState => continue,
                    _ => return Err(failure),
                }
            }
            keks.push(match chooses_version {
                true => key.primary.whole_kek(key.id),
                false => key.primary.kek(key.id),
            });
        }
        let checking = cx.op_context().checking();
        // The identity of a declared connection may be the operator's: only operators read what the provider says
        // to it.
        let checking = match row.managed_by.is_none() || cx.caller().is_operator() {
            true => checking,
            false => checking.without_quotations(),
        };
        let checking = match cx.caller().is_operator() {
            true => checking.reading_causes(),
            false => checking,
        };
        match pipeline.probe(&checking, &keks).await {
            Ok(probe) => Ok(CheckReport::of(probe)),
            // Severed meanwhile: that says nothing of the provider.
            Err(error) if error.kind == ErrorKind::Severed => Err(error.into()),
            Err(error) => Ok(CheckReport::unusable(&probe::shown(&checking, error))),
        }
    }

    /// The policy of a provider that grants rights key by key: for every version that is reached through the connection,
    /// because data keys of old ones are unwrapped, too.
    async fn policy_of_keys(&self, connection: &Connection) -> Result<Option<String>, Failure> {
        let Some(factory) = self.directory().factories().get(connection.provider) else {
            return Ok(None);
        };
        // Most providers' policies name no keys.
        if factory
            .policy_of_keys(&connection.settings, connection.tenant, &[], false)
            .is_none()
        {
            return Ok(None);
        }
        let found = self.store.canaries(connection.tenant, connection.id, NAMED_VERSIONS + 1).await?;
        let partial = found.len() > NAMED_VERSIONS as usize;
        let named = found.into_iter().take(NAMED_VERSIONS as usize);
        let keys: Vec<_> = named.map(|found| (found.version.provider_key, found.key)).collect();
        Ok(factory.policy_of_keys(&connection.settings, connection.tenant, &keys, partial))
    }

    /// The operations that the connection's provider supports.
    pub fn capabilities(&self, authorized: &Authorized<op::ReadConnection>) -> Guarded<Capabilities> {
        Guarded::free(authorized.object().pipeline().capabilities().clone())
    }
}

/// The failure for settings that no provider can be made from: a mistake of the request, not of a
/// connection.
pub(super) fn wrong_setting(pointer: &str, error: Error) -> Failure {
    let advice = error.advice;
    let failure = Failure::from(error);
    match failure.code {
        Code::ConnectionMisconfigured => Failure {
            code: Code::InvalidRequest,
            detail: "No connection can be made with these settings.".into(),
            // No check says more of what is not stored.
            advice,
            ..failure
        }
        .at(pointer, "settings that the gateway can use"),
        _ => failure,
    }
}

/// The names of a connection's stored secrets.
pub(super) fn secret_names(stored: &ConnectionSnapshot) -> Vec<String> {
    stored.secrets.iter().map(|(name, _)| name.clone()).collect()
}

pub(super) fn text<'s>(settings: &'s Secret, pointer: &str) -> Result<&'s str, Failure> {
    std::str::from_utf8(settings.expose()).map_err(|_| Failure::invalid(pointer, "an object"))
}

/// Every setting that cannot be used, at its place below `pointer`.
pub(super) fn unusable(pointer: &str, errors: Vec<SettingsError>) -> Failure {
    let code = if errors.iter().any(|error| error.operator_only) {
        Code::OperatorOnlySetting
    } else {
        Code::InvalidRequest
    };
    let mut failure = Failure::new(code, "The connection's settings are invalid.");
    for error in errors {
        failure = failure.at(format!("{pointer}{}", error.pointer), error.expected);
    }
    failure
}
