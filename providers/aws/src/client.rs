//! KMS and STS as one identity in one region: the one place that sends a call and reports it.

use std::error::Error as StdError;

use aws_config::{BehaviorVersion, Region as SdkRegion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::Client as KmsClient;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{IdentityCache, SharedAsyncSleep, StalledStreamProtectionConfig};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_sts::Client as StsClient;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use claviger_provider::kit::http::{CALL_TIMEOUT, CONNECT_TIMEOUT};
use claviger_provider::{CallResult, CallSink, Error, ErrorKind, OpContext, ProviderKeyRef, PublicKeys};

use crate::errors::{CallError, credentials_refused, fault, of_sdk};
use crate::names::{KeyArn, Region};
use crate::session::Session;

/// The SDK configuration that all clients of a connection share. The SDK's own loader is not used, so no
/// setting comes from environment variables or files.
pub(crate) fn base(http: SharedHttpClient, region: &Region, fips: bool, endpoint: Option<&str>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(CALL_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(SdkRegion::new(region.as_str().to_owned()))
        .use_fips(fips)
        // Retries belong to the gateway's pipeline.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SystemTimeSource::new())
        // The session caches the credentials, so the SDK does not.
        .identity_cache(IdentityCache::no_cache());
    match endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint).build(),
        None => builder.build(),
    }
}

/// The calls that change something at AWS.
const CHANGING: [&str; 4] = ["CreateKey", "DisableKey", "EnableKey", "RotateKeyOnDemand"];

/// KMS and STS of one connection. Operations are in `provider`, `lifecycle` and `ownership`.
pub(crate) struct Kms {
    pub(crate) kms: KmsClient,
    pub(crate) sts: StsClient,
    pub(crate) region: Region,
    pub(crate) public_keys: PublicKeys<KeyArn>,
    session: Session,
}

impl Kms {
    pub(crate) fn new(kms: SdkConfig, sts: SdkConfig, region: Region, session: Session) -> Self {
        let signed = |config: SdkConfig| {
            let credentials = SharedCredentialsProvider::new(session.clone());
            config.into_builder().credentials_provider(credentials).build()
        };
        Self {
            kms: KmsClient::new(&signed(kms)),
            sts: StsClient::new(&signed(sts)),
            region,
            public_keys: PublicKeys::default(),
            session,
        }
    }

    /// Makes a call; `operation` is AWS's name of it.
    ///
    /// # Errors
    /// The error of the call.
    pub(crate) async fn call<T, E, F>(&self, cx: &OpContext, operation: &'static str, send: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        T: RequestId,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let result = self.try_call(cx, operation, send).await;
        result.map_err(|error| error.into_error(operation))
    }

    /// As [`Self::call`], for a caller that looks at the error.
    ///
    /// # Errors
    /// The error of the call.
    pub(crate) async fn try_call<T, E, F>(&self, cx: &OpContext, operation: &'static str, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        T: RequestId,
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let attempt = || async {
            let attempt = CallSink::from(cx).begin(operation);
            let attempt = if CHANGING.contains(&operation) {
                attempt.changing()
            } else {
                attempt
            };
            let result = send().await;
            let request_id = result.request_id().map(str::to_owned);
            let result = result.map_err(of_sdk);
            attempt.finish(request_id.as_deref(), CallResult::of(&result, CallError::result));
            result
        };
        self.session.call(cx.login(), credentials_refused, attempt).await
    }

    /// The key that a provider key id names. A key of another region is none of this connection's.
    pub(crate) fn arn(&self, key: &ProviderKeyRef) -> Result<KeyArn, Error> {
        KeyArn::of_id(&key.id, &self.region).ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another region"))
    }
}

/// The bytes of a required member of a response; `part` is its name for the error.
pub(crate) fn bytes(blob: Option<Blob>, part: &'static str) -> Result<Vec<u8>, CallError> {
    let bytes = blob.map(Blob::into_inner).filter(|bytes| !bytes.is_empty());
    bytes.ok_or(CallError::MalformedResponse(part))
}

/// Validates the key that a response names against the one in the request.
pub(crate) fn same_key(returned: Option<&str>, requested: &KeyArn) -> Result<(), CallError> {
    match returned {
        Some(returned) if returned == requested.as_str() => Ok(()),
        Some(_) | None => Err(CallError::MalformedResponse("key")),
    }
}

/// A key without a version: AWS's ciphertexts name none.
pub(crate) fn key_ref(arn: &KeyArn) -> ProviderKeyRef {
    ProviderKeyRef {
        id: arn.id(),
        version: String::new(),
    }
}
