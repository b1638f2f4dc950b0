//! The SDK's credentials, each made from what one connection says and from nothing else: no
//! variable, file or tool of the machine is looked at unless the operator's settings name it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret as AzureSecret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport};
use azure_core::time::{Duration, OffsetDateTime};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use claviger_provider::Secret;

use crate::assertion::{Assertion, Signer};
use crate::transport::Lost;

/// The longest file with a secret, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where tokens are asked for, and which.
pub(crate) struct Login {
    /// The way to the authority.
    pub(crate) transport: Arc<dyn HttpClient>,
    /// Its address, with a closing slash.
    pub(crate) authority: String,
    /// What tokens are for.
    pub(crate) scope: String,
}

impl Login {
    fn options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.clone();
        ClientOptions {
            // Retries belong to the gateway's pipeline.
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::clone(&self.transport))),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }
}

/// What a connection shows to get a token.
pub(crate) enum Source {
    /// The token itself.
    Static(Secret),
    /// An application's secret.
    ClientSecret {
        directory: String,
        client_id: String,
        secret: Secret,
    },
    /// An application's certificate.
    Certificate {
        directory: String,
        client_id: String,
        certificate: Secret,
        key: Secret,
    },
    /// Another issuer's token.
    Federated {
        directory: String,
        client_id: String,
        token: Secret,
    },
    /// The same, in a file that somebody renews.
    TokenFile {
        directory: String,
        client_id: String,
        file: PathBuf,
    },
    /// The operator's application in a customer's directory; its secret in a file.
    Application {
        directory: String,
        client_id: String,
        secret_file: PathBuf,
    },
    /// The machine's own identity.
    ManagedIdentity { client_id: Option<String> },
}

/// A secret as the SDK takes it. The settings take none that is no text.
fn text(secret: &Secret) -> AzureSecret {
    AzureSecret::new(String::from_utf8_lossy(secret.expose()).into_owned())
}

/// What a file of the operator's holds, without the line's end.
pub(crate) async fn content(file: &Path) -> azure_core::Result<Secret> {
    let unreadable = || {
        let lost =
            Lost::NoCredential("The file that the operator's settings name for this credential cannot be read, is empty or over 64 KiB.");
        azure_core::Error::with_error(ErrorKind::Credential, lost, "no credential")
    };
    let metadata = tokio::fs::metadata(file).await.map_err(|_| unreadable())?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(unreadable());
    }
    let bytes = Secret::new(tokio::fs::read(file).await.map_err(|_| unreadable())?);
    let kept = Secret::copy_from(bytes.expose().trim_ascii());
    match !kept.is_empty() && kept.expose().iter().all(u8::is_ascii_graphic) {
        true => Ok(kept),
        false => Err(unreadable()),
    }
}

impl Source {
    /// A new credential, which has no token yet.
    pub(crate) async fn credential(&self, login: &Login) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let asserted = |directory: &str, client_id: &str, assertion| -> azure_core::Result<Arc<dyn TokenCredential>> {
            let options = ClientAssertionCredentialOptions {
                client_options: login.options(),
            };
            Ok(ClientAssertionCredential::new(
                directory.to_owned(),
                client_id.to_owned(),
                assertion,
                Some(options),
            )?)
        };
        let with_secret = |directory: &str, client_id: &str, secret: &Secret| -> azure_core::Result<Arc<dyn TokenCredential>> {
            let options = ClientSecretCredentialOptions {
                client_options: login.options(),
            };
            Ok(ClientSecretCredential::new(
                directory,
                client_id.to_owned(),
                text(secret),
                Some(options),
            )?)
        };
        match self {
            Self::Static(token) => Ok(Arc::new(Given(text(token)))),
            Self::ClientSecret {
                directory,
                client_id,
                secret,
            } => with_secret(directory, client_id, secret),
            Self::Application {
                directory,
                client_id,
                secret_file,
            } => with_secret(directory, client_id, &content(secret_file).await?),
            Self::Certificate {
                directory,
                client_id,
                certificate,
                key,
            } => {
                let lost = || Lost::NoCredential("The connection's certificate cannot be used any more: give it another one.");
                let signer = Signer::from_pem(certificate, key)
                    .ok_or_else(|| azure_core::Error::with_error(ErrorKind::Credential, lost(), "no credential"))?;
                let assertion = Assertion::Signed {
                    signer,
                    client_id: client_id.clone(),
                    audience: format!("{}{directory}/oauth2/v2.0/token", login.authority),
                };
                asserted(directory, client_id, assertion)
            }
            Self::Federated {
                directory,
                client_id,
                token,
            } => asserted(directory, client_id, Assertion::Given(Secret::copy_from(token.expose()))),
            Self::TokenFile {
                directory,
                client_id,
                file,
            } => asserted(directory, client_id, Assertion::File(file.clone())),
            Self::ManagedIdentity { client_id } => {
                let mut options = ManagedIdentityCredentialOptions::default();
                options.client_options = login.options();
                options.user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                Ok(ManagedIdentityCredential::new(Some(options))?)
            }
        }
    }
}

/// A token that is all there is.
#[derive(Debug)]
struct Given(AzureSecret);

#[async_trait::async_trait]
impl TokenCredential for Given {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        // When it ends, only the vault knows.
        Ok(AccessToken::new(self.0.clone(), OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}
