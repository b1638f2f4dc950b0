//! The options of a connection's HTTP client: its CA certificates (`ca`) and proxy, and limits that are
//! the same for every adapter.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::egress::{Authorities, ClientCertificate, Egress, Options};
use crate::error::{Error, ErrorKind};
use crate::ids::ProviderKind;
use crate::sever_switch::SeverSwitch;

/// Timeout for opening a connection. The pipeline's attempt timeout is usually shorter; this one ends
/// calls whose caller has stopped waiting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a whole call, for the same reason.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum response, in bytes. The longest expected one, a key with 10,000 versions, has under 300 KiB.
pub const MAX_RESPONSE: usize = 1 << 20;

/// The longest pause that a provider can ask for.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The pause that a response asks for with `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date of HTTP's by the
/// gateway's clock. At most [`MAX_PAUSE`]; none for a date that is over. `None` without the header, or where it is
/// neither.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    pause(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// The pause that the text of a header `Retry-After` asks for.
pub fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(MAX_PAUSE, Duration::from_secs).min(MAX_PAUSE));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(MAX_PAUSE))
}

/// How far the clock of whoever responded is from `now`, by the header `Date` (RFC 9110, section 6.6.1); `None` without
/// it.
pub fn clock_difference(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(now.duration_since(date).unwrap_or_else(|ahead| ahead.duration()))
}

/// The network settings of a connection.
pub struct ConnectionHttp<'a> {
    /// The setting `ca`: certificates as PEM text, trusted instead of the system's.
    pub ca: Option<&'a str>,
    /// The setting `proxy`.
    pub proxy: Option<&'a str>,
    /// What the connection shows to a server that asks for a client certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// The connection's switch.
    pub switch: SeverSwitch,
}

impl ConnectionHttp<'_> {
    /// The options of the connection's client, with the limits of this module.
    ///
    /// # Errors
    /// `Misconfigured` when the stored certificates cannot be read, or the operator's egress policy
    /// no longer permits the proxy.
    pub fn options(self, egress: &Egress, provider: ProviderKind) -> Result<Options, Error> {
        let misconfigured = |context: &'static str| Error::new(ErrorKind::Misconfigured, context).provider(provider);
        let authorities = match self.ca {
            Some(pem) => Authorities::from_pem(pem).ok_or_else(|| misconfigured("the stored CA certificates cannot be read"))?,
            None => Authorities::System,
        };
        let proxy = self.proxy.map(|address| egress.proxy(address)).transpose();
        let proxy = proxy.map_err(|error| {
            misconfigured("the stored proxy is no longer permitted")
                .advice("The gateway may not reach the connection's proxy; the operator allows it in [egress].")
                .source(error)
        })?;
        Ok(Options {
            provider,
            authorities,
            client_certificate: self.client_certificate,
            proxy,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: CALL_TIMEOUT,
            max_response: MAX_RESPONSE,
            switch: self.switch,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use reqwest::header::{DATE, HeaderMap, HeaderValue};

    use super::{MAX_PAUSE, clock_difference, pause};

    #[test]
    fn clocks_differ_by_the_date_of_a_response() {
        let date = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"))]);
        let minute = Duration::from_secs(60);
        for (now, difference) in [(date, Duration::ZERO), (date + minute, minute), (date - minute, minute)] {
            assert_eq!(clock_difference(&headers, now), Some(difference));
        }
        let odd = HeaderMap::from_iter([(DATE, HeaderValue::from_static("soon"))]);
        assert_eq!(
            (clock_difference(&odd, date), clock_difference(&HeaderMap::new(), date)),
            (None, None)
        );
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_and_bounded() {
        // The date of RFC 9110's examples, in its three forms.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 7);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("31536000", Some(60)),
            ("99999999999999999999999999", Some(60)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun Nov  6 08:49:37 1994", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Fri, 01 Jan 2100 00:00:00 GMT", Some(60)),
            ("", None),
            ("-1", None),
            ("2.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ] {
            assert_eq!(pause(text, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(MAX_PAUSE.as_secs(), 60);
    }
}
