//! Client assertions (RFC 7523): signed here with the key of a certificate, or issued by another
//! issuer. Entra requires PS256 and the certificate's SHA-256 as `x5t#S256`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_provider::kit::secret_file::read_word;
use claviger_provider::{ConnectionId, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::errors::{CallError, TransportError};

/// The longest token or client secret in a file, in bytes.
const MAX_FILE: usize = 64 * 1024;
/// The lifetime of an assertion, in seconds. It is used once and immediately; the rest allows for
/// clock skew.
const LIFETIME: u64 = 600;

/// A certificate's thumbprint and private key.
pub(crate) struct Signer {
    key: RsaKeyPair,
    thumbprint: String,
}

impl Signer {
    /// From PEM text; `None` if it is no certificate with an RSA key. Whether both belong together
    /// is checked when the settings are parsed.
    pub(crate) fn from_pem(certificate: &Secret, key: &Secret) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate.expose()).ok()?;
        let key = match PrivateKeyDer::from_pem_slice(key.expose()).ok()? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?,
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?,
            // Entra accepts RSA only. The enum is non-exhaustive.
            _ => return None,
        };
        Some(Self {
            key,
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)),
        })
    }

    fn sign(&self, client_id: &str, audience: &str) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": ConnectionId::random().to_string(),
            "iat": now, "nbf": now, "exp": now + LIFETIME,
        });
        let signing_input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signing_input.as_bytes(), &mut signature)
            .ok()?;
        Some(format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A secret in a file that the operator's configuration names.
///
/// # Errors
/// `NoSource` for a file that cannot be used.
pub(crate) async fn operator_file(file: &Path) -> Result<Secret, CallError> {
    read_word(file, MAX_FILE).await.map_err(|error| CallError::NoSource {
        advice: "The file that the operator's configuration names for this credential cannot be read, is empty or is over 64 KiB.",
        cause: error.to_string(),
    })
}

/// The assertion of an application that requests a token.
pub(crate) enum Assertion {
    /// Signed for each token.
    Signed {
        signer: Signer,
        client_id: String,
        audience: String,
    },
    /// A token of another issuer.
    Token(Secret),
    /// A token of another issuer, in a file that is read for each token.
    TokenFile(PathBuf),
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let assertion = match self {
            Self::Signed {
                signer,
                client_id,
                audience,
            } => signer.sign(client_id, audience),
            Self::Token(token) => std::str::from_utf8(token.expose()).ok().map(str::to_owned),
            Self::TokenFile(file) => {
                let token = operator_file(file).await.map_err(TransportError)?;
                String::from_utf8(token.expose().to_vec()).ok()
            }
        };
        let failed = || azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "the assertion could not be created");
        assertion.ok_or_else(failed)
    }
}
