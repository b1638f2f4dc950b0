//! Verifies signatures of AWS Signature Version 4. `tests/vendors/xks` holds it against botocore's own signer, which
//! knows nothing of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use axum::http::request::Parts;
use axum::http::{HeaderName, header};
use chrono::NaiveDateTime;

use crate::access::{AccessKey, Settings};
use crate::responses::{Refusal, Result};

/// The service that signatures name.
pub const SERVICE: &str = "kms-xks-proxy";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const END: &str = "aws4_request";
/// How far the date of a request may be from the fake's.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// The parts of the header `Authorization`.
struct Authorization<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let members: BTreeMap<&str, &str> = rest.split(',').filter_map(|member| member.trim().split_once('=')).collect();
        let scope: Vec<&str> = members.get("Credential")?.split('/').collect();
        let [access_key_id, date, region, service, END] = scope[..] else {
            return None;
        };
        Some(Self {
            access_key_id,
            date,
            region,
            service,
            signed_headers: members.get("SignedHeaders")?,
            signature: members.get("Signature")?,
        })
    }
}

/// Verifies the signature of a request, and returns the id of the access key.
pub(crate) fn verified(request: &Parts, body: &[u8], settings: &Settings, now: SystemTime) -> Result<String> {
    let refused = Refusal::unauthenticated;
    let authorization = text(request, &header::AUTHORIZATION).ok_or_else(|| refused("There is no signature."))?;
    let authorization = Authorization::parse(&authorization).ok_or_else(|| refused("The signature has another form."))?;
    let time = text(request, &HeaderName::from_static("x-amz-date")).ok_or_else(|| refused("There is no X-Amz-Date."))?;
    let sent = parse_time(&time).ok_or_else(|| refused("X-Amz-Date has another form."))?;
    let difference = now.duration_since(sent).unwrap_or_else(|ahead| ahead.duration());
    if difference > MAX_SKEW {
        return Err(refused("The clocks differ by more than five minutes."));
    }
    if !time.starts_with(authorization.date) || authorization.date.len() != 8 {
        return Err(refused("The date of the scope is another one."));
    }
    if (authorization.region, authorization.service) != (settings.region.as_str(), SERVICE) {
        return Err(refused("The signature is for another region or service."));
    }
    let known = settings.access_keys.iter().find(|key| key.id == authorization.access_key_id);
    let known = known.ok_or_else(|| refused("The access key is not known."))?;
    let canonical = canonical(request, body, authorization.signed_headers).ok_or_else(|| refused("A signed header is missing."))?;
    let expected = signature(known, &authorization, &time, &canonical);
    let right = verify_slices_are_equal(expected.as_bytes(), authorization.signature.as_bytes()).is_ok();
    right
        .then(|| known.id.clone())
        .ok_or_else(|| refused("The signature does not match."))
}

fn text(request: &Parts, name: &HeaderName) -> Option<String> {
    request.headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The canonical request; `None` if a header that must be signed is not, or one that is signed is missing.
fn canonical(request: &Parts, body: &[u8], signed_headers: &str) -> Option<String> {
    let names: Vec<&str> = signed_headers.split(';').collect();
    if !names.is_sorted() || !["host", "x-amz-date"].iter().all(|needed| names.contains(needed)) {
        return None;
    }
    let mut headers = String::new();
    for name in &names {
        let values = match *name {
            // HTTP/2 has no header for it.
            "host" => match request.uri.authority() {
                Some(authority) => authority.to_string(),
                None => text(request, &header::HOST)?,
            },
            name => {
                let all = request.headers.get_all(name).iter();
                let all: Option<Vec<&str>> = all.map(|value| value.to_str().ok()).collect();
                all.filter(|all| !all.is_empty())?.join(",")
            }
        };
        let collapsed: Vec<&str> = values.split_ascii_whitespace().collect();
        headers.push_str(&format!("{name}:{}\n", collapsed.join(" ")));
    }
    let mut query: Vec<&str> = request
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty())
        .collect();
    query.sort_unstable();
    Some(format!(
        "{}\n{}\n{}\n{headers}\n{signed_headers}\n{}",
        request.method,
        encoded(request.uri.path()),
        query.join("&"),
        hex::encode(digest(&SHA256, body))
    ))
}

/// The path as it is signed: percent-encoded once more than it was sent.
fn encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn signature(key: &AccessKey, authorization: &Authorization<'_>, time: &str, canonical: &str) -> String {
    let Authorization { date, region, service, .. } = authorization;
    let scope = format!("{date}/{region}/{service}/{END}");
    let to_sign = format!(
        "{ALGORITHM}\n{time}\n{scope}\n{}",
        hex::encode(digest(&SHA256, canonical.as_bytes()))
    );
    let first = format!("AWS4{}", key.secret).into_bytes();
    let signing = [*date, *region, *service, END]
        .iter()
        .fold(first, |key, part| authenticated(&key, part.as_bytes()));
    hex::encode(authenticated(&signing, to_sign.as_bytes()))
}

fn authenticated(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

/// Parses `YYYYMMDDTHHMMSSZ`.
fn parse_time(text: &str) -> Option<SystemTime> {
    let time = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ")
        .ok()
        .filter(|_| text.len() == 16)?;
    let seconds = u64::try_from(time.and_utc().timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use axum::http::Request;
    use axum::http::request::Parts;

    use super::{Settings, parse_time, verified};

    /// When the signatures were made.
    const SIGNED: u64 = 1_700_000_000;

    /// A request and its signature.
    type Signed = (
        &'static str,
        Option<(&'static str, &'static str)>,
        &'static str,
        &'static str,
        &'static str,
    );

    /// Made by botocore 1.44.8: URL, header, body, signed headers and signature.
    const OF_BOTOCORE: [Signed; 5] = [
        (
            "http://127.0.0.1:4566/kms/xks/v1/health",
            None,
            "{}",
            "host;x-amz-date",
            "f7efa388d76beb7859f7134aa74f70329a4296c79b0e20457b0e546f66bc66d7",
        ),
        (
            "https://xks.example/a/b-c_d/kms/xks/v1/keys/foo._-1/encrypt",
            Some(("content-type", "application/json")),
            "{\"plaintext\":\"AAAA\"}",
            "content-type;host;x-amz-date",
            "c12ac69135a602c62921cf853523e96b77452d8ab997f42185eae38e25725672",
        ),
        (
            "https://xks.example:8443/kms/xks/v1/keys/foo/decrypt",
            Some(("x-odd", "  two   spaces  ")),
            "",
            "content-type;host;x-amz-date;x-odd",
            "c0f7eee48639ef421d64e97cde19d782020e1c12d0edc37f696840b6b224f89d",
        ),
        (
            "https://xks.example/kms/xks/v1/keys/a%2Fb%20c/metadata",
            None,
            "\u{e4}",
            "host;x-amz-date",
            "4c5440ade8076451c0a9357294d11f531645059ef6a85869b077ec6035bda304",
        ),
        (
            "https://xks.example/kms/xks/v1/health?b=2&a=1",
            None,
            "{}",
            "host;x-amz-date",
            "b78c7b9b8baa5f9ae75152f11f662c8a85c819eae650b2bc01b0ab1010d14e66",
        ),
    ];

    fn request(url: &str, more: Option<(&str, &str)>, signed: &str, signature: &str) -> Parts {
        let credential = "CLAVIGERFAKEXKSPROXY/20231114/eu-central-1/kms-xks-proxy/aws4_request";
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}");
        let mut request = Request::post(url)
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .header("x-amz-date", "20231114T221320Z");
        if let Some((name, value)) = more.filter(|(name, _)| *name != "content-type") {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn accepts(request: &Parts, body: &str, settings: &Settings, now: SystemTime) -> bool {
        verified(request, body.as_bytes(), settings, now).is_ok()
    }

    #[test]
    fn what_botocore_signs_is_accepted_and_nothing_else() {
        let (settings, now) = (Settings::default(), UNIX_EPOCH + Duration::from_secs(SIGNED));
        for (url, more, body, signed, signature) in OF_BOTOCORE {
            let sound = || request(url, more, signed, signature);
            assert_eq!(verified(&sound(), body.as_bytes(), &settings, now).unwrap(), "CLAVIGERFAKEXKSPROXY");
            let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
            for right in [now + minutes(5), now - minutes(5)] {
                assert!(accepts(&sound(), body, &settings, right), "{url}");
            }
            for wrong in [now + minutes(6), now - minutes(6)] {
                assert!(!accepts(&sound(), body, &settings, wrong), "{url}");
            }
            assert!(!accepts(&sound(), &format!("{body} "), &settings, now), "another body");
            let path = url.replace("/v1/", "/v1/x");
            assert!(
                !accepts(&request(&path, more, signed, signature), body, &settings, now),
                "another path"
            );
            let host = url.replace("://", "://x");
            assert!(
                !accepts(&request(&host, more, signed, signature), body, &settings, now),
                "another host"
            );
            let fewer = signed.trim_start_matches("content-type;");
            if fewer != signed {
                assert!(
                    !accepts(&request(url, more, fewer, signature), body, &settings, now),
                    "fewer headers"
                );
            }
            assert!(
                !accepts(&request(url, more, "x-amz-date", signature), body, &settings, now),
                "without the host"
            );
            let mut post = sound();
            post.method = axum::http::Method::PUT;
            assert!(!accepts(&post, body, &settings, now), "another method");
            let mut other = settings.clone();
            other.access_keys[0].secret.push('0');
            assert!(!accepts(&sound(), body, &other, now), "another secret");
            other.access_keys.clear();
            assert!(!accepts(&sound(), body, &other, now), "no access key");
            let region = Settings {
                region: "us-east-1".to_owned(),
                ..settings.clone()
            };
            assert!(!accepts(&sound(), body, &region, now), "another region");
        }
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(parse_time("20231114T221320Z").unwrap(), UNIX_EPOCH + Duration::from_secs(SIGNED));
        for text in [
            "",
            "20231114T221320",
            "20231314T221320Z",
            "2023-11-14T22:13Z",
            "20231114 221320Z",
            "2023111aT221320Z",
            "19691231T235959Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
