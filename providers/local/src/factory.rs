//! Connections of the embedded provider: all of them are one provider on one store.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{
    Call, Capabilities, ConnectionParts, Error, Factory, ParsedSettings, Provider, ProviderKind, SealedStore, SettingsError, SettingsOrigin,
};

use crate::{LocalProvider, Settings};

/// Makes the embedded provider. One value for each store, since it keeps opened keys.
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
        match serde_json::from_str::<Settings>(settings) {
            Ok(Settings {}) => Ok(ParsedSettings {
                public: "{}".to_owned(),
                secrets: Vec::new(),
            }),
            Err(_) => Err(vec![SettingsError {
                pointer: String::new(),
                expected: "an empty object: the embedded provider has no settings".to_owned(),
                operator_only: false,
            }]),
        }
    }

    async fn connect(&self, _: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::clone(&self.0) as Arc<dyn Call>)
    }
}
