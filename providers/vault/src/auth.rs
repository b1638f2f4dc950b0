//! The setting `auth`: how a connection gets its token, and its secrets.

use claviger_provider::egress::ClientCertificate;
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Fields, SettingsError, only_member};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::names::Path;

/// The longest secret, in bytes.
const MAX_SECRET: usize = 8192;
/// The longest client certificate with its chain, in bytes.
const MAX_CHAIN: usize = 32 * 1024;

/// How a connection gets its token, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A given token.
    Token {},
    /// A role and its secret id.
    Approle { role_id: String, mount: String },
    /// A JWT.
    Jwt { role: String, mount: String },
    /// A service account's JWT.
    Kubernetes { role: String, mount: String },
    /// A client certificate.
    Cert {
        /// The role; without it the server tries all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        mount: String,
    },
}

/// Settings that would name a file, and the setting that holds the file's content instead.
pub(crate) const FILES: [(&str, &str); 6] = [
    ("token_file", "token"),
    ("secret_id_file", "secret_id"),
    ("jwt_file", "jwt"),
    ("ca_file", "ca"),
    ("certificate_file", "certificate"),
    ("key_file", "key"),
];

/// The auth methods, as settings name them.
#[derive(Clone, Copy)]
enum Method {
    Token,
    Approle,
    Jwt,
    Kubernetes,
    Cert,
}

/// Description of the forms of `auth`, for error messages.
pub(crate) const FORMS: &str = "one of {\"token\": \"...\"}, {\"approle\": {\"role_id\", \"secret_id\", \"mount\"?}}, \
                     {\"jwt\": {\"role\", \"jwt\", \"mount\"?}}, {\"kubernetes\": {\"role\", \"jwt\", \"mount\"?}}, \
                     {\"cert\": {\"certificate\", \"key\", \"name\"?, \"mount\"?}}";

impl Method {
    fn named(name: &str) -> Option<Self> {
        match name {
            "token" => Some(Self::Token),
            "approle" => Some(Self::Approle),
            "jwt" => Some(Self::Jwt),
            "kubernetes" => Some(Self::Kubernetes),
            "cert" => Some(Self::Cert),
            _ => None,
        }
    }

    const fn of(auth: &Auth) -> Self {
        match auth {
            Auth::Token {} => Self::Token,
            Auth::Approle { .. } => Self::Approle,
            Auth::Jwt { .. } => Self::Jwt,
            Auth::Kubernetes { .. } => Self::Kubernetes,
            Auth::Cert { .. } => Self::Cert,
        }
    }

    /// The members that are no secrets.
    fn shown(self, fields: &mut Fields<'_>) -> Option<Auth> {
        match self {
            Self::Token => Some(Auth::Token {}),
            Self::Approle => {
                let role_id = fields.word("role_id", "the role's id, as `auth/approle/role/NAME/role-id` returns it");
                let mount = mount(fields, "approle");
                role_id.map(|role_id| Auth::Approle { role_id, mount })
            }
            Self::Jwt => {
                let (role, mount) = (fields.word("role", ROLE), mount(fields, "jwt"));
                role.map(|role| Auth::Jwt { role, mount })
            }
            Self::Kubernetes => {
                let (role, mount) = (fields.word("role", ROLE), mount(fields, "kubernetes"));
                role.map(|role| Auth::Kubernetes { role, mount })
            }
            Self::Cert => {
                let name = fields.has("name").then(|| fields.word("name", ROLE));
                let mount = mount(fields, "cert");
                match name {
                    Some(None) => None,
                    Some(Some(name)) => Some(Auth::Cert { name: Some(name), mount }),
                    None => Some(Auth::Cert { name: None, mount }),
                }
            }
        }
    }

    /// The members that are secrets.
    fn secrets(self, fields: &mut Fields<'_>) -> Option<Secrets> {
        match self {
            Self::Token => one(fields, "token", "a token of printable ASCII without spaces"),
            Self::Approle => one(fields, "secret_id", "a secret id of the role (not a wrapping token)"),
            Self::Jwt | Self::Kubernetes => one(fields, "jwt", "a JWT"),
            Self::Cert => {
                let certificate = fields.secret_pem("certificate", CERTIFICATE, MAX_CHAIN);
                let key = fields.secret_pem("key", KEY, MAX_SECRET);
                let (certificate, key) = certificate.zip(key)?;
                if ClientCertificate::from_pem(certificate.expose(), key.expose()).is_none() {
                    fields.report("certificate", CERTIFICATE);
                    return None;
                }
                Some(vec![("certificate".to_owned(), certificate), ("key".to_owned(), key)])
            }
        }
    }
}

const ROLE: &str = "the role's name";
const CERTIFICATE: &str = "a client certificate as PEM text, followed by its chain, whose private key `key` holds";
const KEY: &str = "the certificate's private key as PEM text, not encrypted";

fn one(fields: &mut Fields<'_>, name: &'static str, expected: &'static str) -> Option<Secrets> {
    let secret = fields.secret_word(name, expected, MAX_SECRET)?;
    Some(vec![(name.to_owned(), secret)])
}

/// Parses the setting `auth`; reports mistakes to `mistakes`.
pub(crate) fn parse(value: Value, mistakes: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let pointer = "/auth".to_owned();
    let Some((name, inner)) = only_member(value) else {
        mistakes.push(SettingsError::at(pointer, FORMS));
        return None;
    };
    let Some(method) = Method::named(&name) else {
        let before = mistakes.len();
        let mut fields = Fields::of(Map::from_iter([(name, inner)]).into(), pointer.as_str(), mistakes)?;
        fields.reserve_files(&FILES);
        if mistakes.len() == before {
            mistakes.push(SettingsError::at(pointer, FORMS));
        }
        return None;
    };
    let mut fields = match method {
        // The one form whose value is not an object.
        Method::Token => Fields::of(Map::from_iter([(name, inner)]).into(), pointer, mistakes)?,
        Method::Approle | Method::Jwt | Method::Kubernetes | Method::Cert => Fields::of(inner, format!("{pointer}/{name}"), mistakes)?,
    };
    let (shown, secrets) = (method.shown(&mut fields), method.secrets(&mut fields));
    fields.reserve_files(&FILES);
    fields.finish();
    shown.zip(secrets)
}

/// Parses the secrets that replace a connection's.
pub(crate) fn replacement(auth: &Auth, fields: &mut Fields<'_>) -> Option<Secrets> {
    Method::of(auth).secrets(fields)
}

/// A namespace or mount.
pub(crate) fn path(fields: &mut Fields<'_>, name: &'static str, example: &str) -> Option<String> {
    let expected = format!("a path such as \"{example}\": letters, digits, '.', '_', '-' and single slashes within, at most 128 bytes");
    let check = |text: String| Path::parse(&text).map(|_| text).ok_or(expected.clone());
    fields.optional(name, &expected, check)
}

/// The mount of an engine or auth method.
pub(crate) fn mount(fields: &mut Fields<'_>, default: &str) -> String {
    path(fields, "mount", default).unwrap_or_else(|| default.to_owned())
}
