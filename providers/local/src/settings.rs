//! The settings of a connection: there are none.

use claviger_provider::kit::settings::{self, Secrets};
use claviger_provider::{ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};

/// The settings of a connection to the embedded provider. It has none, and any is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

/// Parses the settings of a new connection.
///
/// # Errors
/// One mistake for all that is not an empty object.
pub(crate) fn parse(text: &str) -> Result<ParsedSettings, Vec<SettingsError>> {
    let expected = "an empty object: the embedded provider has no settings";
    match serde_json::from_str::<Settings>(text) {
        Ok(Settings {}) => settings::parse(text, expected, |_| Some((Settings {}, Secrets::new()))),
        Err(_) => Err(settings::whole(expected)),
    }
}
