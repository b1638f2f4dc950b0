//! `[server]`: where the API is served, how, and how much of it at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Section;
use super::values::{Address, Count, FilePath, Networks, Period, Switch};

/// The section's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// How the API is spoken there.
    pub transport: Transport,
    /// Where the service endpoints are instead of beside the API.
    pub service: Option<Service>,
    /// Peers whose `Forwarded` headers are believed; empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// How much at once and how slowly.
    pub limits: Limits,
    /// The longest time from a request's head to its answer; a caller can only shorten it.
    pub request_deadline: Duration,
    /// How long `/readyz` says that a shutdown has begun before connections are refused.
    pub drain_delay: Duration,
    /// How long a shutdown waits for what was accepted.
    pub drain_timeout: Duration,
}

/// A listener of the service endpoints' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How a listener is spoken to. Plain HTTP off loopback exists only when the operator asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// HTTP without TLS.
    Plain,
    /// HTTPS.
    Tls(TlsFiles),
}

/// The server's identity, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key: PKCS#8, PKCS#1 or SEC 1.
    pub key: PathBuf,
}

/// The listener's limits. Sizes of bodies are not here: the API's contract fixes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; further ones wait in the system's queue.
    pub max_connections: u32,
    /// Requests in hand at once over all connections; further ones are answered 429 at once.
    pub max_in_flight: u32,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// The longest TLS handshake.
    pub handshake_timeout: Duration,
    /// The longest time from a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_in_flight: 512,
            max_streams: 128,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

impl Server {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let listen = section.setting_or("listen", &Address, SocketAddr::from((Ipv4Addr::LOCALHOST, 8420)));
        let transport = Transport::read(section, "server", listen);
        let service = section.table("service", |section| Service::read(section, listen));
        Self {
            listen,
            transport,
            service,
            trusted_proxies: section.setting_or("trusted_proxies", &Networks, Vec::new()),
            limits: section.table("limits", Limits::read),
            request_deadline: section.setting_or("request_deadline", &seconds(1, 60), Duration::from_secs(10)),
            drain_delay: section.setting_or("drain_delay", &seconds(0, 60), Duration::ZERO),
            drain_timeout: section.setting_or("drain_timeout", &seconds(1, 600), Duration::from_secs(30)),
        }
    }
}

impl Service {
    fn read(section: &mut Section<'_>, api: SocketAddr) -> Option<Self> {
        let wanted = section.is_set();
        let Some(listen) = section.setting("listen", &Address) else {
            // Their names are known and their forms are judged with or without it.
            let _ = Transport::read(section, "server.service", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            section.require(
                !wanted,
                "[server.service] does not say where to listen",
                "`listen` with an IP address and a port",
            );
            return None;
        };
        let transport = Transport::read(section, "server.service", listen);
        section.require(
            listen != api || listen.port() == 0,
            "`server.service.listen` is where the API listens",
            "another address or port",
        );
        Some(Self { listen, transport })
    }
}

impl Transport {
    /// Of the listener of this section, which listens there.
    fn read(section: &mut Section<'_>, name: &str, listen: SocketAddr) -> Self {
        let allow_plain = section.setting_or("allow_plain_http", &Switch, false);
        let tls = section.table("tls", |section| TlsFiles::read(section, name));
        section.require(
            tls.is_some() || allow_plain || listen.ip().is_loopback(),
            &format!("`{name}.listen` is not a loopback address and there is no [{name}.tls]"),
            &format!("a certificate and a key in [{name}.tls], or `{name}.allow_plain_http = true` where something in front speaks TLS"),
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
                section.require(!wanted, &format!("[{of}.tls] is not complete"), "both `certificate` and `key`");
                None
            }
        }
    }
}

impl Limits {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            max_connections: section.setting_or("max_connections", &Count { min: 1, max: 1_000_000 }, default.max_connections),
            max_in_flight: section.setting_or("max_in_flight", &Count { min: 1, max: 100_000 }, default.max_in_flight),
            max_streams: section.setting_or("max_streams", &Count { min: 1, max: 10_000 }, default.max_streams),
            handshake_timeout: section.setting_or("handshake_timeout", &seconds(1, 60), default.handshake_timeout),
            header_timeout: section.setting_or("header_timeout", &seconds(1, 60), default.header_timeout),
            idle_timeout: section.setting_or("idle_timeout", &seconds(1, 3600), default.idle_timeout),
        }
    }
}

fn seconds(min: u64, max: u64) -> Period {
    Period {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}
