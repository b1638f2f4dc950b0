//! `[providers]`: how providers are called, unless a connection overrides it.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::values::{Count, Endpoint, Endpoints, FilePath, Period, ShortText};

/// Settings of `[providers]`: defaults of the pipeline in front of each provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Providers {
    /// Timeout of one attempt; at most the request deadline. Default: 3 s, or the request deadline
    /// if that is shorter.
    pub attempt_timeout: Duration,
    /// Timeout of a key's creation at a provider; at least that of an attempt. A request waits for it until its
    /// own deadline only.
    pub creation_timeout: Duration,
    /// Number of retries, of idempotent operations only.
    pub retries: u32,
    /// Maximum number of concurrent calls of one connection.
    pub concurrency: u32,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// Settings for all AWS connections.
    pub aws: Aws,
    /// Settings for all Azure connections.
    pub azure: Azure,
    /// Settings for all Google connections.
    pub gcp: Gcp,
}

/// Additions to Azure's own clouds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Azure {
    /// Addresses of Key Vaults outside Azure's clouds.
    pub vaults: Vec<String>,
    /// Addresses of Managed HSMs outside Azure's clouds.
    pub managed_hsms: Vec<String>,
    /// Issuer of tokens for these.
    pub authority: Option<String>,
    /// Resource of the tokens for these Key Vaults.
    pub vault_resource: Option<String>,
    /// Resource of the tokens for these Managed HSMs.
    pub managed_hsm_resource: Option<String>,
    /// The operator's application, which customers admit to their directories.
    pub application: Option<AzureApplication>,
}

/// A multi-tenant application of Microsoft Entra ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureApplication {
    /// The application's client id.
    pub client_id: String,
    /// File with its client secret.
    pub secret_file: PathBuf,
}

/// Endpoints instead of those of each connection's region: a VPC endpoint or an emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aws {
    /// Endpoint of KMS.
    pub kms_endpoint: Option<String>,
    /// Endpoint of STS.
    pub sts_endpoint: Option<String>,
}

/// Endpoints instead of Google's own: of a private network or an emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gcp {
    /// Endpoint of Cloud KMS.
    pub kms_endpoint: Option<String>,
    /// Endpoint of the Security Token Service, which exchanges tokens of workloads.
    pub sts_endpoint: Option<String>,
    /// Endpoint of the IAM credentials API, which issues tokens of impersonated service accounts.
    pub iam_endpoint: Option<String>,
}

/// Settings of the circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Consecutive failures that open the circuit.
    pub failures: u32,
    /// How long the circuit stays open before one call may probe the provider.
    pub open_for: Duration,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(3),
            creation_timeout: Duration::from_secs(30),
            retries: 2,
            concurrency: 64,
            breaker: Breaker {
                failures: 5,
                open_for: Duration::from_secs(5),
            },
            aws: Aws::default(),
            azure: Azure::default(),
            gcp: Gcp::default(),
        }
    }
}

impl Providers {
    pub(super) fn read(section: &mut Section<'_>, request_deadline: Duration) -> Self {
        let defaults = Self::default();
        let attempt = Period {
            min: Duration::from_millis(50),
            max: Duration::from_secs(30),
        };
        let attempt_timeout = section.setting_or("attempt_timeout", &attempt, defaults.attempt_timeout.min(request_deadline));
        section.require(
            attempt_timeout <= request_deadline,
            "`providers.attempt_timeout` is longer than `server.request_deadline`",
            "an attempt that fits into the request",
        );
        let creation = Period {
            min: Duration::from_secs(1),
            max: Duration::from_secs(300),
        };
        let creation_timeout = section.setting_or("creation_timeout", &creation, defaults.creation_timeout);
        section.require(
            attempt_timeout <= creation_timeout,
            "`providers.creation_timeout` is shorter than `providers.attempt_timeout`",
            "the time of an attempt or more",
        );
        Self {
            attempt_timeout,
            creation_timeout,
            retries: section.setting_or("retries", &Count { min: 0, max: 2 }, defaults.retries),
            concurrency: section.setting_or("concurrency", &Count { min: 1, max: 4096 }, defaults.concurrency),
            breaker: section.table("breaker", |breaker| {
                let open = Period {
                    min: Duration::from_millis(100),
                    max: Duration::from_secs(300),
                };
                Breaker {
                    failures: breaker.setting_or("failures", &Count { min: 1, max: 1000 }, defaults.breaker.failures),
                    open_for: breaker.setting_or("open_for", &open, defaults.breaker.open_for),
                }
            }),
            aws: section.table("aws", |aws| Aws {
                kms_endpoint: aws.setting("kms_endpoint", &Endpoint),
                sts_endpoint: aws.setting("sts_endpoint", &Endpoint),
            }),
            azure: section.table("azure", |azure| Azure {
                vaults: azure.setting_or("vaults", &Endpoints, Vec::new()),
                managed_hsms: azure.setting_or("managed_hsms", &Endpoints, Vec::new()),
                authority: azure.setting("authority", &Endpoint),
                vault_resource: azure.setting("vault_resource", &Endpoint),
                managed_hsm_resource: azure.setting("managed_hsm_resource", &Endpoint),
                application: azure.table("application", |application| {
                    let client_id = application.setting("client_id", &ShortText { max: 64 });
                    let secret_file = application.setting("secret_file", &FilePath);
                    application.require(
                        client_id.is_some() == secret_file.is_some(),
                        "`providers.azure.application` has only one of its two settings",
                        "both client_id and secret_file, or neither",
                    );
                    client_id
                        .zip(secret_file)
                        .map(|(client_id, secret_file)| AzureApplication { client_id, secret_file })
                }),
            }),
            gcp: section.table("gcp", |gcp| Gcp {
                kms_endpoint: gcp.setting("kms_endpoint", &Endpoint),
                sts_endpoint: gcp.setting("sts_endpoint", &Endpoint),
                iam_endpoint: gcp.setting("iam_endpoint", &Endpoint),
            }),
        }
    }
}
