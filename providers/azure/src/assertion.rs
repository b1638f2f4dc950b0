//! A client's assertion, signed here with the key of its certificate (RFC 7523; the form that
//! Microsoft Entra asks for: PS256 and the certificate's SHA-256 as `x5t#S256`).

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_provider::{ConnectionId, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::credential::content;

/// How long an assertion is good for, in seconds. It is used once, right away; clocks differ.
const LIFE: u64 = 600;

/// The private key of a certificate.
pub(crate) struct Signer {
    key: RsaKeyPair,
    thumbprint: String,
}

impl Signer {
    /// From PEM text; `None` for what is no certificate with an RSA key. That both belong together
    /// is seen when the settings are read.
    pub(crate) fn from_pem(certificate: &Secret, key: &Secret) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate.expose()).ok()?;
        let key = match PrivateKeyDer::from_pem_slice(key.expose()).ok()? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?,
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?,
            // Entra takes RSA alone. The enum is open.
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
            "iat": now, "nbf": now, "exp": now + LIFE,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What vouches for an application when it asks for a token.
pub(crate) enum Assertion {
    /// Signed anew for each token.
    Signed {
        signer: Signer,
        client_id: String,
        audience: String,
    },
    /// Another issuer's token.
    Given(Secret),
    /// The same, in a file that is read for each token.
    File(PathBuf),
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let made = match self {
            Self::Signed {
                signer,
                client_id,
                audience,
            } => signer.sign(client_id, audience),
            Self::Given(token) => std::str::from_utf8(token.expose()).ok().map(str::to_owned),
            Self::File(file) => String::from_utf8(content(file).await?.expose().to_vec()).ok(),
        };
        let none = || azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "no assertion could be made");
        made.ok_or_else(none)
    }
}
