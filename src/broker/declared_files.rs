//! The files that a declared connection's settings name: its secrets are read from them at each login.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_provider::{Factory, Secret, SecretFiles, SettingsOrigin};

use super::network::differing;
use crate::config::declared::Settings;

/// The files of one declared connection.
pub(super) struct DeclaredFiles {
    settings: Settings,
    factory: Arc<dyn Factory>,
    /// The connection's public settings, which a file cannot change.
    public: String,
}

impl DeclaredFiles {
    /// `None` for settings that name no file.
    pub(super) fn of(settings: &Settings, factory: &Arc<dyn Factory>, public: &str) -> Option<Arc<dyn SecretFiles>> {
        if settings.files().is_empty() {
            return None;
        }
        Some(Arc::new(Self {
            settings: settings.clone(),
            factory: Arc::clone(factory),
            public: public.to_owned(),
        }))
    }
}

impl SecretFiles for DeclaredFiles {
    fn paths(&self) -> Vec<PathBuf> {
        self.settings.files().into_iter().map(|(_, path)| path).collect()
    }

    fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let resolved = self.settings.resolve().map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(resolved.expose()).map_err(|_| "a file contains no UTF-8 text".to_owned())?;
        let parsed = self.factory.parse(text, SettingsOrigin::Operator).map_err(|errors| {
            let places: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
            format!("the settings with the contents of their files are invalid at {}", places.join(", "))
        })?;
        // Other network settings, such as those of a `ca` in a file, wait for an apply or the next start.
        if differing(self.factory.as_ref(), &self.public, &parsed.public).is_none() {
            return Err("a file changes settings that are no secrets: they cannot change; create another connection".to_owned());
        }
        Ok(parsed.secrets)
    }
}
