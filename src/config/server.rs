//! `[server]`: listeners, TLS, limits, deadlines and shutdown.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Section;
use super::values::{Address, Count, FilePath, Networks, Period, Size, Switch};

/// Settings of `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Plain HTTP or TLS, for the API.
    pub transport: Transport,
    /// Separate listener for the service endpoints. None: they are served beside the API.
    pub service: Option<Service>,
    /// Listener for the operator alone. None: the operator uses the API's.
    pub operator: Option<Operator>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits of a listener.
    pub limits: Limits,
    /// Maximum time from the end of a request's header to its response. A caller may shorten it.
    pub request_deadline: Duration,
    /// How long `/readyz` reports a shutdown before connections are refused.
    pub drain_delay: Duration,
    /// How long a shutdown waits for accepted requests.
    pub drain_timeout: Duration,
}

/// The separate listener for the service endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Plain HTTP or TLS.
    pub transport: Transport,
}

/// The operator's own listener: it serves the API and the service endpoints, with places of its own
/// for connections and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Plain HTTP or TLS.
    pub transport: Transport,
    /// Limits of this listener.
    pub limits: Limits,
}

/// Plain HTTP or TLS. Plain HTTP on other addresses than loopback needs `allow_plain_http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// HTTP without TLS.
    Plain,
    /// HTTPS.
    Tls(TlsFiles),
}

/// The server's certificate and private key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key of the leaf: PKCS#8, PKCS#1 or SEC 1.
    pub key: PathBuf,
}

/// Limits of a listener. Body sizes are not among them: the API fixes those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum open connections. One more takes the place of an idle one, or waits for a place.
    pub max_connections: u32,
    /// Maximum open connections of one source: an IPv4 address, or an IPv6 network of 64 bits. More
    /// are closed at once.
    pub max_connections_per_source: u32,
    /// Sources without such a bound: the trusted proxies.
    pub unlimited_sources: Vec<IpNet>,
    /// Maximum requests in flight over all connections. More requests get 503 immediately. One tenant
    /// can have two thirds of them, one credential half.
    pub max_in_flight: u32,
    /// Maximum bytes of requests and answers in memory over all connections, see [`Limits::bytes_per_connection`].
    pub max_bytes: u64,
    /// Maximum bytes of one tenant's long bodies that are read in a second, after the first 16 MiB. More are
    /// read later.
    pub max_body_rate: u64,
    /// Maximum concurrent requests of one HTTP/2 connection.
    pub max_streams: u32,
    /// Timeout of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum time from a request's first byte to the end of its header.
    pub header_timeout: Duration,
    /// How long a connection without a request stays open.
    pub idle_timeout: Duration,
    /// Over this time a peer must read a KiB/s of the answers that wait for it.
    pub slow_reader_timeout: Duration,
}

impl Limits {
    /// The least and the default of `max_bytes`: one credential's share of it is enough for a batch of
    /// 16 MiB, and all of it for a process of 250 MB.
    pub const LEAST_BYTES: u64 = 128 << 20;

    /// Maximum bytes of requests and answers of one connection: half of all.
    pub fn bytes_per_connection(&self) -> usize {
        usize::try_from(self.max_bytes / 2).unwrap_or(usize::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_source: 256,
            unlimited_sources: Vec::new(),
            max_in_flight: 512,
            max_bytes: Self::LEAST_BYTES,
            max_body_rate: 16 << 20,
            max_streams: 128,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            slow_reader_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The default limits of the operator's listener.
    pub fn of_operator() -> Self {
        Self {
            max_connections: 128,
            max_connections_per_source: 64,
            max_in_flight: 64,
            ..Self::default()
        }
    }
}

impl Server {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let listen = section.setting_or("listen", &Address, SocketAddr::from((Ipv4Addr::LOCALHOST, 8420)));
        let transport = Transport::read(section, "server", listen);
        let trusted_proxies = section.setting_or("trusted_proxies", &Networks, Vec::new());
        let service = section.table("service", |section| {
            let wanted = section.is_set();
            let (listen, transport) = separate(section, wanted, "server.service", &[("the API", Some(listen))])?;
            Some(Service { listen, transport })
        });
        let others = [
            ("the API", Some(listen)),
            ("the service endpoints", service.as_ref().map(|service| service.listen)),
        ];
        let operator = section.table("operator", |section| Operator::read(section, &others, &trusted_proxies));
        Self {
            listen,
            transport,
            service,
            operator,
            limits: section.table("limits", |section| Limits::read(section, Limits::default(), &trusted_proxies)),
            trusted_proxies,
            request_deadline: section.setting_or("request_deadline", &seconds(1, 60), Duration::from_secs(10)),
            drain_delay: section.setting_or("drain_delay", &seconds(0, 60), Duration::ZERO),
            drain_timeout: section.setting_or("drain_timeout", &seconds(1, 600), Duration::from_secs(30)),
        }
    }
}

impl Operator {
    fn read(section: &mut Section<'_>, others: &[(&str, Option<SocketAddr>)], trusted_proxies: &[IpNet]) -> Option<Self> {
        let wanted = section.is_set();
        let limits = section.table("limits", |section| Limits::read(section, Limits::of_operator(), trusted_proxies));
        let (listen, transport) = separate(section, wanted, "server.operator", others)?;
        Some(Self { listen, transport, limits })
    }
}

/// Address and transport of the listener of the section `name`, if the section has settings. It must
/// differ from the `others`, each named by what it serves.
fn separate(section: &mut Section<'_>, wanted: bool, name: &str, others: &[(&str, Option<SocketAddr>)]) -> Option<(SocketAddr, Transport)> {
    let Some(listen) = section.setting("listen", &Address) else {
        // Check the other settings too, so that their mistakes are reported.
        let _ = Transport::read(section, name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        section.require(
            !wanted,
            &format!("[{name}] has no `listen`"),
            "`listen` with an IP address and a port",
        );
        return None;
    };
    let transport = Transport::read(section, name, listen);
    for (other, address) in others {
        section.require(
            *address != Some(listen) || listen.port() == 0,
            &format!("`{name}.listen` is the address of {other}"),
            "another address or port",
        );
    }
    Some((listen, transport))
}

impl Transport {
    /// Reads it for the section `name`, whose listener has the address `listen`.
    fn read(section: &mut Section<'_>, name: &str, listen: SocketAddr) -> Self {
        let allow_plain = section.setting_or("allow_plain_http", &Switch, false);
        let tls = section.table("tls", |section| TlsFiles::read(section, name));
        section.require(
            tls.is_some() || allow_plain || listen.ip().is_loopback(),
            &format!("`{name}.listen` is not a loopback address and there is no [{name}.tls]"),
            &format!("a certificate and a key in [{name}.tls], or `{name}.allow_plain_http = true` where a proxy in front terminates TLS"),
        );
        tls.map_or(Self::Plain, Self::Tls)
    }
}

impl TlsFiles {
    fn read(section: &mut Section<'_>, of: &str) -> Option<Self> {
        let wanted = section.is_set();
        let certificate = section.setting("certificate", &FilePath);
        let key = section.setting("key", &FilePath);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self { certificate, key }),
            (None, None) | (Some(_), None) | (None, Some(_)) => {
                section.require(!wanted, &format!("[{of}.tls] is incomplete"), "both `certificate` and `key`");
                None
            }
        }
    }
}

impl Limits {
    fn read(section: &mut Section<'_>, default: Self, trusted_proxies: &[IpNet]) -> Self {
        let connections = Count { min: 1, max: 1_000_000 };
        Self {
            max_connections: section.setting_or("max_connections", &connections, default.max_connections),
            max_connections_per_source: section.setting_or("max_connections_per_source", &connections, default.max_connections_per_source),
            unlimited_sources: trusted_proxies.to_vec(),
            max_in_flight: section.setting_or("max_in_flight", &Count { min: 1, max: 100_000 }, default.max_in_flight),
            max_bytes: section.setting_or(
                "max_bytes",
                &Size {
                    min: Self::LEAST_BYTES,
                    max: 1 << 40,
                },
                default.max_bytes,
            ),
            max_body_rate: section.setting_or(
                "max_body_rate",
                &Size {
                    min: 1 << 20,
                    max: 1 << 40,
                },
                default.max_body_rate,
            ),
            max_streams: section.setting_or("max_streams", &Count { min: 1, max: 10_000 }, default.max_streams),
            handshake_timeout: section.setting_or("handshake_timeout", &seconds(1, 60), default.handshake_timeout),
            header_timeout: section.setting_or("header_timeout", &seconds(1, 60), default.header_timeout),
            idle_timeout: section.setting_or("idle_timeout", &seconds(1, 3600), default.idle_timeout),
            slow_reader_timeout: section.setting_or("slow_reader_timeout", &seconds(1, 600), default.slow_reader_timeout),
        }
    }
}

fn seconds(min: u64, max: u64) -> Period {
    Period {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}
