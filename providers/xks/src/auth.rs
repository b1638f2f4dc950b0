//! The setting `auth`: the access keys that sign requests, and the client certificate for mutual TLS.

use claviger_provider::egress::ClientCertificate;
use claviger_provider::kit::secrets;
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Fields, Secret, SettingsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest client certificate with its chain, in bytes.
const MAX_CHAIN: usize = 32 * 1024;
/// The longest private key, in bytes.
const MAX_KEY: usize = 8192;

/// The names of the secrets of the two access keys: id and secret of each are one secret, one per line, so that new
/// ones replace both.
pub(crate) const ACCESS_KEYS: [&str; 2] = ["access_key", "second_access_key"];
const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";

/// How requests are authenticated, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A signature of each request, and perhaps a client certificate.
    Sigv4 {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_certificate: Option<Certificate>,
    },
}

/// Says that there is a client certificate, which is stored as a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {}

impl Auth {
    /// Whether the connection was made with a client certificate.
    const fn has_certificate(&self) -> bool {
        let Self::Sigv4 { client_certificate } = self;
        client_certificate.is_some()
    }
}

/// Description of the form of `auth`, for error messages.
pub(crate) const FORM: &str = "{\"sigv4\": {\"access_key_id\", \"secret_access_key\", \"second\"?: {\"access_key_id\", \
                               \"secret_access_key\"}, \"client_certificate\"?: {\"certificate\", \"key\"}}}";
const FILES: [(&str, &str); 4] = [
    ("access_key_id_file", "access_key_id"),
    ("secret_access_key_file", "secret_access_key"),
    ("certificate_file", "certificate"),
    ("key_file", "key"),
];

/// Parses the setting `auth`; reports mistakes to `mistakes`.
pub(crate) fn parse(value: Value, mistakes: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let mut fields = Fields::of(value, "/auth", mistakes)?;
    if !fields.has("sigv4") {
        fields.report("sigv4", FORM);
    }
    let parsed = fields.object("sigv4", |sigv4| {
        let first = access_key(sigv4);
        let second = second(sigv4);
        let certificate = certificate(sigv4);
        sigv4.reserve_files(&FILES);
        if let (Some(first), Some(Some(second))) = (&first, &second) {
            differ(sigv4, first, second);
        }
        let auth = Auth::Sigv4 {
            client_certificate: certificate.is_some().then_some(Certificate {}),
        };
        let mut secrets = vec![(ACCESS_KEYS[0].to_owned(), first?)];
        secrets.extend(named(second)?);
        secrets.extend(certificate.unwrap_or_else(|| Some(Vec::new()))?);
        Some((auth, secrets))
    });
    fields.finish();
    parsed?
}

/// Parses the secrets that replace a connection's: either access key, or the client certificate, or more of them. A
/// second access key of null is stored as an empty secret, which is none.
pub(crate) fn replacement(auth: &Auth, fields: &mut Fields<'_>) -> Option<Secrets> {
    let first = (fields.has("access_key_id") || fields.has("secret_access_key")).then(|| access_key(fields));
    let second = match fields.take_null("second") {
        true => Some(Some(Secret::new(Vec::new()))),
        false => second(fields),
    };
    let certificate = match auth.has_certificate() {
        true => certificate(fields),
        false => {
            fields.refuse(
                "client_certificate",
                "nothing: the connection was made without one; make another connection",
            );
            None
        }
    };
    fields.reserve_files(&FILES);
    if first.is_none() && second.is_none() && certificate.is_none() {
        fields.report(
            "access_key_id",
            "access_key_id and secret_access_key, second, or client_certificate",
        );
        return None;
    }
    if let (Some(Some(first)), Some(Some(second))) = (&first, &second) {
        differ(fields, first, second);
    }
    let mut secrets = Vec::new();
    if let Some(first) = first {
        secrets.push((ACCESS_KEYS[0].to_owned(), first?));
    }
    secrets.extend(named(second)?);
    secrets.extend(certificate.unwrap_or_else(|| Some(Vec::new()))?);
    Some(secrets)
}

/// The second access key under its name, if it was given. `None` for one with a mistake.
fn named(second: Option<Option<Secret>>) -> Option<Option<(String, Secret)>> {
    match second {
        Some(second) => Some(Some((ACCESS_KEYS[1].to_owned(), second?))),
        None => Some(None),
    }
}

fn second(fields: &mut Fields<'_>) -> Option<Option<Secret>> {
    fields.has("second").then(|| {
        fields
            .object("second", |second| {
                let key = access_key(second);
                second.reserve_files(&FILES);
                key
            })
            .flatten()
    })
}

/// Reports two access keys with one id.
fn differ(fields: &mut Fields<'_>, first: &Secret, second: &Secret) {
    if have_one_id(first, second) {
        fields.report("second/access_key_id", "the id of another access key than the first");
    }
}

/// Whether two access keys have one id: the second could never take over.
fn have_one_id(first: &Secret, second: &Secret) -> bool {
    let id = |key: &Secret| key.expose().split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec);
    id(first) == id(second)
}

/// Whether a connection's secrets are two access keys with one id: a request that replaces one does not show the other.
pub(crate) fn repeat_access_key(secrets: &Secrets) -> bool {
    let [first, second] = ACCESS_KEYS.map(|name| secrets::secret(secrets, name));
    first.zip(second).is_some_and(|(first, second)| have_one_id(&first, &second))
}

/// An access key, in the form that the specification prescribes.
fn access_key(fields: &mut Fields<'_>) -> Option<Secret> {
    const ID: &str = "the access key id that the proxy's owner gave: 20 to 30 of A-Z and 2-7";
    const SECRET: &str = "its secret access key: 43 to 64 of A-Z, a-z, 0-9, '+', '/' and '='";
    let of_id = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    let of_secret = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let id = fields.required("access_key_id", ID, |text| {
        let fits = (20..=30).contains(&text.len()) && text.bytes().all(of_id);
        fits.then_some(text).ok_or_else(|| ID.to_owned())
    });
    let secret = fields.required("secret_access_key", SECRET, |text| {
        let secret = Secret::new(text.into_bytes());
        let fits = (43..=64).contains(&secret.len()) && secret.expose().iter().copied().all(of_secret);
        fits.then_some(secret).ok_or_else(|| SECRET.to_owned())
    });
    let (id, secret) = id.zip(secret)?;
    Some(Secret::new([id.as_bytes(), b"\n", secret.expose()].concat()))
}

/// The client certificate, if one was given; the inner `None` for one with a mistake.
fn certificate(fields: &mut Fields<'_>) -> Option<Option<Secrets>> {
    const WITH_CHAIN: &str = "a client certificate as PEM text, followed by its chain, whose private key `key` holds";
    const PRIVATE: &str = "the certificate's private key as PEM text, not encrypted";
    fields.has("client_certificate").then(|| {
        fields
            .object("client_certificate", |fields| {
                let certificate = fields.secret_pem(CERTIFICATE, WITH_CHAIN, MAX_CHAIN);
                let key = fields.secret_pem(KEY, PRIVATE, MAX_KEY);
                fields.reserve_files(&FILES);
                let (certificate, key) = certificate.zip(key)?;
                if ClientCertificate::from_pem(certificate.expose(), key.expose()).is_none() {
                    fields.report(CERTIFICATE, WITH_CHAIN);
                    return None;
                }
                Some(vec![(CERTIFICATE.to_owned(), certificate), (KEY.to_owned(), key)])
            })
            .flatten()
    })
}

/// The client certificate among the secrets: `Ok(None)` if the connection has none.
///
/// # Errors
/// For one that is missing or cannot be used.
pub(crate) fn client_certificate(auth: &Auth, secrets: &Secrets) -> Result<Option<ClientCertificate>, ()> {
    if !auth.has_certificate() {
        return Ok(None);
    }
    let part = |name| secrets::secret(secrets, name).ok_or(());
    let (certificate, key) = (part(CERTIFICATE)?, part(KEY)?);
    ClientCertificate::from_pem(certificate.expose(), key.expose()).map(Some).ok_or(())
}
