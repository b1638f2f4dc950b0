//! What a call to a key service is for, and which fault it meets.

use std::time::Duration;

use http::{HeaderMap, Method};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It exchanges a secret for a credential: STS AssumeRole, Vault `auth/*/login`, a token endpoint.
    Login,
    /// It prolongs a credential: Vault `auth/token/renew-self`.
    Renewal,
    /// Anything else.
    Operation,
}

/// A call that the proxy read whole. What a swallowed connection sends is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it is for.
    pub kind: Kind,
    /// The service's name of it where the proxy knows it (`Decrypt`, `decrypt`, `unwrapkey`, `login`), its
    /// path otherwise.
    pub operation: String,
    /// The method.
    pub method: Method,
    /// The path and the query, as sent.
    pub path: String,
    /// The number of its connection, from 1.
    pub connection: u64,
    /// The status of the answer; `None` while there is none.
    pub status: Option<u16>,
}

/// Words in a path that name an operation of Transit or Key Vault. The later ones are less specific.
const WORDS: [&str; 12] = [
    "wrapkey",
    "unwrapkey",
    "encrypt",
    "decrypt",
    "rewrap",
    "datakey",
    "rotate",
    "lookup-self",
    "capabilities-self",
    "health",
    "mounts",
    "keys",
];

/// What a call is for, and the name of its operation.
pub(super) fn classify(method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> (Kind, String) {
    if let Some(target) = headers.get("x-amz-target").and_then(|value| value.to_str().ok()) {
        return (Kind::Operation, target.rsplit('.').next().unwrap_or(target).to_owned());
    }
    // STS, and no other service here, sends forms that begin so.
    if let Some(rest) = body.strip_prefix(b"Action=") {
        let action = rest.split(|byte| *byte == b'&').next().unwrap_or_default();
        let action = String::from_utf8_lossy(action).into_owned();
        let kind = if action.starts_with("AssumeRole") {
            Kind::Login
        } else {
            Kind::Operation
        };
        return (kind, action);
    }
    let path = path.split('?').next().unwrap_or(path);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let last = segments.last().copied().unwrap_or_default();
    if let Some((_, verb)) = last.rsplit_once(':') {
        let kind = if verb == "generateAccessToken" {
            Kind::Login
        } else {
            Kind::Operation
        };
        return (kind, verb.to_owned());
    }
    if path.ends_with("/auth/token/renew-self") {
        return (Kind::Renewal, last.to_owned());
    }
    let behind_auth = segments.iter().skip_while(|segment| **segment != "auth");
    if behind_auth.skip(2).any(|segment| *segment == "login") {
        return (Kind::Login, "login".to_owned());
    }
    // The token endpoints of Entra and Google, and of a metadata server.
    if last == "token" && (method == Method::POST || path.contains("/computeMetadata/")) {
        return (Kind::Login, "token".to_owned());
    }
    let word = WORDS.iter().find(|word| segments.contains(word));
    (Kind::Operation, word.map_or_else(|| path.to_owned(), |word| (*word).to_owned()))
}

/// The calls that a fault applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// All of this kind.
    Of(Kind),
    /// Those with this name ([`Call::operation`]).
    Named(String),
    /// Those whose path, as sent, contains this.
    At(String),
    /// Those whose path or body contains this, such as a key's id.
    About(String),
}

impl Which {
    fn matches(&self, call: &Call, body: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Of(kind) => call.kind == *kind,
            Self::Named(name) => call.operation == *name,
            Self::At(part) => call.path.contains(part),
            Self::About(part) => call.path.contains(part) || String::from_utf8_lossy(body).contains(part),
        }
    }
}

/// What a call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It is not handed on, and never answered.
    Hang,
    /// It is handed on, and never answered.
    Lose,
    /// It is not handed on; its connection is reset.
    Reset,
    /// It is handed on after this time.
    Delay(Duration),
    /// It is handed on, and the connection ends within the answer's body.
    Cut,
    /// It is not handed on; this is the answer.
    Respond {
        /// The status.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
}

impl Act {
    /// An answer with a body of JSON.
    pub fn respond(status: u16, body: impl Into<String>) -> Self {
        Self::Respond {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into(),
        }
    }
}

/// A fault, and the calls that meet it.
#[derive(Debug, Clone)]
pub struct Fault {
    which: Which,
    act: Act,
    after: u32,
    times: Option<u32>,
    share: Option<(u32, u32)>,
    seen: u32,
}

impl Fault {
    /// For all these calls.
    pub const fn on(which: Which, act: Act) -> Self {
        Self {
            which,
            act,
            after: 0,
            times: None,
            share: None,
            seen: 0,
        }
    }

    /// For every call.
    pub const fn always(act: Act) -> Self {
        Self::on(Which::Any, act)
    }

    /// For the first `times` of them only.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The first `after` of them pass.
    #[must_use]
    pub const fn after(mut self, after: u32) -> Self {
        self.after = after;
        self
    }

    /// For the first `failing` of every `of` calls.
    #[must_use]
    pub const fn share(mut self, failing: u32, of: u32) -> Self {
        self.share = Some((failing, of));
        self
    }

    /// What this call meets; `None` where it passes.
    fn meet(&mut self, call: &Call, body: &[u8]) -> Option<Act> {
        if !self.which.matches(call, body) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        if let Some((failing, of)) = self.share {
            let number = self.seen % of;
            self.seen += 1;
            if number >= failing {
                return None;
            }
        }
        match &mut self.times {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        Some(self.act.clone())
    }
}

/// The fault that a call with this body meets: the first one that applies.
pub(super) fn meet(faults: &mut [Fault], call: &Call, body: &[u8]) -> Option<Act> {
    faults.iter_mut().find_map(|fault| fault.meet(call, body))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::{Act, Call, Fault, Kind, Which, classify, meet};

    #[test]
    fn calls_are_known_by_what_each_service_sends() {
        let none = HeaderMap::new();
        for (path, body, kind, name) in [
            ("/", "Action=AssumeRole&Version=2011-06-15", Kind::Login, "AssumeRole"),
            ("/", "Action=GetCallerIdentity&Version=1", Kind::Operation, "GetCallerIdentity"),
            ("/v1/auth/approle/login", "{}", Kind::Login, "login"),
            ("/v1/team/auth/userpass/login/ann", "{}", Kind::Login, "login"),
            ("/v1/auth/token/renew-self", "{}", Kind::Renewal, "renew-self"),
            ("/v1/auth/token/lookup-self", "", Kind::Operation, "lookup-self"),
            ("/v1/transit/decrypt/orders", "{}", Kind::Operation, "decrypt"),
            ("/v1/transit/keys/orders/rotate", "{}", Kind::Operation, "rotate"),
            ("/v1/transit/keys/orders", "", Kind::Operation, "keys"),
            ("/1111/oauth2/v2.0/token", "grant_type=x", Kind::Login, "token"),
            ("/keys/orders/12ab/unwrapkey?api-version=7.4", "{}", Kind::Operation, "unwrapkey"),
            ("/v1/token", "{}", Kind::Login, "token"),
            (
                "/v1/projects/-/serviceAccounts/a@b:generateAccessToken",
                "{}",
                Kind::Login,
                "generateAccessToken",
            ),
            (
                "/v1/projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt?$alt=json",
                "{}",
                Kind::Operation,
                "decrypt",
            ),
            ("/elsewhere?x", "", Kind::Operation, "/elsewhere"),
        ] {
            let found = classify(&Method::POST, path, &none, body.as_bytes());
            assert_eq!(found, (kind, name.to_owned()), "{path} {body}");
        }
        let kms = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-target"),
            HeaderValue::from_static("TrentService.Decrypt"),
        )]);
        assert_eq!(classify(&Method::POST, "/", &kms, b"{}"), (Kind::Operation, "Decrypt".to_owned()));
    }

    #[test]
    fn faults_count_the_calls_that_they_apply_to() {
        let call = |kind, operation: &str| Call {
            kind,
            operation: operation.to_owned(),
            method: Method::POST,
            path: "/".to_owned(),
            connection: 1,
            status: None,
        };
        let (login, decrypt) = (call(Kind::Login, "AssumeRole"), call(Kind::Operation, "Decrypt"));
        let mut faults = [
            Fault::on(Which::Of(Kind::Login), Act::Hang).after(1).times(2),
            Fault::on(Which::Named("Decrypt".to_owned()), Act::Reset).share(1, 3),
        ];
        let met: Vec<bool> = (0..5).map(|_| meet(&mut faults, &login, b"").is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
        let met: Vec<bool> = (0..6).map(|_| meet(&mut faults, &decrypt, b"") == Some(Act::Reset)).collect();
        assert_eq!(met, [true, false, false, true, false, false]);
        let mut faults = [Fault::on(Which::About("key/1".to_owned()), Act::Hang)];
        let met = [&b"{\"KeyId\": \"key/1\"}"[..], b"{\"KeyId\": \"key/2\"}"].map(|body| meet(&mut faults, &decrypt, body).is_some());
        assert_eq!(met, [true, false]);
    }
}
