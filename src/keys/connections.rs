//! Makes the pipeline of a connection from its row and its secrets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{
    BackgroundCalls, Call, Capabilities, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, HealthReport, LoginReport, Pipeline,
    ProviderKind, SealedName, Secret, SecretFiles, SeverSwitch, Shares, TenantId,
};
use parking_lot::Mutex;

use super::unusable::{Reason, Unusable};
use crate::store::model::{Connection, ConnectionSnapshot};

/// The prefix of the columns that hold a connection's secrets.
const SECRET: &str = "secret/";

/// The provider families that `boot` registered.
pub struct Factories {
    by_kind: BTreeMap<ProviderKind, Arc<dyn Factory>>,
    pipeline: PipelineConfig,
    /// Records the connections' calls that serve no request.
    background: Option<Arc<dyn BackgroundCalls>>,
    /// What each tenant's connections may take of the process.
    shares: Shares,
    /// The files with the secrets of declared connections.
    files: Mutex<HashMap<ConnectionId, Arc<dyn SecretFiles>>>,
}

impl Factories {
    /// These families, with one pipeline configuration for all of them.
    pub fn new(factories: Vec<Arc<dyn Factory>>, pipeline: PipelineConfig, shares: Shares) -> Self {
        Self {
            by_kind: factories.into_iter().map(|factory| (factory.kind(), factory)).collect(),
            pipeline,
            background: None,
            shares,
            files: Mutex::default(),
        }
    }

    /// Reports calls of all connections that serve no request to this observer.
    #[must_use]
    pub fn observed_by(mut self, background: Arc<dyn BackgroundCalls>) -> Self {
        self.background = Some(background);
        self
    }

    /// Lets a connection that the configuration declares read its secrets from these files at each login.
    /// Returns whether the files are others than before: a pipeline that was made before does not read them.
    pub fn read_secrets_from(&self, connection: ConnectionId, files: Option<Arc<dyn SecretFiles>>) -> bool {
        let mut all = self.files.lock();
        let paths = files.as_ref().map(|files| files.paths());
        let before = match files {
            Some(files) => all.insert(connection, files),
            None => all.remove(&connection),
        };
        before.map(|before| before.paths()) != paths
    }

    /// Notes whether a tenant is suspended. While it is, its connections begin no call that serves no request, apart from
    /// renewals of a credential that nothing could replace.
    pub fn note_suspended(&self, tenant: TenantId, suspended: bool) {
        self.shares.note_suspended(tenant, suspended);
    }

    /// Notes at the provider's family whether the operator declares this connection.
    pub fn note_declared(&self, connection: &Connection) {
        if let Some(factory) = self.get(connection.provider) {
            let declared = connection.managed_by.is_some();
            factory.declare(connection.id, declared.then_some(connection.settings.as_str()));
        }
    }

    /// Why a declared connection's secret files cannot be read or used now; `None` if they can, and for a connection
    /// without such files.
    pub async fn unusable_files(&self, connection: ConnectionId) -> Option<String> {
        let files = self.files.lock().get(&connection).cloned()?;
        let read = tokio::task::spawn_blocking(move || files.read().err());
        read.await.unwrap_or_else(|error| Some(error.to_string()))
    }

    /// The family of this kind, if this build has it.
    pub fn get(&self, kind: ProviderKind) -> Option<&Arc<dyn Factory>> {
        self.by_kind.get(&kind)
    }

    /// The families of this build.
    pub fn kinds(&self) -> impl Iterator<Item = ProviderKind> {
        self.by_kind.keys().copied()
    }

    /// The name under which a connection's secret is sealed.
    pub fn secret_name(connection: &Connection, secret: &str) -> SealedName {
        SealedName {
            tenant: connection.tenant,
            row: connection.id.to_string(),
            column: format!("{SECRET}{secret}"),
        }
    }

    /// Makes the pipeline of a connection, whose traffic `switch` stops: from the beginning, if the
    /// row is severed. Secrets in `replaced` are used in place of stored ones of the same names. No
    /// provider is called.
    pub(super) async fn connect(
        &self,
        stored: &ConnectionSnapshot,
        replaced: &[(SealedName, Secret)],
        switch: SeverSwitch,
    ) -> Result<Pipeline, Error> {
        let connection = &stored.connection;
        if connection.severed {
            switch.sever();
        }
        let (provider, login, health) = self.provider(stored, replaced, &switch).await?;
        let config = PipelineConfig {
            // One that the operator declares may have the operator's identity, which is not told to tenants.
            owner_reads_messages: connection.managed_by.is_none(),
            ..self.limits(connection)
        };
        Ok(Pipeline::new(provider, &config, switch).reported_by(login, health))
    }

    /// The pipeline of a connection that [`Factories::connect`] fails for: each call fails with this
    /// reason.
    pub(super) fn unusable(&self, connection: &Connection, reason: Reason, switch: SeverSwitch) -> Pipeline {
        let factory = self.get(connection.provider);
        let nothing = || Capabilities {
            keys: Vec::new(),
            create_key: false,
            set_state: false,
            schedule_deletion: false,
            import: false,
        };
        let provider = Unusable {
            kind: connection.provider,
            capabilities: factory.map_or_else(nothing, |factory| factory.capabilities()),
            reason,
        };
        Pipeline::new(Arc::new(provider), &self.limits(connection), switch)
    }

    /// Whether a provider can be made from new settings and secrets. No provider is called.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_out(&self, connection: &Connection, secrets: &[(SealedName, Secret)]) -> Result<(), Error> {
        let snapshot = ConnectionSnapshot {
            connection: connection.clone(),
            secrets: Vec::new(),
        };
        self.provider(&snapshot, secrets, &SeverSwitch::default()).await.map(drop)
    }

    async fn provider(
        &self,
        stored: &ConnectionSnapshot,
        replaced: &[(SealedName, Secret)],
        switch: &SeverSwitch,
    ) -> Result<(Arc<dyn Call>, LoginReport, HealthReport), Error> {
        let connection = &stored.connection;
        let factory = self
            .get(connection.provider)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this build has no such provider").provider(connection.provider))?;
        // A connection that is no longer declared has the secrets that it is given.
        let declared = connection.managed_by.as_ref();
        let login = LoginReport::new(connection.tenant, connection.id, connection.provider).declared(declared.is_some());
        let health = HealthReport::new(connection.tenant, connection.id, connection.provider);
        let files = declared.and_then(|_| self.files.lock().get(&connection.id).cloned());
        let parts = ConnectionParts {
            tenant: connection.tenant,
            connection: connection.id,
            external_id: &connection.external_id,
            settings: &connection.settings,
            secrets: secrets(stored, replaced),
            background: self.background.clone(),
            switch: switch.clone().with_share(self.shares.of(connection.tenant)),
            files,
            login: login.clone(),
            health: health.clone(),
        };
        Ok((factory.connect(parts).await?, login, health))
    }

    /// The installation's limits, with the connection's own timeouts where it sets them.
    fn limits(&self, connection: &Connection) -> PipelineConfig {
        let own = connection.timeouts.attempt_ms.map(|millis| Duration::from_millis(millis.into()));
        let attempt_timeout = own.unwrap_or(self.pipeline.attempt_timeout);
        PipelineConfig {
            attempt_timeout,
            creation_timeout: self.pipeline.creation_timeout.max(attempt_timeout),
            connection: Some(connection.id),
            ..self.pipeline.clone()
        }
    }
}

/// A connection's secrets by their short names: the replacing ones, then the stored ones that
/// none replaces.
fn secrets(stored: &ConnectionSnapshot, replaced: &[(SealedName, Secret)]) -> Vec<(String, Secret)> {
    let is_replaced = |column: &str| replaced.iter().any(|(name, _)| name.column == column);
    let replacing = replaced.iter().map(|(name, value)| (name.column.as_str(), value));
    let kept = stored.secrets.iter().map(|(column, value)| (column.as_str(), value));
    replacing
        .chain(kept.filter(|(column, _)| !is_replaced(column)))
        .filter_map(|(column, value)| Some((column.strip_prefix(SECRET)?.to_owned(), Secret::copy_from(value.expose()))))
        .collect()
}
