//! The frame of parsing a connection's settings: JSON text in, all mistakes at once out.

use serde::Serialize;
use serde_json::Value;

use crate::factory::{ParsedSettings, SettingsError};
use crate::{Fields, Secret};

/// The secrets of a connection by name.
pub type Secrets = Vec<(String, Secret)>;

/// Parses the settings of a new connection. `read` takes every member that there may be and
/// returns what is stored in the clear, and the secrets; `expected` describes the whole object.
///
/// # Errors
/// Every mistake, with its place.
pub fn parse<S: Serialize>(
    text: &str,
    expected: &str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<(S, Secrets)>,
) -> Result<ParsedSettings, Vec<SettingsError>> {
    let (settings, secrets) = object(text, expected, read)?;
    let public = serde_json::to_string(&settings).map_err(|_| whole(expected))?;
    Ok(ParsedSettings { public, secrets })
}

/// Parses new secrets for a connection. `read` takes every member that there may be.
///
/// # Errors
/// Every mistake, with its place.
pub fn parse_secrets(
    text: &str,
    expected: &str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<Secrets>,
) -> Result<Secrets, Vec<SettingsError>> {
    object(text, expected, read)
}

/// A mistake of the settings as a whole.
pub fn whole(expected: &str) -> Vec<SettingsError> {
    vec![SettingsError::at("", expected)]
}

/// Parses an object with `read`, which takes every member that there may be.
///
/// # Errors
/// Every mistake, with its place.
pub fn object<T>(text: &str, expected: &str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Vec<SettingsError>> {
    let value: Value = serde_json::from_str(text).map_err(|_| whole(expected))?;
    let mut mistakes = Vec::new();
    let mut fields = Fields::of(value, "", &mut mistakes).ok_or_else(|| whole(expected))?;
    let read = read(&mut fields);
    fields.finish();
    match read {
        Some(read) if mistakes.is_empty() => Ok(read),
        None if mistakes.is_empty() => Err(whole(expected)),
        Some(_) | None => Err(mistakes),
    }
}
