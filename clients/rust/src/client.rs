//! The client and its settings.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::error::{Error, Result};
use crate::random::jitter;
use crate::secret::SecretText;
use crate::tls::Authorities;
use crate::token::{self, BoxError, TokenSource};
use crate::transport::{Http, Transport};

/// The shortest and the longest deadline that the API takes.
pub(crate) const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(9999);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETRIES: u32 = 4;
/// The most characters of a tenant's name or a justification.
const MOST_CHARACTERS: usize = 256;

/// Calls a gateway. Clones share its connections and are cheap.
///
/// Each operation of the API is a method. What a request must have is an argument, and the rest is set on what the method
/// returns, which is sent when it is awaited:
///
/// ```no_run
/// # async fn example(claviger: claviger_client::Client) -> claviger_client::Result<()> {
/// let data_key = claviger.generate_data_key("documents").context([("table", "orders")]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Settings,
}

/// What all clones have in common.
pub(crate) struct Shared {
    /// The address without a slash at its end.
    pub(crate) prefix: String,
    pub(crate) tokens: TokenSource,
    pub(crate) transport: Box<dyn Transport>,
    /// A random pause, at most this long.
    pub(crate) jitter: fn(Duration) -> Duration,
}

/// The settings that may differ between calls.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) tenant: Option<String>,
    pub(crate) justification: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    /// What is wrong with them, which each call returns.
    pub(crate) wrong: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenant: None,
            justification: None,
            timeout: DEFAULT_TIMEOUT,
            retries: DEFAULT_RETRIES,
            wrong: None,
        }
    }
}

impl Settings {
    fn tenant(&mut self, name: String) {
        self.check(is_short(&name), "The tenant is at most 256 printable ASCII characters.");
        self.tenant = Some(name).filter(|name| !name.is_empty());
    }

    fn justification(&mut self, reason: String) {
        self.check(is_short(&reason), "The justification is at most 256 printable ASCII characters.");
        self.justification = Some(reason).filter(|reason| !reason.is_empty());
    }

    fn timeout(&mut self, timeout: Duration) {
        self.check((SHORTEST..=LONGEST).contains(&timeout), "The timeout is between 100 ms and 9999 s.");
        self.timeout = timeout;
    }

    fn check(&mut self, is_right: bool, otherwise: &'static str) {
        if !is_right {
            self.wrong.get_or_insert(otherwise);
        }
    }
}

fn is_short(text: &str) -> bool {
    text.len() <= MOST_CHARACTERS && is_printable(text)
}

pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

impl Client {
    /// Begins a client for the gateway at an address such as `https://claviger.example:8420`. It needs a token, a token file
    /// or a function that returns tokens.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            address: address.into(),
            tokens: Vec::new(),
            authorities: Ok(Authorities::System),
            allow_plain_http: false,
            settings: Settings::default(),
        }
    }

    /// A client of the variables that the command line reads, too; `claviger dev` prints them: see
    /// [`ClientBuilder::from_env`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where one is missing or unusable.
    pub fn from_env() -> Result<Self> {
        ClientBuilder::from_env()?.build()
    }

    /// The same client acting for this tenant, as a platform operator. An empty name ends that.
    #[must_use]
    pub fn with_tenant(&self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.tenant(name.into()))
    }

    /// The same client whose calls have this reason, for their audit records: at most 256 printable ASCII characters.
    #[must_use]
    pub fn with_justification(&self, reason: impl Into<String>) -> Self {
        self.with(|settings| settings.justification(reason.into()))
    }

    /// The same client with another deadline: see [`ClientBuilder::timeout`].
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.with(|settings| settings.timeout(timeout))
    }

    /// The same client with another number of retries: see [`ClientBuilder::retries`].
    #[must_use]
    pub fn with_retries(&self, count: u32) -> Self {
        self.with(|settings| settings.retries = count)
    }

    fn with(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut other = self.clone();
        change(&mut other.settings);
        other
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.shared.prefix).finish()
    }
}

/// The settings of a client.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    address: String,
    tokens: Vec<Result<TokenSource>>,
    authorities: Result<Authorities>,
    allow_plain_http: bool,
    settings: Settings,
}

impl ClientBuilder {
    /// Settings from the environment: `CLAVIGER_ADDRESS`, `CLAVIGER_TOKEN_FILE` (or else `CLAVIGER_TOKEN`), and where it is set
    /// `CLAVIGER_TENANT`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where one is missing.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| env::var_os(name).and_then(|value| value.into_string().ok()))
    }

    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let missing = |name| Error::invalid_argument(format!("{name} must be set; `claviger dev` prints it."));
        let made = Client::builder(given("CLAVIGER_ADDRESS").ok_or_else(|| missing("CLAVIGER_ADDRESS"))?);
        let made = match (given("CLAVIGER_TOKEN_FILE"), given("CLAVIGER_TOKEN")) {
            (Some(file), _) => made.token_file(file),
            (None, Some(token)) => made.token(token),
            (None, None) => return Err(missing("CLAVIGER_TOKEN_FILE")),
        };
        Ok(match given("CLAVIGER_TENANT") {
            Some(tenant) => made.tenant(tenant),
            None => made,
        })
    }

    /// Uses a token: an API token or a JWT.
    pub fn token(mut self, token: impl Into<SecretText>) -> Self {
        self.tokens.push(token::parse(token.into().expose()).map(TokenSource::Fixed));
        self
    }

    /// Reads the token from a file, an API token or a JWT. It is read for each request, so it may be replaced.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tokens.push(Ok(TokenSource::File(path.into())));
        self
    }

    /// Calls the function for each request, from many tasks at once. It returns an API token or a JWT.
    pub fn token_function<F, R>(mut self, function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretText, BoxError>> + Send + 'static,
    {
        self.tokens.push(Ok(TokenSource::function(function)));
        self
    }

    /// Trusts the authorities in a PEM file instead of the system's. The file is read once, now.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let unreadable = |error| {
            let detail = format!("The file of authorities {} cannot be read: {error}.", path.display());
            Error::invalid_argument(detail).source(error)
        };
        self.authorities = std::fs::read(path).map_err(unreadable).and_then(|pem| {
            let none = || Error::invalid_argument(format!("{} is no file with PEM certificates.", path.display()));
            Authorities::from_pem(&pem).ok_or_else(none)
        });
        self
    }

    /// Trusts the authorities in this PEM text instead of the system's.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        let none = || Error::invalid_argument("The text of authorities has no PEM certificates.");
        self.authorities = Authorities::from_pem(pem.as_ref()).ok_or_else(none);
        self
    }

    /// Permits addresses with `http://` of other hosts than this one. Tokens and data keys are then sent unencrypted.
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// Acts for a tenant, as a platform operator.
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.settings.tenant(name.into());
        self
    }

    /// Gives the reason of the calls, for their audit records: at most 256 printable ASCII characters.
    pub fn justification(mut self, reason: impl Into<String>) -> Self {
        self.settings.justification(reason.into());
        self
    }

    /// The deadline of each call with all its retries: 100 ms to 9999 s, by default 30 s. Each request of a list or a batch has
    /// this time. The gateway has a shorter limit of its own for one attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout(timeout);
        self
    }

    /// How often a call is repeated at most, by default 4 times.
    pub fn retries(mut self, count: u32) -> Self {
        self.settings.retries = count;
        self
    }

    /// Makes the client. Sends nothing, and reads no token file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) and [`ErrorKind::Token`](crate::ErrorKind::Token) for
    /// settings that no client can be made of.
    pub fn build(self) -> Result<Client> {
        let prefix = check_address(&self.address, self.allow_plain_http)?;
        let tls = self.authorities?.config(prefix.starts_with("http:"))?;
        let transport = Box::new(Http::new(tls)?);
        Self::client(prefix, self.tokens, self.settings, transport, jitter)
    }

    /// As [`ClientBuilder::build`], with another network and other pauses.
    #[cfg(test)]
    pub(crate) fn build_on(self, transport: Box<dyn Transport>, jitter: fn(Duration) -> Duration) -> Result<Client> {
        let prefix = check_address(&self.address, self.allow_plain_http)?;
        Self::client(prefix, self.tokens, self.settings, transport, jitter)
    }

    fn client(
        prefix: String,
        tokens: Vec<Result<TokenSource>>,
        settings: Settings,
        transport: Box<dyn Transport>,
        jitter: fn(Duration) -> Duration,
    ) -> Result<Client> {
        if let Some(detail) = settings.wrong {
            return Err(Error::invalid_argument(detail));
        }
        let mut tokens = tokens.into_iter();
        let (Some(tokens), None) = (tokens.next(), tokens.next()) else {
            let detail = "Give one of `token`, `token_file` and `token_function`.";
            return Err(Error::invalid_argument(detail));
        };
        let shared = Shared {
            prefix,
            tokens: tokens?,
            transport,
            jitter,
        };
        Ok(Client {
            shared: Arc::new(shared),
            settings,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("tenant", &self.tenant)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Checks the form of an address, and returns it without a slash at its end. No error repeats it: it may have a password.
fn check_address(address: &str, allow_plain_http: bool) -> Result<String> {
    let wrong = |detail: &str| Err(Error::invalid_argument(detail));
    let Ok(url) = Url::parse(address) else {
        return wrong("The address is no URL.");
    };
    let (Some(host), true) = (url.host_str(), matches!(url.scheme(), "http" | "https")) else {
        return wrong("The address begins with http:// or https://, and a host.");
    };
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !is_bare || url.port() == Some(0) {
        return wrong("The address has only a scheme, a host, a port and a path.");
    }
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if url.scheme() == "http" && !is_loopback && !allow_plain_http {
        return wrong("Tokens are sent to another host only over https, or with `allow_plain_http`.");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
