//! The setting `auth`: the identity of a connection's calls, and its secrets.

use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Fields, Secret, SettingsError, SettingsOrigin, only};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::{audience, service_account};

/// The longest access token or workload's token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// The longest private key as PEM text, in bytes.
const MAX_KEY: usize = 8192;

/// The identity of a connection's calls, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A service account that the base identity impersonates.
    Impersonate { service_account: String, base: Base },
    /// An identity without impersonation.
    #[serde(untagged)]
    Plain(Base),
}

/// An identity with its own credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Base {
    /// An access token that the caller obtained.
    Token {},
    /// A service account's key.
    ServiceAccountKey { client_email: String },
    /// A workload of a workload identity pool.
    WorkloadIdentity {
        audience: String,
        /// A file of the operator with the workload's token; without it, the token is a secret of the
        /// connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_file: Option<String>,
    },
    /// The ambient identity of the gateway's machine.
    Ambient {},
}

impl Auth {
    /// Whether the connection uses the operator's own Google identity, directly or to impersonate
    /// the service account.
    pub(crate) const fn operator_lends(&self) -> bool {
        let (Self::Impersonate { base, .. } | Self::Plain(base)) = self;
        match base {
            Base::Token {} | Base::ServiceAccountKey { .. } => false,
            Base::WorkloadIdentity { token_file, .. } => token_file.is_some(),
            Base::Ambient {} => true,
        }
    }
}

/// The name of a connection's only secret.
pub(crate) const SECRET: &str = "credential";

pub(crate) const AUTH: &str = "one of {\"service_account_key\": {...}} (the key's JSON file), {\"workload_identity\": {\"audience\", \
                               \"subject_token\"}}, {\"token\": \"...\"}, {\"impersonate\": {\"service_account\", \"base\": one of these}}";
const BASE: &str = "the identity that impersonates the service account: {\"service_account_key\": ...}, {\"workload_identity\": ...}, {\"token\": \
                    ...}, or the operator's own identity";
const RESERVED: &str = "nothing: only the operator's configuration may use files and the gateway's own identity";
const KEY_URL: &str = "Google's own address, as in the key file that Google created, or omit it: it is never used";

/// The URLs in a key file, each with its prefix in the files that Google creates.
const URLS: [(&str, &str); 4] = [
    ("auth_uri", "https://accounts.google.com/o/oauth2/auth"),
    ("token_uri", "https://oauth2.googleapis.com/token"),
    ("auth_provider_x509_cert_url", "https://www.googleapis.com/oauth2/v1/certs"),
    ("client_x509_cert_url", "https://www.googleapis.com/robot/v1/metadata/x509/"),
];

/// The identities among the members of an object; `None` for one with mistakes.
fn bases(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Vec<Option<(Base, Secrets)>> {
    let mut given = Vec::new();
    if fields.has("token") {
        given.push(token(fields).map(|secrets| (Base::Token {}, secrets)));
    } else {
        fields.take("token");
    }
    given.extend(fields.object("service_account_key", key));
    given.extend(fields.object("workload_identity", |workload| workload_identity(workload, origin)));
    match origin {
        // Reported as reserved whether or not the other members are valid.
        SettingsOrigin::Tenant => given.extend(fields.reserve("ambient", RESERVED).then_some(None)),
        SettingsOrigin::Operator => given.extend(fields.object("ambient", |_| Some((Base::Ambient {}, Vec::new())))),
    }
    given
}

/// Parses the setting `auth`.
pub(crate) fn parse(value: Value, origin: SettingsOrigin, wrong: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let pointer = "/auth";
    let mut fields = Fields::of(value, pointer, wrong)?;
    let plain = |(base, secrets)| (Auth::Plain(base), secrets);
    let mut given: Vec<_> = bases(&mut fields, origin).into_iter().map(|base| base.map(plain)).collect();
    given.extend(fields.object("impersonate", |inner| impersonate(inner, origin)));
    fields.finish();
    only(given, pointer, AUTH, wrong)?
}

fn impersonate(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Option<(Auth, Secrets)> {
    let expected = "a service account's address: NAME@PROJECT.iam.gserviceaccount.com";
    let account = fields.required("service_account", expected, |text| {
        service_account(&text).then_some(text).ok_or_else(|| expected.to_owned())
    });
    let base = fields.one_of("base", BASE, |base| bases(base, origin));
    let (base, secrets) = base?;
    Some((
        Auth::Impersonate {
            service_account: account?,
            base,
        },
        secrets,
    ))
}

fn secret(secret: Secret) -> Secrets {
    vec![(SECRET.to_owned(), secret)]
}

fn token(fields: &mut Fields<'_>) -> Option<Secrets> {
    let expected = "an OAuth 2 access token, as `gcloud auth print-access-token` prints one";
    fields.secret("token", expected, MAX_TOKEN, u8::is_ascii_graphic).map(secret)
}

fn subject_token(fields: &mut Fields<'_>) -> Option<Secrets> {
    let expected = "the workload's token, a JWT of the issuer that the pool's provider trusts";
    fields
        .secret("subject_token", expected, MAX_TOKEN, u8::is_ascii_graphic)
        .map(secret)
}

fn workload_identity(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Option<(Base, Secrets)> {
    let expected =
        "the pool provider's audience: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER";
    let audience = fields.required("audience", expected, |text| {
        audience(&text).then_some(text).ok_or_else(|| expected.to_owned())
    });
    let from_file = match origin {
        SettingsOrigin::Tenant => {
            if fields.reserve("token_file", RESERVED) {
                return None;
            }
            false
        }
        SettingsOrigin::Operator => fields.has("token_file"),
    };
    if !from_file {
        let secrets = subject_token(fields);
        let base = Base::WorkloadIdentity {
            audience: audience?,
            token_file: None,
        };
        return Some((base, secrets?));
    }
    let expected = "the absolute path of a file with the token";
    let token_file = fields.file("token_file", expected);
    let base = Base::WorkloadIdentity {
        audience: audience?,
        token_file: Some(token_file?),
    };
    Some((base, Vec::new()))
}

/// Parses the key file of a service account. Its URLs must be Google's own, and are not stored or
/// used.
fn key(fields: &mut Fields<'_>) -> Option<(Base, Secrets)> {
    let expected = "\"service_account\"";
    if fields.has("type") {
        fields.required("type", expected, |text| {
            (text == "service_account").then_some(()).ok_or_else(|| expected.to_owned())
        });
    } else {
        fields.take("type");
    }
    for (name, begins) in URLS {
        fields.optional(name, KEY_URL, |text| {
            text.starts_with(begins).then_some(()).ok_or_else(|| KEY_URL.to_owned())
        });
    }
    let expected = "\"googleapis.com\": no other universe is supported";
    fields.optional("universe_domain", expected, |text| {
        (text == "googleapis.com").then_some(()).ok_or_else(|| expected.to_owned())
    });
    let short = |text: String| (text.len() <= 256).then_some(text).ok_or_else(|| "at most 256 bytes".to_owned());
    fields.optional("client_id", "the account's number", short);
    let project = fields.optional("project_id", "the project's id", short);
    let expected = "the account's address, NAME@PROJECT.iam.gserviceaccount.com";
    let client_email = fields.required("client_email", expected, |text| {
        service_account(&text).then_some(text).ok_or_else(|| expected.to_owned())
    });
    let key_id = fields.word("private_key_id", "the key's id, as in the key file that Google created");
    let expected = "the private key as PEM text (PKCS#8), as in the key file that Google created";
    let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let private = fields.secret("private_key", expected, MAX_KEY, text)?;
    let (client_email, key_id) = (client_email?, key_id?);
    let private = std::str::from_utf8(private.expose()).ok()?;
    // Google's library requires the member and does not use it.
    let project = project.unwrap_or_default();
    let file = json!({
        "type": "service_account", "client_email": client_email, "private_key_id": key_id, "private_key": private, "project_id": project,
    });
    let base = Base::ServiceAccountKey { client_email };
    Some((base, secret(Secret::new(file.to_string().into_bytes()))))
}

/// Parses new secrets of a connection, which have the same names as in `auth`.
pub(crate) fn replacement(auth: &Auth, fields: &mut Fields<'_>) -> Option<Secrets> {
    let (Auth::Plain(base) | Auth::Impersonate { base, .. }) = auth;
    match base {
        Base::Token {} => token(fields),
        Base::WorkloadIdentity { token_file: None, .. } => subject_token(fields),
        Base::ServiceAccountKey { client_email } => {
            if !fields.has("service_account_key") {
                fields.report("service_account_key", "another key of the same account");
            }
            match fields.object("service_account_key", key).flatten() {
                Some((Base::ServiceAccountKey { client_email: other }, secrets)) if other == *client_email => Some(secrets),
                Some(_) => {
                    fields.report(
                        "service_account_key/client_email",
                        "the connection's own account: another one is another connection",
                    );
                    None
                }
                None => None,
            }
        }
        Base::WorkloadIdentity { token_file: Some(_), .. } | Base::Ambient {} => {
            fields
                .wrong()
                .push(SettingsError::at("", "nothing: the connection has no secrets of its own"));
            None
        }
    }
}
