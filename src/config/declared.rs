//! `[[tenants]]`, `[[connections]]` and `[[keys]]`: objects that the operator declares in the
//! configuration instead of creating them over the API. A startup creates missing ones.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_provider::{KeyId, KeySpec, ProviderKind, Secret, TenantId};
use serde_json::{Map, Number, Value as Json};

use super::document::{Node, Value};
use super::reader::Section;
use super::values::{HexId, Names, ObjectName, ShortText, Word};
use crate::io_reason::IoReason;

/// Maximum number of entries of one list.
const MAX_ENTRIES: usize = 10_000;
/// Maximum size of one connection's settings, in bytes, including the contents of their files.
const MAX_SETTINGS: usize = 64 * 1024;

/// All declared objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// From `[[tenants]]`.
    pub tenants: Vec<Tenant>,
    /// From `[[connections]]`.
    pub connections: Vec<Connection>,
    /// From `[[keys]]`.
    pub keys: Vec<Key>,
}

/// A declared tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Unique in the installation.
    pub name: String,
    /// A fixed id, so that wrapped keys of a lost installation open.
    pub id: Option<TenantId>,
}

/// A declared connection. Each of its tenants gets a separate connection of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Names of the tenants.
    pub tenants: Vec<String>,
    /// Unique in each tenant.
    pub name: String,
    /// The provider.
    pub provider: ProviderKind,
    /// The provider's settings.
    pub settings: Settings,
}

/// A declared key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name of the tenant.
    pub tenant: String,
    /// Unique in the tenant.
    pub name: String,
    /// Name of the connection.
    pub connection: String,
    /// Algorithm and length of the key.
    pub spec: KeySpec,
    /// Provider key to adopt. None: a new one is created.
    pub provider_key: Option<String>,
    /// A fixed id, so that wrapped keys of a lost installation open.
    pub id: Option<KeyId>,
}

/// A provider's settings as JSON, in which `{"file": "PATH"}` stands for a file's content.
/// Treated as a secret, because an operator may write one here.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings(Arc<Secret>);

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settings")
    }
}

/// Why settings cannot be resolved. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// The file cannot be read.
    #[error("the file {} cannot be read ({})", path.display(), IoReason(*kind))]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file system.
        kind: std::io::ErrorKind,
    },
    /// A pipe, a socket or a device: opening one could wait for ever.
    #[error("{} is no file", .0.display())]
    NotAFile(PathBuf),
    /// The file is empty, or not UTF-8.
    #[error("the file {} contains no UTF-8 text", .0.display())]
    NoText(PathBuf),
    /// Settings and files together exceed 64 KiB.
    #[error("the settings with the contents of their files are over 64 KiB")]
    TooLarge,
}

impl Settings {
    /// The files whose contents are part of the settings: the JSON pointer of each member that names one, and its
    /// path.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let value: Json = serde_json::from_slice(self.0.expose()).unwrap_or_default();
        let mut files = Vec::new();
        add_files(&value, "", &mut files);
        wipe(value);
        files
    }

    /// Returns the settings with the contents of their files filled in, without one line break at
    /// the end of each file. Blocks while it reads the files.
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

/// Adds all files that the value at this pointer names. The settings of a provider have no name with a `/` or `~`.
fn add_files(value: &Json, pointer: &str, files: &mut Vec<(String, PathBuf)>) {
    match value {
        Json::Object(members) => match file(value) {
            Some(path) => files.push((pointer.to_owned(), path)),
            None => {
                for (name, member) in members {
                    add_files(member, &format!("{pointer}/{name}"), files);
                }
            }
        },
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                add_files(item, &format!("{pointer}/{at}"), files);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// The path, if the value is `{"file": "PATH"}`.
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
    // Opening a pipe would wait for a writer. A folder has an error of its own.
    if std::fs::metadata(&path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(SettingsFileError::NotAFile(path));
    }
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

/// Overwrites all texts of a tree that may contain secrets.
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
            tenants: document.tables("tenants", MAX_ENTRIES, |section| {
                Some(Tenant {
                    name: section.needed("name", &ObjectName)?,
                    id: section.setting("id", &HexId::new()),
                })
            }),
            connections: document.tables("connections", MAX_ENTRIES, |section| {
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
            keys: document.tables("keys", MAX_ENTRIES, |section| {
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

/// Reads `settings` of a section, which may be any table. Absent settings are empty.
pub(super) fn settings(section: &mut Section<'_>) -> Option<Settings> {
    let value = match section.raw("settings") {
        None => Json::Object(Map::new()),
        Some(node) => match json(node) {
            Some(value @ Json::Object(_)) => value,
            Some(_) | None => {
                section.require(
                    false,
                    "`settings` must contain only strings, integers, booleans, lists and tables",
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

/// Converts a node to JSON. `None` if it contains a float or a time, which settings cannot have.
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
