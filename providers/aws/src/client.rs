//! The clients of one connection: KMS and STS, one attempt per call, signed with the
//! connection's session.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region as SdkRegion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::Client as Kms;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{IdentityCache, SharedAsyncSleep, StalledStreamProtectionConfig};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::Client as Sts;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::errors::CallError;
use crate::identity::Session;
use crate::names::Region;

/// The pipeline's attempts are shorter by far; these hold where nobody waits any more.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
pub(crate) const TOTAL: Duration = Duration::from_secs(30);

/// What all clients of a connection have in common. Nothing of it comes from the
/// environment or from files: the SDK's own loader is never asked.
pub(crate) fn base(http: SharedHttpClient, region: &Region, fips: bool, endpoint: Option<&str>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(TOTAL)
        .operation_timeout(TOTAL)
        .build();
    let builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(SdkRegion::new(region.as_str().to_owned()))
        .use_fips(fips)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SystemTimeSource::new())
        // The session keeps them.
        .identity_cache(IdentityCache::no_cache());
    match endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint).build(),
        None => builder.build(),
    }
}

/// KMS and STS as one identity.
pub(crate) struct Clients {
    pub(crate) kms: Kms,
    pub(crate) sts: Sts,
    session: Session,
}

impl Clients {
    pub(crate) fn new(kms: SdkConfig, sts: SdkConfig, session: Session) -> Self {
        let signed = |config: SdkConfig| {
            let credentials = SharedCredentialsProvider::new(session.clone());
            config.into_builder().credentials_provider(credentials).build()
        };
        Self {
            kms: Kms::new(&signed(kms)),
            sts: Sts::new(&signed(sts)),
            session,
        }
    }

    /// One call; a second one with another session when the first was refused because its
    /// session was dropped in mid-flight. A refusal changes nothing at the service, so
    /// repeating it is safe for every call.
    pub(crate) async fn call<T, E, F>(&self, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let generation = self.session.ready().await?;
        match send().await.map_err(CallError::of) {
            Err(refused) if refused.dropped() => {
                if !self.session.refused(generation).await {
                    return Err(refused);
                }
                let result = send().await.map_err(CallError::of);
                if result.as_ref().is_err_and(CallError::dropped) {
                    self.session.hold_off().await;
                }
                result
            }
            other => other,
        }
    }
}
