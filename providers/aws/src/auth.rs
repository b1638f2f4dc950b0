//! The setting `auth`: the identity that signs a connection's calls, and its secrets.

use aws_credential_types::Credentials;
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{Fields, Secret, SettingsError, SettingsOrigin, only};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::role_arn;

/// The longest session token, in bytes. AWS states no limit; none above 2 KiB is known.
const MAX_TOKEN: usize = 8192;

/// The identity that signs requests, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A role, assumed with the connection's external id.
    AssumeRole { role_arn: String, base: Base },
    /// The base identity, without a role.
    #[serde(untagged)]
    Plain(Base),
}

/// The identity whose credentials the connection has or finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Base {
    /// An access key. Its id is stored with its secret, since both change together.
    Static {},
    /// A profile in the operator's AWS configuration files.
    Profile { name: String },
    /// A role that is assumed with a web identity token, which one of the operator's files
    /// contains.
    WebIdentity { role_arn: String, token_file: String },
    /// The identity of the gateway's machine.
    Ambient {},
}

impl Auth {
    /// Whether the identity is the operator's and not the tenant's own.
    pub(crate) fn operator_owned(&self) -> bool {
        match self {
            Self::Plain(Base::Static {}) | Self::AssumeRole { .. } => false,
            Self::Plain(Base::Profile { .. } | Base::WebIdentity { .. } | Base::Ambient {}) => true,
        }
    }

    /// Whether the connection uses the operator's own AWS identity, directly or to assume the
    /// tenant's role.
    pub(crate) const fn operator_lends(&self) -> bool {
        match self.base() {
            Base::Static {} => false,
            Base::Profile { .. } | Base::WebIdentity { .. } | Base::Ambient {} => true,
        }
    }

    /// Whether a refused session can be replaced. A given access key cannot.
    pub(crate) fn renewable(&self) -> bool {
        *self != Self::Plain(Base::Static {})
    }

    /// The base identity, assumed role or not.
    pub(crate) const fn base(&self) -> &Base {
        match self {
            Self::Plain(base) | Self::AssumeRole { base, .. } => base,
        }
    }
}

/// The name of the secret: an access key's id, its secret and perhaps a session token, one per
/// line. They are one secret, so that new ones replace all of the old.
pub(crate) const ACCESS_KEY: &str = "access_key";

/// The access key in the secret of that name; `None` where there is none in it.
pub(crate) fn access_key(secret: &Secret) -> Option<Credentials> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    let mut lines = text.split('\n').map(str::to_owned);
    let (id, key, token) = (lines.next()?, lines.next()?, lines.next());
    Some(Credentials::new(id, key, token, None, "connection"))
}

/// Description of the forms of `auth`, for error messages.
pub(crate) const FORMS: &str = "one of {\"static\": {\"access_key_id\", \"secret_access_key\", \"session_token\"?}}, \
                    {\"assume_role\": {\"role_arn\", \"base\": {\"static\": ...}}}";
const BASE: &str = "the identity that assumes the role: {\"static\": ...}, or one of the operator's";
const OPERATOR_OWNED: [&str; 3] = ["profile", "web_identity", "ambient"];
const RESERVED: &str = "nothing: files, profiles and the gateway's own identity can be used in the operator's configuration only";

/// Parses the setting `auth`; reports mistakes to `mistakes`.
pub(crate) fn parse(value: Value, origin: SettingsOrigin, mistakes: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let pointer = "/auth";
    let mut fields = Fields::of(value, pointer, mistakes)?;
    let plain = |(base, secrets)| (Auth::Plain(base), secrets);
    let mut given: Vec<_> = bases(&mut fields, origin).into_iter().map(|base| base.map(plain)).collect();
    given.extend(fields.object("assume_role", |role| assume_role(role, origin)));
    fields.finish();
    only(given, pointer, FORMS, mistakes)?
}

/// The identities among the members of an object; `None` for each one with a mistake.
fn bases(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Vec<Option<(Base, Secrets)>> {
    let mut given = Vec::from_iter(fields.object("static", given_access_key));
    match origin {
        SettingsOrigin::Tenant => {
            // Reported as reserved, whatever their content.
            given.extend(
                OPERATOR_OWNED
                    .into_iter()
                    .filter(|name| fields.reserve(name, RESERVED))
                    .map(|_| None),
            );
        }
        SettingsOrigin::Operator => {
            given.extend(fields.object("profile", profile));
            given.extend(fields.object("web_identity", web_identity));
            given.extend(fields.object("ambient", |_| Some((Base::Ambient {}, Vec::new()))));
        }
    }
    given
}

fn assume_role(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Option<(Auth, Secrets)> {
    let role_arn = role_of(fields);
    let base = fields.one_of("base", BASE, |base| bases(base, origin));
    let (base, secrets) = base?;
    Some((Auth::AssumeRole { role_arn: role_arn?, base }, secrets))
}

fn given_access_key(fields: &mut Fields<'_>) -> Option<(Base, Secrets)> {
    secrets(fields).map(|secrets| (Base::Static {}, secrets))
}

/// The members of an access key, as the connection's one secret.
pub(crate) fn secrets(fields: &mut Fields<'_>) -> Option<Secrets> {
    let expected = "an access key's id: 16 to 128 letters and digits, such as AKIA...";
    let id = fields.required("access_key_id", expected, |text| {
        let fits = (16..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        fits.then_some(text).ok_or_else(|| expected.to_owned())
    });
    let expected = "the access key's secret, as AWS showed it when the key was created";
    let key = fields.secret("secret_access_key", expected, 128, u8::is_ascii_graphic);
    let expected = "the token of a session, as STS returned it with the access key";
    let (has_token, token) = match fields.has("session_token") {
        true => (true, fields.secret("session_token", expected, MAX_TOKEN, u8::is_ascii_graphic)),
        false => (false, fields.take("session_token").and(None)),
    };
    let mut parts = vec![id?.into_bytes(), key?.expose().to_vec()];
    if has_token {
        parts.push(token?.expose().to_vec());
    }
    Some(vec![(ACCESS_KEY.to_owned(), Secret::new(parts.join(&b'\n')))])
}

fn role_of(fields: &mut Fields<'_>) -> Option<String> {
    let expected = "a role's ARN: arn:aws:iam::ACCOUNT:role/NAME";
    fields.required("role_arn", expected, |text| {
        role_arn(&text).then_some(text).ok_or_else(|| expected.to_owned())
    })
}

fn profile(fields: &mut Fields<'_>) -> Option<(Base, Secrets)> {
    let name = fields.word("name", "the name of a profile in the gateway's AWS configuration files")?;
    Some((Base::Profile { name }, Vec::new()))
}

fn web_identity(fields: &mut Fields<'_>) -> Option<(Base, Secrets)> {
    let role_arn = role_of(fields);
    let token_file = fields.file("token_file", "the absolute path of a file with the token");
    let base = Base::WebIdentity {
        role_arn: role_arn?,
        token_file: token_file?,
    };
    Some((base, Vec::new()))
}
