//! `[providers]`: how every provider is called, unless its connection says otherwise.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::values::{Count, Endpoint, Endpoints, FilePath, Period, ShortText};

/// The section's settings: the defaults of the pipeline that stands before each provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Providers {
    /// The longest single attempt; at most the request's deadline, and by default 3 s or that.
    pub attempt_timeout: Duration,
    /// Further attempts after a first that failed, of idempotent operations only.
    pub retries: u32,
    /// Calls under way at once on one connection.
    pub concurrency: u32,
    /// When a failing provider is left alone.
    pub breaker: Breaker,
    /// What all connections to AWS have in common.
    pub aws: Aws,
    /// What all connections to Azure have in common.
    pub azure: Azure,
    /// What all connections to Google have in common.
    pub gcp: Gcp,
}

/// What the operator adds to Azure's own clouds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Azure {
    /// Addresses of Key Vaults beside those of the clouds.
    pub vaults: Vec<String>,
    /// Addresses of Managed HSMs beside those of the clouds.
    pub managed_hsms: Vec<String>,
    /// The authority that gives out tokens for these.
    pub authority: Option<String>,
    /// The operator's application, which customers admit in their directories.
    pub application: Option<AzureApplication>,
}

/// An application in many directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureApplication {
    /// Its id.
    pub client_id: String,
    /// A file with its secret.
    pub secret_file: PathBuf,
}

/// Endpoints instead of those of each connection's region, in a private network or of an
/// emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aws {
    /// For KMS.
    pub kms_endpoint: Option<String>,
    /// For STS.
    pub sts_endpoint: Option<String>,
}

/// Endpoints instead of Google's own, in a private network or of an emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gcp {
    /// For Cloud KMS.
    pub kms_endpoint: Option<String>,
    /// For the exchange of workloads' tokens.
    pub sts_endpoint: Option<String>,
    /// For the tokens of service accounts that are impersonated.
    pub iam_endpoint: Option<String>,
}

/// The circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before one call may try again.
    pub open_for: Duration,
}

impl Providers {
    pub(super) fn read(section: &mut Section<'_>, request_deadline: Duration) -> Self {
        let attempt = Period {
            min: Duration::from_millis(50),
            max: Duration::from_secs(30),
        };
        let attempt_timeout = section.setting_or("attempt_timeout", &attempt, Duration::from_secs(3).min(request_deadline));
        section.require(
            attempt_timeout <= request_deadline,
            "`providers.attempt_timeout` is longer than `server.request_deadline`",
            "an attempt that fits into the request",
        );
        Self {
            attempt_timeout,
            retries: section.setting_or("retries", &Count { min: 0, max: 2 }, 2),
            concurrency: section.setting_or("concurrency", &Count { min: 1, max: 4096 }, 64),
            breaker: section.table("breaker", |breaker| {
                let open = Period {
                    min: Duration::from_millis(100),
                    max: Duration::from_secs(300),
                };
                Breaker {
                    failures: breaker.setting_or("failures", &Count { min: 1, max: 1000 }, 5),
                    open_for: breaker.setting_or("open_for", &open, Duration::from_secs(5)),
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
                application: azure.table("application", |application| {
                    let client_id = application.setting("client_id", &ShortText { max: 64 });
                    let secret_file = application.setting("secret_file", &FilePath);
                    application.require(
                        client_id.is_some() == secret_file.is_some(),
                        "`providers.azure.application` has one of its two settings",
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
