//! Signs requests with AWS Signature Version 4, as KMS does: over host, date and body.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use claviger_provider::Secret;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::errors::CallError;
use crate::names::Region;

/// The service that a signature is for.
pub(crate) const SERVICE: &str = "kms-xks-proxy";

/// An access key id and its secret. Printed nowhere.
pub(crate) struct KeyPair(Identity);

impl KeyPair {
    /// From a secret of [`crate::auth`]; `None` for another one.
    pub(crate) fn parse(secret: &Secret) -> Option<Self> {
        let (id, key) = std::str::from_utf8(secret.expose()).ok()?.split_once('\n')?;
        Some(Self(Credentials::new(id, key, None, None, "connection").into()))
    }

    /// The headers that sign a POST of this body to this URL.
    ///
    /// # Errors
    /// `Unbuilt`.
    pub(crate) fn sign(&self, region: &Region, url: &Url, body: &[u8], now: SystemTime) -> Result<HeaderMap, CallError> {
        // The hash alone: the signer may log what it signs.
        let body = SignableBody::Precomputed(hex::encode(digest(&SHA256, body)));
        let unbuilt = |error: &dyn std::error::Error| CallError::Unbuilt(error.to_string());
        let params = v4::SigningParams::builder()
            .identity(&self.0)
            .region(region.as_str())
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unbuilt(&error))?
            .into();
        let request = SignableRequest::new("POST", url.as_str(), std::iter::empty(), body).map_err(|error| unbuilt(&error))?;
        let (instructions, _) = sign(request, &params).map_err(|error| unbuilt(&error))?.into_parts();
        let (signed, _) = instructions.into_parts();
        let mut headers = HeaderMap::with_capacity(signed.len() + 1);
        for header in signed {
            let name = HeaderName::from_static(header.name());
            let mut value = HeaderValue::from_str(header.value()).map_err(|error| unbuilt(&error))?;
            value.set_sensitive(name == AUTHORIZATION);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use claviger_provider::Secret;
    use reqwest::header::AUTHORIZATION;

    use super::{KeyPair, Region};

    /// Made by botocore 1.44.8: `SigV4Auth(credentials, "kms-xks-proxy", region).add_auth(request)`.
    #[test]
    fn a_signature_is_that_of_botocore() {
        let pair = KeyPair::parse(&Secret::copy_from(
            b"ABCDEFGHIJKLMNOPQRST\n0123456789012345678901234567890123456789abc",
        ))
        .unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (region, url, body, signature) in [
            (
                "eu-central-1",
                "https://xks.example/kms/xks/v1/health",
                "{}",
                "a913ae4f24db7e970cf5f5ea7a1381a29e3c80bb802b3742390380eeea118f83",
            ),
            (
                "us-east-1",
                "https://xks.example:8443/prefix/of-it/kms/xks/v1/keys/foo._-1/encrypt",
                "{\"plaintext\":\"AAAA\"}",
                "7ca9f461352583f6680f22871360fa6d5b45078276d8d3536175906d52fa5c7b",
            ),
        ] {
            let region = Region::parse(region).unwrap();
            let headers = pair.sign(&region, &url.parse().unwrap(), body.as_bytes(), now).unwrap();
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=ABCDEFGHIJKLMNOPQRST/20231114/{}/kms-xks-proxy/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={signature}",
                region.as_str()
            );
            assert_eq!(headers[AUTHORIZATION], expected);
            assert!(headers[AUTHORIZATION].is_sensitive());
            assert_eq!(headers["x-amz-date"], "20231114T221320Z");
        }
    }
}
