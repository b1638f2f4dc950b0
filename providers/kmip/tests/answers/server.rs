//! A KMIP server with one key, over TLS with client certificates, whose answers a test spoils.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{
    Algorithm, BoundContext, ConnectionParts, Factory, Kek, KeyId, KeySpec, ProviderKeyRef, SecretFiles, SettingsOrigin, SeverSwitch,
    Wrapped,
};
use claviger_provider_kmip::ttlv::{HEADER, parse, total_length};
use claviger_provider_kmip::{KmipFactory, KmipProvider};
pub use claviger_testkit::connection::CertificateFiles;
use claviger_testkit::connection::parts;
pub use claviger_testkit::values::cx;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::responses::{BATCH_ITEM, CORRELATION, HEADER as HEADER_TAG, KEY, OPERATION, member, response};

/// What is wrong with an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It has the id of another request.
    OtherId,
    /// It is twice there.
    Twice,
    /// It ends in the middle, and the connection with it.
    Half,
    /// There is none, and the connection stays open.
    Hang,
    /// It comes after this time.
    Late(Duration),
    /// There is none, and the connection ends.
    Close,
    /// These bytes instead.
    Raw(Vec<u8>),
    /// It names another key.
    OtherKey,
    /// A refusal with this reason.
    Refuse(u32),
    /// A refusal of the message as a whole.
    RefuseMessage(u32),
    /// It is still worked on.
    Pending,
    /// A bit of the tag, or of the plaintext, is another one.
    Flip,
    /// The server uses another initialization vector, and says so or not.
    OwnIv { told: bool },
}

/// The fault of some requests of one operation.
struct Planned {
    operation: u32,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
pub struct State {
    planned: VecDeque<Planned>,
    /// The requests so far: connection, operation.
    requests: Vec<(usize, u32)>,
    opened: usize,
    open: usize,
    most_open: usize,
    pub versions: Vec<(i32, i32)>,
    pub created: Option<Vec<u32>>,
    /// The name of the last key that was made, and whether it is active.
    pub made: Option<(String, bool)>,
    usage_mask: i32,
    /// The Client Correlation Values of requests that had one.
    correlations: Vec<String>,
}

impl State {
    pub fn usage_mask(&self) -> i32 {
        self.usage_mask
    }
}

/// An authority with a server's and a client's certificate.
pub struct Certificates {
    pub ca: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    /// The year with which the server's ends.
    pub server_until: i32,
}

/// A year with which a certificate ends that is valid, and one of an expired certificate.
pub const LATER: i32 = 2999;
pub const PAST: i32 = 2021;

impl Certificates {
    pub fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        Self {
            ca: authority.pem(),
            authority,
            server_until: LATER,
        }
    }

    fn make(&self, purpose: ExtendedKeyUsagePurpose, until: i32) -> (rcgen::Certificate, KeyPair) {
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "::1".to_owned()]).unwrap();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.extended_key_usages = vec![purpose];
        leaf.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        (leaf.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// A client's certificate and key, as PEM.
    pub fn client(&self) -> (String, String) {
        self.client_until(LATER)
    }

    /// The same, of a certificate that ends with this year.
    pub fn client_until(&self, year: i32) -> (String, String) {
        let (certificate, key) = self.make(ExtendedKeyUsagePurpose::ClientAuth, year);
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self) -> ServerConfig {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (certificate, key) = self.make(ExtendedKeyUsagePurpose::ServerAuth, self.server_until);
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        ServerConfig::builder()
            .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// A running server. Its connections end with it.
pub struct Server {
    pub certificates: Arc<Certificates>,
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Connections of an earlier number read on and answer nothing.
    swallowed: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(Certificates::new())).await
    }

    pub async fn start_on(address: SocketAddr, certificates: Arc<Certificates>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = State {
            versions: vec![(2, 0), (1, 4)],
            usage_mask: 12,
            ..State::default()
        };
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            swallowed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            certificates: Arc::clone(&certificates),
        };
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server()));
        let (state, swallowed, mut stop) = (Arc::clone(&server.state), server.swallowed.subscribe(), server.stop.subscribe());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _stopped = stop.changed() => return,
                };
                let (acceptor, state, swallowed, mut stop) = (acceptor.clone(), Arc::clone(&state), swallowed.clone(), stop.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(accepted.unwrap().0).await else {
                        return;
                    };
                    let number = {
                        let mut state = state.lock().unwrap();
                        state.opened += 1;
                        state.open += 1;
                        state.most_open = state.most_open.max(state.open);
                        state.opened
                    };
                    tokio::select! {
                        () = serve(stream, number, &state, swallowed) => {}
                        _stopped = stop.changed() => {}
                    }
                    state.lock().unwrap().open -= 1;
                });
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Spoils the answers to the next requests of an operation.
    pub fn plan(&self, operation: u32, fault: Fault, times: usize) {
        self.state().planned.push_back(Planned { operation, fault, times });
    }

    pub fn speak(&self, versions: &[(i32, i32)]) {
        self.state().versions = versions.to_vec();
    }

    /// Changes what the key may be used for.
    pub fn permit(&self, usage_mask: i32) {
        self.state().usage_mask = usage_mask;
    }

    /// The Client Correlation Values so far.
    pub fn correlations(&self) -> Vec<String> {
        self.state().correlations.clone()
    }

    /// The connections on which requests of an operation came.
    pub fn connections_of(&self, operation: u32) -> Vec<usize> {
        let state = self.state();
        let of = state.requests.iter().filter(|(_, other)| *other == operation);
        of.map(|(connection, _)| *connection).collect()
    }

    /// The connections so far.
    pub fn opened(&self) -> usize {
        self.state().opened
    }

    pub fn open(&self) -> usize {
        self.state().open
    }

    pub fn most_open(&self) -> usize {
        self.state().most_open
    }

    /// The tags of the attributes with which a key was made last.
    pub fn created(&self) -> Option<Vec<u32>> {
        self.state().created.clone()
    }

    /// The connections that are open now are read, and not answered any more.
    pub fn swallow_open(&self) {
        let opened = self.opened();
        self.swallowed.send_replace(opened);
    }

    /// Ends all connections, and listens no more.
    pub async fn stop(self) -> (SocketAddr, Arc<Certificates>) {
        self.stop.send_replace(true);
        while self.open() > 0 || TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (self.address, Arc::clone(&self.certificates))
    }

    pub fn connect(&self, more: &Json) -> KmipProvider {
        self.connect_with(more, SeverSwitch::default(), None)
    }

    pub fn connect_with(&self, more: &Json, switch: SeverSwitch, files: Option<Arc<dyn SecretFiles>>) -> KmipProvider {
        self.connect_parts(more, |parts| ConnectionParts { switch, files, ..parts })
    }

    /// A connection with parts that `change` changes.
    pub fn connect_parts(&self, more: &Json, change: impl FnOnce(ConnectionParts<'_>) -> ConnectionParts<'_>) -> KmipProvider {
        let (certificate, key) = self.certificates.client();
        let mut settings = json!({
            "address": self.address.to_string(),
            "ca": self.certificates.ca,
            "auth": {"cert": {"certificate": certificate, "key": key}},
            // A slow machine must not end a call.
            "budget_ms": 10_000,
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let factory = factory();
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        factory.provider(change(parts(&parsed.public, parsed.secrets))).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

pub fn factory() -> KmipFactory {
    KmipFactory::new(Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_plain_http: false,
    }))
}

pub fn context() -> BoundContext {
    BoundContext::new([("a".to_owned(), "b".to_owned())].into(), b"\xa1\x61a\x61b".to_vec())
}

pub fn kek() -> Kek {
    Kek {
        key: ProviderKeyRef {
            id: KEY.to_owned(),
            version: String::new(),
        },
        spec: KeySpec::Aes256,
        id: KeyId::random(),
    }
}

/// The same data key with another ciphertext.
pub fn with_ciphertext(ciphertext: Vec<u8>) -> Wrapped {
    Wrapped {
        key: kek().key,
        algorithm: Algorithm::CborGcm,
        ciphertext,
        key_material: None,
        upstream_request_id: None,
    }
}

pub const fn localhost_v6() -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
}

async fn serve(mut stream: TlsStream<TcpStream>, number: usize, state: &Mutex<State>, mut swallowed: watch::Receiver<usize>) {
    loop {
        let mut header = [0; HEADER];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let (_, length) = total_length(header).unwrap();
        let mut request = header.to_vec();
        request.resize(length, 0);
        if stream.read_exact(&mut request[HEADER..]).await.is_err() {
            return;
        }
        if *swallowed.borrow_and_update() >= number {
            let _ended = stream.read(&mut [0; 1]).await;
            return;
        }
        let request = parse(&request).unwrap();
        let item = member(&request, BATCH_ITEM).unwrap();
        let operation = member(item, OPERATION).unwrap().value.enumeration().unwrap();
        let fault = {
            let mut state = state.lock().unwrap();
            state.requests.push((number, operation));
            let correlation = member(member(&request, HEADER_TAG).unwrap(), CORRELATION);
            state
                .correlations
                .extend(correlation.map(|value| value.value.text().unwrap().to_owned()));
            let planned = state
                .planned
                .iter_mut()
                .find(|planned| planned.operation == operation && planned.times > 0);
            planned.map(|planned| {
                planned.times -= 1;
                planned.fault.clone()
            })
        };
        let answer = response(&request, operation, fault.as_ref(), &mut state.lock().unwrap());
        let sent = match fault {
            Some(Fault::Hang) => {
                let _ended = stream.read(&mut [0; 1]).await;
                return;
            }
            Some(Fault::Late(pause)) => {
                tokio::time::sleep(pause).await;
                stream.write_all(&answer).await
            }
            Some(Fault::Close) => return,
            Some(Fault::Half) => {
                let _sent = stream.write_all(&answer[..answer.len() / 2]).await;
                let _sent = stream.shutdown().await;
                return;
            }
            Some(Fault::Raw(bytes)) => stream.write_all(&bytes).await,
            Some(Fault::Twice) => stream.write_all(&[&answer[..], &answer].concat()).await,
            Some(_) | None => stream.write_all(&answer).await,
        };
        if sent.is_err() {
            return;
        }
    }
}
