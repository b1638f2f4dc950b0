//! From a connection's row to the pipeline that reaches its provider.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{ConnectionParts, Error, ErrorKind, Factory, Pipeline, ProviderKind, SealedName, Secret};

use super::LoadError;
use crate::store::Store;
use crate::store::model::Connection;

/// The provider families that `boot` registered.
pub struct Factories {
    by_kind: BTreeMap<ProviderKind, Arc<dyn Factory>>,
    pipeline: PipelineConfig,
}

impl Factories {
    /// With these families and this pipeline configuration for all of them.
    pub fn new(factories: Vec<Arc<dyn Factory>>, pipeline: PipelineConfig) -> Self {
        Self {
            by_kind: factories.into_iter().map(|factory| (factory.kind(), factory)).collect(),
            pipeline,
        }
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
            column: format!("secret/{secret}"),
        }
    }

    pub(super) async fn connect(&self, store: &dyn Store, connection: &Connection) -> Result<Pipeline, LoadError> {
        let factory = self
            .get(connection.provider)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this build has no such provider").provider(connection.provider))?;
        let row = connection.id.to_string();
        let mut secrets: Vec<(String, Secret)> = Vec::new();
        for column in store.columns(connection.tenant, &row).await? {
            let name = SealedName {
                tenant: connection.tenant,
                row: row.clone(),
                column,
            };
            if let (Some(short), Some(value)) = (name.column.strip_prefix("secret/").map(str::to_owned), store.get(&name).await?) {
                secrets.push((short, value));
            }
        }
        let parts = ConnectionParts {
            tenant: connection.tenant,
            connection: connection.id,
            external_id: &connection.external_id,
            settings: &connection.settings,
            secrets,
        };
        let provider = factory.connect(parts).await?;
        Ok(Pipeline::new(provider, &self.pipeline))
    }
}
