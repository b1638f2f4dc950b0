//! `[[tenants]]`, `[[connections]]` and `[[keys]]`: what the operator keeps in the
//! configuration instead of making it over the API. A start makes what is missing.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_provider::{KeyId, KeySpec, ProviderKind, Secret, TenantId};
use serde_json::{Map, Number, Value as Json};

use super::document::{Node, Value};
use super::reader::Section;
use super::values::{HexId, Names, ObjectName, ShortText, Word};

/// The most entries of one list.
const MOST: usize = 10_000;
/// The longest settings of one connection, in bytes, with the contents of their files.
const MAX_SETTINGS: usize = 64 * 1024;

/// Everything that is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Tenants.
    pub tenants: Vec<Tenant>,
    /// Connections.
    pub connections: Vec<Connection>,
    /// Keys.
    pub keys: Vec<Key>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Unique in the installation.
    pub name: String,
    /// The id to take, so that blobs of a lost installation open.
    pub id: Option<TenantId>,
}

/// A connection, lent to one or more tenants: each gets one of its own under this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Whose.
    pub tenants: Vec<String>,
    /// Unique in each tenant.
    pub name: String,
    /// Which family.
    pub provider: ProviderKind,
    /// The family's own settings.
    pub settings: Settings,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose.
    pub tenant: String,
    /// Unique in the tenant.
    pub name: String,
    /// The name of its connection.
    pub connection: String,
    /// What it is made of.
    pub spec: KeySpec,
    /// A provider key to adopt; a new one is made otherwise.
    pub provider_key: Option<String>,
    /// The id to take, so that blobs of a lost installation open.
    pub id: Option<KeyId>,
}

/// A provider's settings as JSON, in which `{"file": "PATH"}` stands for a file's content.
/// Held like a secret, since an operator may write one in here.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings(Arc<Secret>);

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settings")
    }
}

/// Why settings cannot be used. It names a file and never its content.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// A file that cannot be read.
    #[error("the file {} cannot be read ({kind})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// A file that is empty, or no UTF-8 text.
    #[error("the file {} holds no UTF-8 text", .0.display())]
    NoText(PathBuf),
    /// Settings and files together are too large.
    #[error("the settings with the contents of their files are over 64 KiB")]
    TooLarge,
}

impl Settings {
    /// The settings with the contents of their files in place; one line end at the end of a
    /// file is left out. It blocks on the files.
    ///
    /// # Errors
    /// [`SettingsFileError`].
    pub fn resolve(&self) -> Result<Secret, SettingsFileError> {
        let mut value: Json = serde_json::from_slice(self.0.expose()).unwrap_or_default();
        let mut room = MAX_SETTINGS;
        fill_in(&mut value, &mut room)?;
        let text = Secret::new(serde_json::to_vec(&value).unwrap_or_default());
        wipe(value);
        if text.len() > MAX_SETTINGS {
            return Err(SettingsFileError::TooLarge);
        }
        Ok(text)
    }
}

/// The path that stands for a file's content.
fn file(value: &Json) -> Option<PathBuf> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.get("file")?.as_str().map(PathBuf::from)
}

fn fill_in(value: &mut Json, room: &mut usize) -> Result<(), SettingsFileError> {
    if let Some(path) = file(value) {
        *value = Json::String(content(path, room)?);
        return Ok(());
    }
    match value {
        Json::Object(members) => members.values_mut().try_for_each(|member| fill_in(member, room)),
        Json::Array(items) => items.iter_mut().try_for_each(|item| fill_in(item, room)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Ok(()),
    }
}

fn content(path: PathBuf, room: &mut usize) -> Result<String, SettingsFileError> {
    use std::io::Read;
    let mut text = zeroize::Zeroizing::new(String::new());
    let limit = *room as u64 + 1;
    let read = std::fs::File::open(&path).and_then(|file| file.take(limit).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(SettingsFileError::NoText(path)),
        Err(error) => {
            let kind = error.kind();
            return Err(SettingsFileError::Unreadable { path, kind });
        }
    }
    *room = room.checked_sub(text.len()).ok_or(SettingsFileError::TooLarge)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(SettingsFileError::NoText(path));
    }
    Ok(line.to_owned())
}

/// Overwrites the texts of a tree that held secrets.
fn wipe(value: Json) {
    match value {
        Json::String(mut text) => zeroize::Zeroize::zeroize(&mut text),
        Json::Array(items) => items.into_iter().for_each(wipe),
        Json::Object(members) => members.into_iter().for_each(|(_, member)| wipe(member)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

pub(super) const SPECS: &[(&str, KeySpec)] = &[
    ("aes-256", KeySpec::Aes256),
    ("rsa-3072", KeySpec::Rsa3072),
    ("rsa-4096", KeySpec::Rsa4096),
];

pub(super) const PROVIDERS: &[(&str, ProviderKind)] = &[
    ("local", ProviderKind::Local),
    ("aws", ProviderKind::Aws),
    ("gcp", ProviderKind::Gcp),
    ("azure", ProviderKind::Azure),
    ("vault", ProviderKind::Vault),
    ("xks", ProviderKind::Xks),
    ("kmip", ProviderKind::Kmip),
    ("pkcs11", ProviderKind::Pkcs11),
];

impl Declared {
    pub(super) fn read(document: &mut Section<'_>) -> Self {
        Self {
            tenants: document.tables("tenants", MOST, |section| {
                Some(Tenant {
                    name: section.needed("name", &ObjectName)?,
                    id: section.setting("id", &HexId::new()),
                })
            }),
            connections: document.tables("connections", MOST, |section| {
                let tenants = section.needed("tenants", &Names);
                let name = section.needed("name", &ObjectName);
                let provider = section.needed("provider", &Word(PROVIDERS));
                let settings = settings(section);
                Some(Connection {
                    tenants: tenants?,
                    name: name?,
                    provider: provider?,
                    settings: settings?,
                })
            }),
            keys: document.tables("keys", MOST, |section| {
                let tenant = section.needed("tenant", &ObjectName);
                let name = section.needed("name", &ObjectName);
                let connection = section.needed("connection", &ObjectName);
                let spec = section.setting_or("spec", &Word(SPECS), KeySpec::Aes256);
                let provider_key = section.setting("provider_key", &ShortText { max: 512 });
                let id = section.setting("id", &HexId::new());
                Some(Key {
                    tenant: tenant?,
                    name: name?,
                    connection: connection?,
                    spec,
                    provider_key,
                    id,
                })
            }),
        }
    }
}

/// The `settings` of a section: any table. Absent ones are empty.
pub(super) fn settings(section: &mut Section<'_>) -> Option<Settings> {
    let value = match section.raw("settings") {
        None => Json::Object(Map::new()),
        Some(node) => match json(node) {
            Some(value @ Json::Object(_)) => value,
            Some(_) | None => {
                section.require(
                    false,
                    "`settings` is no table of strings, integers, booleans, lists and tables",
                    "a table",
                );
                return None;
            }
        },
    };
    let text = Secret::new(serde_json::to_vec(&value).unwrap_or_default());
    wipe(value);
    Some(Settings(Arc::new(text)))
}

/// A node as JSON; `None` for what JSON settings do not have.
fn json(node: Node) -> Option<Json> {
    match node.value {
        Value::Text(text) => Some(Json::String(text)),
        Value::Integer(number) => number.map(|number| Json::Number(Number::from(number))),
        Value::Boolean(on) => Some(Json::Bool(on)),
        Value::List(items) => items.into_iter().map(json).collect::<Option<Vec<_>>>().map(Json::Array),
        Value::Table(table) => {
            let members = table.into_iter().map(|(name, entry)| Some((name, json(entry.node)?)));
            members.collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        Value::Other(_) => None,
    }
}
