//! From a connection's row to the pipeline that reaches its provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{BackgroundCalls, ConnectionParts, Error, ErrorKind, Factory, Pipeline, ProviderKind, SealedName, Secret};

use super::LoadError;
use crate::store::Store;
use crate::store::model::{Connection, Timeouts};

/// What columns of secrets begin with.
const SECRET: &str = "secret/";

/// The provider families that `boot` registered.
pub struct Factories {
    by_kind: BTreeMap<ProviderKind, Arc<dyn Factory>>,
    pipeline: PipelineConfig,
    /// Records the connections' calls that serve no request.
    background: Option<Arc<dyn BackgroundCalls>>,
}

impl Factories {
    /// With these families and this pipeline configuration for all of them.
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

    /// The family, if this build has it.
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

    /// The way to a connection's provider. `replaced` stands in for kept secrets of the same
    /// names. Nothing is reached.
    pub(super) async fn connect(
        &self,
        store: &dyn Store,
        connection: &Connection,
        replaced: &[(SealedName, Secret)],
    ) -> Result<Pipeline, LoadError> {
        let factory = self
            .get(connection.provider)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this build has no such provider").provider(connection.provider))?;
        let parts = ConnectionParts {
            tenant: connection.tenant,
            connection: connection.id,
            external_id: &connection.external_id,
            settings: &connection.settings,
            secrets: secrets(store, connection, replaced).await?,
            background: self.background.clone(),
        };
        let provider = factory.connect(parts).await?;
        Ok(Pipeline::new(provider, &self.limits(connection.timeouts)))
    }

    /// The installation's limits, with a connection's own times.
    fn limits(&self, timeouts: Timeouts) -> PipelineConfig {
        let own = timeouts.attempt_ms.map(|millis| Duration::from_millis(millis.into()));
        PipelineConfig {
            attempt_timeout: own.unwrap_or(self.pipeline.attempt_timeout),
            ..self.pipeline.clone()
        }
    }
}

/// A connection's secrets: the kept ones, but for those that are replaced.
async fn secrets(
    store: &dyn Store,
    connection: &Connection,
    replaced: &[(SealedName, Secret)],
) -> Result<Vec<(String, Secret)>, LoadError> {
    let row = connection.id.to_string();
    let short = |name: &SealedName| name.column.strip_prefix(SECRET).map(str::to_owned);
    let mut secrets: Vec<(String, Secret)> = replaced
        .iter()
        .filter_map(|(name, value)| Some((short(name)?, Secret::copy_from(value.expose()))))
        .collect();
    for column in store.columns(connection.tenant, &row).await? {
        let name = SealedName {
            tenant: connection.tenant,
            row: row.clone(),
            column,
        };
        let is_replaced = replaced.iter().any(|(new, _)| *new == name);
        if !is_replaced && let (Some(short), Some(value)) = (short(&name), store.get(&name).await?) {
            secrets.push((short, value));
        }
    }
    Ok(secrets)
}
