//! What a connection is told: the region, and whom its calls are signed for.

use aws_credential_types::Credentials;
use claviger_provider::egress::{Destination, Egress, authorities_setting};
use claviger_provider::{Fields, ParsedSettings, Secret, SettingsError, SettingsOrigin, only};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{Region, role_arn};

/// The longest session token, in bytes. AWS gives no bound; none is known above 2 KiB.
const MAX_TOKEN: usize = 8192;

/// What may be shown of a connection, and is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) region: String,
    /// The region's endpoints that are validated under FIPS 140.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fips: bool,
    pub(crate) auth: Auth,
    /// Instead of the region's own endpoints; the operator's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sts_endpoint: Option<String>,
    /// PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// Whom the calls are signed for, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A role, assumed with the connection's external id.
    AssumeRole { role_arn: String, base: Base },
    /// An identity as it is.
    #[serde(untagged)]
    Plain(Base),
}

/// Whose credentials there are to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Base {
    /// An access key. Its id is kept with its secret, since both change together.
    Static {},
    /// A profile of the operator's files.
    Profile { name: String },
    /// A role that a token in a file of the operator's speaks for.
    WebIdentity { role_arn: String, token_file: String },
    /// Whatever the gateway's machine has.
    Ambient {},
}

impl Auth {
    /// Whether the credentials are not the tenant's own, but the operator's.
    pub(crate) fn operator_owned(&self) -> bool {
        match self {
            Self::Plain(Base::Static {}) | Self::AssumeRole { .. } => false,
            Self::Plain(Base::Profile { .. } | Base::WebIdentity { .. } | Base::Ambient {}) => true,
        }
    }
}

/// The name of the secret: an access key's id, its secret and perhaps a session token, each
/// on a line. They are one, so that new ones take the place of all of the old.
pub(crate) const ACCESS_KEY: &str = "access_key";

/// An access key as the secret holds it, to be signed with; `None` where it is none.
pub(crate) fn credentials(secret: &Secret) -> Option<Credentials> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    let mut lines = text.split('\n').map(str::to_owned);
    let (id, key, token) = (lines.next()?, lines.next()?, lines.next());
    Some(Credentials::new(id, key, token, None, "connection"))
}

type Secrets = Vec<(String, Secret)>;

const AUTH: &str = "one of {\"static\": {\"access_key_id\", \"secret_access_key\", \"session_token\"?}}, \
                    {\"assume_role\": {\"role_arn\", \"base\": {\"static\": ...}}}";
const BASE: &str = "whose credentials assume the role: {\"static\": ...}, or what the operator lends";
const OPERATOR_OWNED: [&str; 3] = ["profile", "web_identity", "ambient"];
const RESERVED: &str = "nothing: files, profiles and the gateway's own identity are the operator's to lend, in the configuration";
const ENDPOINT: &str = "nothing: only the operator's configuration may name an endpoint";

fn endpoint(text: &str) -> Result<String, String> {
    let destination = Destination::of_operator(text).map_err(|error| error.to_string())?;
    Ok(destination.as_str().to_owned())
}

/// The identities among the members of an object; `None` within for one that is wrong.
fn bases(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Vec<Option<(Base, Secrets)>> {
    let mut given = Vec::from_iter(fields.object("static", access_key));
    match origin {
        SettingsOrigin::Tenant => {
            // Said to be reserved, whether or not the rest is right.
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

fn auth(value: Value, origin: SettingsOrigin, wrong: &mut Vec<SettingsError>) -> Option<(Auth, Secrets)> {
    let pointer = "/auth";
    let mut fields = Fields::of(value, pointer, wrong)?;
    let plain = |(base, secrets)| (Auth::Plain(base), secrets);
    let mut given: Vec<_> = bases(&mut fields, origin).into_iter().map(|base| base.map(plain)).collect();
    given.extend(fields.object("assume_role", |role| assume_role(role, origin)));
    fields.finish();
    only(given, pointer, AUTH, wrong)?
}

fn assume_role(fields: &mut Fields<'_>, origin: SettingsOrigin) -> Option<(Auth, Secrets)> {
    let role_arn = role_of(fields);
    let base = fields.one_of("base", BASE, |base| bases(base, origin));
    let (base, secrets) = base?;
    Some((Auth::AssumeRole { role_arn: role_arn?, base }, secrets))
}

fn access_key(fields: &mut Fields<'_>) -> Option<(Base, Secrets)> {
    let expected = "an access key's id: 16 to 128 letters and digits, such as AKIA...";
    let id = fields.required("access_key_id", expected, |text| {
        let fits = (16..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        fits.then_some(text).ok_or_else(|| expected.to_owned())
    });
    let expected = "the access key's secret, as AWS showed it when the key was made";
    let key = fields.secret("secret_access_key", expected, 128, u8::is_ascii_graphic);
    let expected = "the token of a session, as STS gave it with the access key";
    let (has_token, token) = match fields.has("session_token") {
        true => (true, fields.secret("session_token", expected, MAX_TOKEN, u8::is_ascii_graphic)),
        false => (false, fields.take("session_token").and(None)),
    };
    let mut parts = vec![id?.into_bytes(), key?.expose().to_vec()];
    if has_token {
        parts.push(token?.expose().to_vec());
    }
    Some((Base::Static {}, vec![(ACCESS_KEY.to_owned(), Secret::new(parts.join(&b'\n')))]))
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
    let expected = "the absolute path of a file with the token";
    let token_file = fields.file("token_file", expected);
    Some((
        Base::WebIdentity {
            role_arn: role_arn?,
            token_file: token_file?,
        },
        Vec::new(),
    ))
}

/// Reads the settings of a new connection. `own_endpoints` says that the installation leads
/// all its connections to endpoints of its own, `egress` judges a proxy.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn parse(
    text: &str,
    origin: SettingsOrigin,
    own_endpoints: bool,
    egress: &Egress,
) -> Result<ParsedSettings, Vec<SettingsError>> {
    let object = || vec![SettingsError::at(String::new(), "an object with region and auth")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let Some(mut fields) = Fields::of(value, "", &mut wrong) else {
        return Err(object());
    };
    let expected = "a region's code such as \"eu-central-1\"";
    let region = fields.required("region", expected, |text| {
        Region::parse(&text).map(|_| text).ok_or_else(|| expected.to_owned())
    });
    let fips = fields.switch("fips");
    let (kms, sts) = match origin {
        SettingsOrigin::Tenant => {
            fields.reserve("endpoint", ENDPOINT);
            fields.reserve("sts_endpoint", ENDPOINT);
            (None, None)
        }
        SettingsOrigin::Operator => {
            let example = "an address such as \"https://vpce-....kms.eu-central-1.vpce.amazonaws.com\"";
            (
                fields.optional("endpoint", example, |text| endpoint(&text)),
                fields.optional("sts_endpoint", example, |text| endpoint(&text)),
            )
        }
    };
    let ca = authorities_setting(&mut fields);
    let proxy = egress.proxy_setting(&mut fields);
    if fips && (own_endpoints || kms.is_some() || sts.is_some()) {
        fields.report(
            "fips",
            "false: with a custom endpoint it is the operator who chooses one that is validated",
        );
    }
    let auth = match fields.take("auth") {
        Some(value) => auth(value, origin, fields.wrong()),
        None => {
            fields.report("auth", AUTH);
            None
        }
    };
    fields.finish();
    let (true, Some(region), Some((auth, secrets))) = (wrong.is_empty(), region, auth) else {
        return Err(wrong);
    };
    let settings = Settings {
        region,
        fips,
        auth,
        endpoint: kms,
        sts_endpoint: sts,
        ca,
        proxy,
    };
    let public = serde_json::to_string(&settings).map_err(|_| object())?;
    Ok(ParsedSettings { public, secrets })
}

/// Reads the secrets that take the place of a connection's: a whole access key, in the
/// members that it has in the settings.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn replace(public: &str, given: &str) -> Result<Secrets, Vec<SettingsError>> {
    let whole = |expected: &str| vec![SettingsError::at(String::new(), expected)];
    let settings: Settings = serde_json::from_str(public).map_err(|_| whole("a connection of this provider"))?;
    let (Auth::Plain(base) | Auth::AssumeRole { base, .. }) = &settings.auth;
    match base {
        Base::Static {} => {}
        Base::Profile { .. } | Base::WebIdentity { .. } | Base::Ambient {} => {
            return Err(whole("nothing: the connection has no secrets of its own"));
        }
    }
    let object = || whole("an object with access_key_id, secret_access_key and perhaps session_token");
    let value: Value = serde_json::from_str(given).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let mut fields = Fields::of(value, "", &mut wrong).ok_or_else(object)?;
    let key = access_key(&mut fields);
    fields.finish();
    match key {
        Some((_, secrets)) if wrong.is_empty() => Ok(secrets),
        Some(_) | None => Err(wrong),
    }
}
