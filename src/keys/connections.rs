//! Makes the pipeline of a connection from its row and its secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{
    BackgroundCalls, ConnectionParts, Error, ErrorKind, Factory, Pipeline, ProviderKind, SealedName, Secret, SeverSwitch,
};

use crate::store::model::{Connection, ConnectionSnapshot, Timeouts};

/// The prefix of the columns that hold a connection's secrets.
const SECRET: &str = "secret/";

/// The provider families that `boot` registered.
pub struct Factories {
    by_kind: BTreeMap<ProviderKind, Arc<dyn Factory>>,
    pipeline: PipelineConfig,
    /// Records the connections' calls that serve no request.
    background: Option<Arc<dyn BackgroundCalls>>,
}

impl Factories {
    /// These families, with one pipeline configuration for all of them.
    pub fn new(factories: Vec<Arc<dyn Factory>>, pipeline: PipelineConfig) -> Self {
        Self {
            by_kind: factories.into_iter().map(|factory| (factory.kind(), factory)).collect(),
            pipeline,
            background: None,
        }
    }

    /// Reports calls of all connections that serve no request to this observer.
    #[must_use]
    pub fn observed_by(mut self, background: Arc<dyn BackgroundCalls>) -> Self {
        self.background = Some(background);
        self
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
        let factory = self
            .get(connection.provider)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this build has no such provider").provider(connection.provider))?;
        let parts = ConnectionParts {
            tenant: connection.tenant,
            connection: connection.id,
            external_id: &connection.external_id,
            settings: &connection.settings,
            secrets: secrets(stored, replaced),
            background: self.background.clone(),
            switch: switch.clone(),
        };
        let provider = factory.connect(parts).await?;
        let config = PipelineConfig {
            // One that the operator declares may have the operator's identity, which is not told to tenants.
            owner_reads_messages: connection.managed_by.is_none(),
            ..self.limits(connection.timeouts)
        };
        Ok(Pipeline::new(provider, &config, switch))
    }

    /// The installation's limits, with the connection's own timeouts where it sets them.
    fn limits(&self, timeouts: Timeouts) -> PipelineConfig {
        let own = timeouts.attempt_ms.map(|millis| Duration::from_millis(millis.into()));
        PipelineConfig {
            attempt_timeout: own.unwrap_or(self.pipeline.attempt_timeout),
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
