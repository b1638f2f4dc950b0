//! How a connection logs in: what is shown of it, and its secrets.

use claviger_provider::egress::ClientCertificate;
use claviger_provider::{Fields, Secret, SettingsError, only_member};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::settings::{FILES, mount};

/// The longest secret, in bytes.
const MAX_SECRET: usize = 8192;
/// The longest client certificate with its chain, in bytes.
const MAX_CHAIN: usize = 32 * 1024;

/// How to log in, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A token that somebody else made.
    Token {},
    /// A role and its secret id.
    Approle { role_id: String, mount: String },
    /// A JWT.
    Jwt { role: String, mount: String },
    /// A service account's JWT.
    Kubernetes { role: String, mount: String },
    /// A client certificate.
    Cert {
        /// The role; the server tries all of them without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        mount: String,
    },
}

/// The secrets of a connection by name.
pub(crate) type Secrets = Vec<(String, Secret)>;

/// The ways to log in, as settings name them.
#[derive(Clone, Copy)]
enum Method {
    Token,
    Approle,
    Jwt,
    Kubernetes,
    Cert,
}

/// Every way to log in, for whoever gave none of them.
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

    /// What is shown of it.
    fn shown(self, fields: &mut Fields<'_>) -> Option<Auth> {
        match self {
            Self::Token => Some(Auth::Token {}),
            Self::Approle => {
                let role_id = fields.word("role_id", "the role's id, as `auth/approle/role/NAME/role-id` tells it");
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

    /// Its secrets.
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

/// Reads the setting `auth`.
pub(crate) fn parse(value: Value, wrong: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let pointer = "/auth".to_owned();
    let Some((name, inner)) = only_member(value) else {
        wrong.push(SettingsError::at(pointer, FORMS));
        return None;
    };
    let Some(method) = Method::named(&name) else {
        let before = wrong.len();
        let mut fields = Fields::of(Map::from_iter([(name, inner)]).into(), pointer.as_str(), wrong)?;
        fields.reserve_files(&FILES);
        if wrong.len() == before {
            wrong.push(SettingsError::at(pointer, FORMS));
        }
        return None;
    };
    let mut fields = match method {
        // The one form without an object of its own.
        Method::Token => Fields::of(Map::from_iter([(name, inner)]).into(), pointer, wrong)?,
        Method::Approle | Method::Jwt | Method::Kubernetes | Method::Cert => Fields::of(inner, format!("{pointer}/{name}"), wrong)?,
    };
    let (shown, secrets) = (method.shown(&mut fields), method.secrets(&mut fields));
    fields.reserve_files(&FILES);
    fields.finish();
    shown.zip(secrets)
}

/// Reads the secrets that are to take the place of a connection's.
pub(crate) fn replacement(auth: &Auth, value: Value, wrong: &mut Vec<SettingsError>) -> Option<Secrets> {
    let mut fields = Fields::of(value, "", wrong)?;
    let secrets = Method::of(auth).secrets(&mut fields);
    fields.finish();
    secrets
}
