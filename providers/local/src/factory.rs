//! Connections to the embedded provider: all share one provider on one store.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{
    Call, Capabilities, ConnectionParts, Error, Factory, ParsedSettings, Provider, ProviderKind, SealedStore, SettingsError, SettingsOrigin,
};

use crate::provider::LocalProvider;
use crate::settings::{self, Settings};

/// Makes the embedded provider. There must be one factory per store, since the provider caches opened
/// keys.
pub struct LocalFactory(Arc<LocalProvider>);

impl LocalFactory {
    /// The embedded provider on this store, with this many opened key versions in memory at most.
    pub fn new(store: Arc<dyn SealedStore>, opened_versions: usize) -> Self {
        Self(Arc::new(LocalProvider::with_capacity(store, Settings {}, opened_versions)))
    }
}

#[async_trait]
impl Factory for LocalFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Local
    }

    fn capabilities(&self) -> Capabilities {
        Provider::capabilities(&*self.0)
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings)
    }

    async fn connect(&self, _: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::clone(&self.0) as Arc<dyn Call>)
    }
}
