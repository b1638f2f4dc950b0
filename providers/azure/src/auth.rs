//! The setting `auth`: the identity of a connection's calls, and its secrets.

use claviger_provider::egress::ClientCertificate;
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Fields, SettingsError, SettingsOrigin, only_member};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::assertion::Signer;
use crate::installation::Installation;

/// The longest certificate with its chain, in bytes.
const MAX_CHAIN: usize = 32 * 1024;
/// The longest other secret, in bytes.
const MAX_SECRET: usize = 16 * 1024;

/// The identity of a connection's calls, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A token that the caller obtained.
    Static {},
    /// An application with a secret.
    ClientSecret { directory: String, client_id: String },
    /// An application with a certificate.
    ClientCertificate { directory: String, client_id: String },
    /// An application with a token of another issuer; a token file is for the operator only.
    WorkloadIdentity {
        directory: String,
        client_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_file: Option<String>,
    },
    /// The operator's application, which the customer's directory has admitted.
    Application { directory: String },
    /// The machine's managed identity; for the operator only.
    ManagedIdentity {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
    },
}

impl Auth {
    /// The directory that issues its tokens, where the settings name one.
    pub(crate) fn directory(&self) -> Option<&str> {
        match self {
            Self::ClientSecret { directory, .. }
            | Self::ClientCertificate { directory, .. }
            | Self::WorkloadIdentity { directory, .. }
            | Self::Application { directory } => Some(directory),
            Self::Static {} | Self::ManagedIdentity { .. } => None,
        }
    }

    /// The directory and the application that a secret or certificate of the connection logs in.
    pub(crate) fn application(&self) -> Option<(&str, &str)> {
        match self {
            Self::ClientSecret { directory, client_id } | Self::ClientCertificate { directory, client_id } => Some((directory, client_id)),
            Self::Static {} | Self::WorkloadIdentity { .. } | Self::Application { .. } | Self::ManagedIdentity { .. } => None,
        }
    }

    /// Whether the connection uses the operator's own Azure identity.
    pub(crate) const fn operator_lends(&self) -> bool {
        match self {
            Self::Application { .. } | Self::ManagedIdentity { .. } => true,
            Self::WorkloadIdentity { token_file, .. } => token_file.is_some(),
            Self::Static {} | Self::ClientSecret { .. } | Self::ClientCertificate { .. } => false,
        }
    }

    /// Whether all tenants share the identity. It may then have access to vaults of other tenants
    /// than the one that names them.
    pub(crate) const fn shared(&self) -> bool {
        match self {
            Self::Application { .. } => true,
            Self::Static {}
            | Self::ClientSecret { .. }
            | Self::ClientCertificate { .. }
            | Self::WorkloadIdentity { .. }
            | Self::ManagedIdentity { .. } => false,
        }
    }
}

/// The names of the stored secrets, which are those of their settings.
pub(crate) const TOKEN: &str = "token";
pub(crate) const SECRET: &str = "secret";
pub(crate) const CERTIFICATE: &str = "certificate";
pub(crate) const KEY: &str = "key";

pub(crate) const FORMS: &str = "one of {\"client_secret\": {\"directory\", \"client_id\", \"secret\"}}, \
     {\"client_certificate\": {\"directory\", \"client_id\", \"certificate\", \"key\"}}, \
     {\"workload_identity\": {\"directory\", \"client_id\", \"token\"}}, {\"application\": {\"directory\"}}, {\"static\": {\"token\"}}";
const RESERVED: &str = "nothing: only the operator's configuration may use the gateway's own identity";
const NO_APPLICATION: &str = "nothing: the operator has configured no application for customers' directories (providers.azure.application)";
const PAIR: &str = "an RSA certificate as PEM text, followed by its chain, whose private key is in `key`; register its public part with the \
                    application";

/// Settings that would name a file, and the member that takes the file's content instead.
pub(crate) const SECRET_FILES: [(&str, &str); 5] = [
    ("secret_file", "secret"),
    ("token_file", "token"),
    ("certificate_file", "certificate"),
    ("key_file", "key"),
    ("ca_file", "ca"),
];

#[derive(Clone, Copy)]
enum Form {
    Static,
    ClientSecret,
    ClientCertificate,
    WorkloadIdentity,
    Application,
    ManagedIdentity,
}

impl Form {
    fn named(name: &str) -> Option<Self> {
        match name {
            "static" => Some(Self::Static),
            "client_secret" => Some(Self::ClientSecret),
            "client_certificate" => Some(Self::ClientCertificate),
            "workload_identity" => Some(Self::WorkloadIdentity),
            "application" => Some(Self::Application),
            "managed_identity" => Some(Self::ManagedIdentity),
            _ => None,
        }
    }
}

/// A UUID in lower case.
fn uuid(text: &str) -> Option<String> {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let fits = parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, len)| part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fits.then(|| text.to_ascii_lowercase())
}

fn directory(fields: &mut Fields<'_>) -> Option<String> {
    let expected = "the directory's (tenant's) id, a UUID, as `az account show --query tenantId` prints it";
    fields.required("directory", expected, |text| uuid(&text).ok_or_else(|| expected.to_owned()))
}

fn client_id(fields: &mut Fields<'_>) -> Option<String> {
    let expected = "the application's (client) id, a UUID";
    fields.required("client_id", expected, |text| uuid(&text).ok_or_else(|| expected.to_owned()))
}

fn single_secret(fields: &mut Fields<'_>, name: &'static str, expected: &'static str) -> Option<Secrets> {
    let secret = fields.secret_word(name, expected, MAX_SECRET)?;
    Some(vec![(name.to_owned(), secret)])
}

fn token(fields: &mut Fields<'_>) -> Option<Secrets> {
    single_secret(fields, TOKEN, "a token: printable ASCII without spaces")
}

fn secret(fields: &mut Fields<'_>) -> Option<Secrets> {
    single_secret(
        fields,
        SECRET,
        "the value of one of the application's client secrets (not the secret's id)",
    )
}

fn pair(fields: &mut Fields<'_>) -> Option<Secrets> {
    let certificate = fields.secret_pem(CERTIFICATE, PAIR, MAX_CHAIN);
    let expected = "the certificate's private RSA key as PEM text, not encrypted";
    let key = fields.secret_pem(KEY, expected, MAX_SECRET);
    let (certificate, key) = certificate.zip(key)?;
    let matching = ClientCertificate::from_pem(certificate.expose(), key.expose()).is_some();
    if !matching || Signer::from_pem(&certificate, &key).is_none() {
        fields.report(CERTIFICATE, PAIR);
        return None;
    }
    Some(vec![(CERTIFICATE.to_owned(), certificate), (KEY.to_owned(), key)])
}

fn workload(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Option<(Auth, Secrets)> {
    let (directory, client_id) = (directory(fields), client_id(fields));
    let (token_file, secrets) = match (origin, fields.has("token_file")) {
        (SettingsOrigin::Operator, true) => {
            let expected = "the absolute path of a file with the token, without `token`";
            (Some(fields.file("token_file", expected)?), Vec::new())
        }
        (SettingsOrigin::Operator | SettingsOrigin::Tenant, _) => (None, token(fields)?),
    };
    let auth = Auth::WorkloadIdentity {
        directory: directory?,
        client_id: client_id?,
        token_file,
    };
    Some((auth, secrets))
}

/// Parses the setting `auth`.
pub(crate) fn parse(
    value: Value,
    origin: SettingsOrigin,
    installation: &Installation,
    wrong: &mut Vec<SettingsError>,
) -> Option<(Auth, Secrets)> {
    let pointer = "/auth";
    let Some((name, inner)) = only_member(value) else {
        wrong.push(SettingsError::at(pointer, FORMS));
        return None;
    };
    let at = format!("{pointer}/{name}");
    let form = match (Form::named(&name), origin) {
        (Some(Form::ManagedIdentity), SettingsOrigin::Tenant) => {
            wrong.push(SettingsError {
                operator_only: true,
                ..SettingsError::at(at, RESERVED)
            });
            return None;
        }
        (Some(Form::Application), _) if installation.application.is_none() => {
            wrong.push(SettingsError::at(at, NO_APPLICATION));
            return None;
        }
        (Some(form), _) => form,
        (None, _) => {
            wrong.push(SettingsError::at(pointer, FORMS));
            return None;
        }
    };
    let mut fields = Fields::of(inner, at, wrong)?;
    let parsed = match form {
        Form::Static => token(&mut fields).map(|secrets| (Auth::Static {}, secrets)),
        Form::ClientSecret => {
            let (directory, client_id, secrets) = (directory(&mut fields), client_id(&mut fields), secret(&mut fields));
            let application = directory.zip(client_id);
            application
                .map(|(directory, client_id)| Auth::ClientSecret { directory, client_id })
                .zip(secrets)
        }
        Form::ClientCertificate => {
            let (directory, client_id, secrets) = (directory(&mut fields), client_id(&mut fields), pair(&mut fields));
            let application = directory.zip(client_id);
            application
                .map(|(directory, client_id)| Auth::ClientCertificate { directory, client_id })
                .zip(secrets)
        }
        Form::WorkloadIdentity => workload(&mut fields, origin),
        Form::Application => directory(&mut fields).map(|directory| (Auth::Application { directory }, Vec::new())),
        Form::ManagedIdentity => {
            let client_id = fields.has("client_id").then(|| client_id(&mut fields));
            match client_id {
                Some(None) => None,
                Some(Some(client_id)) => Some((
                    Auth::ManagedIdentity {
                        client_id: Some(client_id),
                    },
                    Vec::new(),
                )),
                None => Some((Auth::ManagedIdentity { client_id: None }, Vec::new())),
            }
        }
    };
    fields.reserve_files(&SECRET_FILES);
    fields.finish();
    parsed
}

/// Parses new secrets of a connection, which have the same names as in `auth`.
pub(crate) fn replacement(auth: &Auth, fields: &mut Fields<'_>) -> Option<Secrets> {
    match auth {
        Auth::Static {} | Auth::WorkloadIdentity { token_file: None, .. } => token(fields),
        Auth::ClientSecret { .. } => secret(fields),
        Auth::ClientCertificate { .. } => pair(fields),
        Auth::WorkloadIdentity { token_file: Some(_), .. } | Auth::Application { .. } | Auth::ManagedIdentity { .. } => {
            fields
                .wrong()
                .push(SettingsError::at("", "nothing: the connection has no secrets of its own"));
            None
        }
    }
}
