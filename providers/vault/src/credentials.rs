//! How a connection gets its token: a given one, or a login at an auth method.

use claviger_provider::Secret;
use claviger_provider::egress::ClientCertificate;
use claviger_provider::kit::secrets;
use claviger_provider::kit::settings::Secrets;
use serde::Serialize;

use crate::auth::Auth;
use crate::client::Token;
use crate::names::Path;

/// The source of a connection's token.
pub(crate) enum Credential {
    /// A token in the settings. When it ends, nothing replaces it.
    Token(Secret),
    /// A login at an auth method's mount.
    Login { mount: Path, body: LoginBody },
}

/// The body of a login.
pub(crate) enum LoginBody {
    Approle {
        role_id: String,
        secret_id: Secret,
    },
    Jwt {
        role: String,
        jwt: Secret,
    },
    /// The client certificate itself is sent when the TLS connection opens.
    Cert {
        name: Option<String>,
    },
}

impl LoginBody {
    /// The secret in it that could be a wrapping token.
    pub(crate) const fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Approle { secret_id: secret, .. } | Self::Jwt { jwt: secret, .. } => Some(secret),
            Self::Cert { .. } => None,
        }
    }
}

impl Serialize for LoginBody {
    /// For the request alone, whose bytes are zeroed after it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Approle { role_id, secret_id } => serializer.collect_map([("role_id", role_id.clone()), ("secret_id", text(secret_id))]),
            Self::Jwt { role, jwt } => serializer.collect_map([("role", role.clone()), ("jwt", text(jwt))]),
            Self::Cert { name } => serializer.collect_map(name.iter().map(|name| ("name", name.clone()))),
        }
    }
}

/// How a connection gets its token with these secrets, and the client certificate for a login with one. `None` if
/// a secret is missing or cannot be used.
pub(crate) fn credential(auth: &Auth, secrets: &Secrets) -> Option<(Credential, Option<ClientCertificate>)> {
    let secret = |name: &str| secrets::secret(secrets, name);
    let login = |mount: &str, body| {
        let mount = Path::parse(mount)?;
        Some(Credential::Login { mount, body })
    };
    Some(match auth {
        Auth::Token {} => {
            let token = secret("token")?;
            Token::new(&token)?;
            (Credential::Token(token), None)
        }
        Auth::Approle { role_id, mount } => {
            let body = LoginBody::Approle {
                role_id: role_id.clone(),
                secret_id: secret("secret_id")?,
            };
            (login(mount, body)?, None)
        }
        Auth::Jwt { role, mount } | Auth::Kubernetes { role, mount } => {
            let body = LoginBody::Jwt {
                role: role.clone(),
                jwt: secret("jwt")?,
            };
            (login(mount, body)?, None)
        }
        Auth::Cert { name, mount } => {
            let (certificate, key) = (secret("certificate")?, secret("key")?);
            let certificate = ClientCertificate::from_pem(certificate.expose(), key.expose())?;
            (login(mount, LoginBody::Cert { name: name.clone() })?, Some(certificate))
        }
    })
}

/// The body of `sys/wrapping/lookup`.
pub(crate) struct WrappingLookup<'a>(pub(crate) &'a Secret);

impl Serialize for WrappingLookup<'_> {
    /// For the request alone, whose bytes are zeroed after it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("token", text(self.0))])
    }
}

/// A secret as text. The settings accept only secrets that are text.
fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}
