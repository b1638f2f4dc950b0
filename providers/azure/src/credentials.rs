//! The SDK's credentials, each created from one connection's settings only: variables, files and
//! tools of the machine are used only if the operator's settings name them.

use std::path::PathBuf;
use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret as SdkSecret, TokenCredential};
use azure_core::http::{ClientOptions, HttpClient, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use claviger_provider::Secret;
use claviger_provider::kit::secrets;
use claviger_provider::kit::settings::Secrets;

use crate::assertion::{Assertion, Signer, operator_file};
use crate::auth::{Auth, CERTIFICATE, KEY, SECRET, TOKEN};
use crate::errors::{CallError, call_error};
use crate::installation::Application;

/// The authority and the scope of tokens.
pub(crate) struct TokenEndpoint {
    pub(crate) transport: Arc<dyn HttpClient>,
    /// The authority's URL, with a trailing slash.
    pub(crate) authority: String,
    /// The scope of the tokens.
    pub(crate) scope: String,
}

impl TokenEndpoint {
    fn options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.clone();
        ClientOptions {
            // The pipeline retries.
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::clone(&self.transport))),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }
}

/// What the credentials of a connection are made from, but for its secrets.
pub(crate) struct Identity {
    pub(crate) auth: Auth,
    /// The operator's application for customers' directories.
    pub(crate) application: Option<Application>,
}

/// Where tokens come from.
pub(crate) enum Origin {
    /// The settings contain the token.
    Token(Secret),
    /// The authority issues them for a credential.
    Authority(Credentials),
}

impl Identity {
    /// The file that a login reads, beside those of the connection's secrets.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.auth {
            Auth::Application { .. } => self.application.as_ref().map(|application| application.secret_file.clone()),
            Auth::WorkloadIdentity { token_file, .. } => token_file.as_ref().map(PathBuf::from),
            Auth::Static {} | Auth::ClientSecret { .. } | Auth::ClientCertificate { .. } | Auth::ManagedIdentity { .. } => None,
        }
    }

    /// Where tokens come from with these secrets.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub(crate) fn origin(&self, secrets: &Secrets) -> Result<Origin, &'static str> {
        let secret = |wanted: &str| secrets::secret(secrets, wanted).ok_or("a secret of the connection is missing");
        Ok(Origin::Authority(match self.auth.clone() {
            Auth::Static {} => return Ok(Origin::Token(secret(TOKEN)?)),
            Auth::ClientSecret { directory, client_id } => Credentials::ClientSecret {
                directory,
                client_id,
                secret: secret(SECRET)?,
            },
            Auth::ClientCertificate { directory, client_id } => Credentials::Certificate {
                directory,
                client_id,
                certificate: secret(CERTIFICATE)?,
                key: secret(KEY)?,
            },
            Auth::WorkloadIdentity {
                directory,
                client_id,
                token_file,
            } => match token_file {
                Some(file) => Credentials::TokenFile {
                    directory,
                    client_id,
                    file: file.into(),
                },
                None => Credentials::Federated {
                    directory,
                    client_id,
                    token: secret(TOKEN)?,
                },
            },
            Auth::Application { directory } => {
                let application = self.application.clone().ok_or("the operator has no application")?;
                Credentials::Application {
                    directory,
                    client_id: application.client_id,
                    secret_file: application.secret_file,
                }
            }
            Auth::ManagedIdentity { client_id } => Credentials::ManagedIdentity { client_id },
        }))
    }
}

/// A credential for which the authority issues tokens.
pub(crate) enum Credentials {
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
    /// A token of another issuer.
    Federated {
        directory: String,
        client_id: String,
        token: Secret,
    },
    /// A token of another issuer, in a file that another process renews.
    TokenFile {
        directory: String,
        client_id: String,
        file: PathBuf,
    },
    /// The operator's application in a customer's directory, with its secret in a file.
    Application {
        directory: String,
        client_id: String,
        secret_file: PathBuf,
    },
    /// The machine's managed identity.
    ManagedIdentity { client_id: Option<String> },
}

/// A secret for the SDK. The settings accept printable ASCII only.
fn sdk_secret(secret: &Secret) -> SdkSecret {
    SdkSecret::new(String::from_utf8_lossy(secret.expose()).into_owned())
}

impl Credentials {
    /// A new credential of the SDK, which has no token yet.
    ///
    /// # Errors
    /// Why it cannot be created.
    pub(crate) async fn sdk_credential(&self, endpoint: &TokenEndpoint) -> Result<Arc<dyn TokenCredential>, CallError> {
        let with_assertion = |directory: &str, client_id: &str, assertion| -> Result<Arc<dyn TokenCredential>, CallError> {
            let options = ClientAssertionCredentialOptions {
                client_options: endpoint.options(),
            };
            let credential = ClientAssertionCredential::new(directory.to_owned(), client_id.to_owned(), assertion, Some(options));
            Ok(credential.map_err(call_error)?)
        };
        let with_secret = |directory: &str, client_id: &str, secret: &Secret| -> Result<Arc<dyn TokenCredential>, CallError> {
            let options = ClientSecretCredentialOptions {
                client_options: endpoint.options(),
            };
            let credential = ClientSecretCredential::new(directory, client_id.to_owned(), sdk_secret(secret), Some(options));
            Ok(credential.map_err(call_error)?)
        };
        match self {
            Self::ClientSecret {
                directory,
                client_id,
                secret,
            } => with_secret(directory, client_id, secret),
            Self::Application {
                directory,
                client_id,
                secret_file,
            } => with_secret(directory, client_id, &operator_file(secret_file).await?),
            Self::Certificate {
                directory,
                client_id,
                certificate,
                key,
            } => {
                let signer = Signer::from_pem(certificate, key).ok_or_else(|| CallError::NoSource {
                    advice: "The connection's certificate can no longer be used: give the connection another one.",
                    cause: "the certificate or its key cannot be parsed".to_owned(),
                })?;
                let assertion = Assertion::Signed {
                    signer,
                    client_id: client_id.clone(),
                    audience: format!("{}{directory}/oauth2/v2.0/token", endpoint.authority),
                };
                with_assertion(directory, client_id, assertion)
            }
            Self::Federated {
                directory,
                client_id,
                token,
            } => with_assertion(directory, client_id, Assertion::Token(Secret::copy_from(token.expose()))),
            Self::TokenFile {
                directory,
                client_id,
                file,
            } => with_assertion(directory, client_id, Assertion::TokenFile(file.clone())),
            Self::ManagedIdentity { client_id } => {
                let mut options = ManagedIdentityCredentialOptions::default();
                options.client_options = endpoint.options();
                options.user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                Ok(ManagedIdentityCredential::new(Some(options)).map_err(call_error)?)
            }
        }
    }

    /// The error for a credential source that returned no token in time.
    pub(crate) fn timed_out(&self) -> CallError {
        match self {
            Self::ManagedIdentity { .. } => CallError::NoSource {
                advice: "No managed identity responds on the gateway's machine: run it in Azure with a managed identity, or make a \
                         connection with another `auth`.",
                cause: "no response in time".to_owned(),
            },
            Self::ClientSecret { .. }
            | Self::Certificate { .. }
            | Self::Federated { .. }
            | Self::TokenFile { .. }
            | Self::Application { .. } => CallError::Timeout,
        }
    }
}
