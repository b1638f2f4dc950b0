//! Certificates: whose a server's must be, and the one that we show.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::http::{KEEPALIVE, KEEPALIVE_INTERVAL, USER_TIMEOUT};
use super::super::{ClientCertificate, Distrust, TlsOptions};
use super::{Authorities, Options, Script, SendError, client, egress, get, options};
use crate::ErrorKind;

/// An authority of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key, as PEM.
    fn make(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["kms.test".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A TLS server that answers 204, and where there are `clients` wants a certificate of theirs.
async fn server(certificate: &str, key: &str, clients: Option<&Authority>) -> SocketAddr {
    server_of(certificate, key, clients, &[]).await
}

/// The same, which agrees on one of these protocols. It answers HTTP/1.1 alone.
async fn server_of(certificate: &str, key: &str, clients: Option<&Authority>, protocols: &[&[u8]]) -> SocketAddr {
    // Its crypto is set up here.
    drop(egress(&Script::new(&[])));
    let builder = rustls::ServerConfig::builder();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
                .unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let mut config = builder
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                // Who hangs up with bytes unread may take its own alert back: the client ends it.
                Err((_, mut stream)) => {
                    tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
                    continue;
                }
            };
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

/// One call to the server under this name.
async fn call(host: &str, port: u16, options: Options) -> Result<u16, SendError> {
    let egress = egress(&Script::new(&[&["127.0.0.1"]]));
    let destination = egress.destination(&format!("https://{host}:{port}")).unwrap();
    let client = egress.client(destination, options).unwrap();
    get(&client).await.map(|answer| answer.status.as_u16())
}

fn under(authority: &str) -> Options {
    Options {
        authorities: Authorities::from_pem(authority).unwrap(),
        ..options()
    }
}

#[tokio::test]
async fn a_certificate_counts_only_under_the_connections_own_authorities_and_name() {
    let (own, strange) = (Authority::new(), Authority::new());
    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let plain = own.make(|_| ());
    let clients = own.make(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    for (made, host, trusted, why) in [
        (&plain, "kms.test", &own, None),
        (&plain, "kms.test", &strange, Some(Distrust::Authority)),
        (&plain, "other.test", &own, Some(Distrust::Name)),
        (&own.make(past), "kms.test", &own, Some(Distrust::Time)),
        (&own.make(authority), "kms.test", &own, Some(Distrust::OfAuthority)),
        (&clients, "kms.test", &own, Some(Distrust::Unfit)),
    ] {
        let address = server(&made.0, &made.1, None).await;
        match (call(host, address.port(), under(&trusted.pem)).await, why) {
            (Ok(status), None) => assert_eq!(status, 204),
            (Err(SendError::Untrusted(found)), Some(why)) => {
                assert_eq!(found, why);
                let error = SendError::Untrusted(found).into_error("call");
                assert!(error.kind == ErrorKind::Misconfigured && error.advice.is_some());
            }
            (other, why) => panic!("{other:?} instead of {why:?}"),
        }
    }
    assert!(Authorities::from_pem("").is_none());
    assert!(Authorities::from_pem("no certificate").is_none());
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_where_it_is_named_and_by_no_system() {
    let made = rcgen::generate_simple_self_signed(["kms.test".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let address = server(&pem, &made.signing_key.serialize_pem(), None).await;
    assert_eq!(call("kms.test", address.port(), under(&pem)).await.unwrap(), 204);
    let system = Options {
        authorities: Authorities::System,
        ..options()
    };
    let error = call("kms.test", address.port(), system).await.unwrap_err();
    assert!(matches!(error, SendError::Untrusted(Distrust::Authority)), "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let (own, strange) = (Authority::new(), Authority::new());
    let made = own.make(|_| ());
    let address = server(&made.0, &made.1, Some(&own)).await;
    // An authority, and the year in which its certificate ends.
    let shown = |shown: Option<(&Authority, i32)>| Options {
        client_certificate: shown.map(|(authority, until)| {
            let (certificate, key) = authority.make(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params.not_after = date_time_ymd(until, 1, 1);
            });
            ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
        }),
        ..under(&own.pem)
    };
    assert_eq!(call("kms.test", address.port(), shown(Some((&own, 2999)))).await.unwrap(), 204);
    let over_http2 = server_of(&made.0, &made.1, Some(&own), &[b"h2"]).await;
    for address in [address, over_http2] {
        for other in [None, Some((&strange, 2999)), Some((&own, 2021))] {
            let error = call("kms.test", address.port(), shown(other)).await.unwrap_err();
            assert!(matches!(error, SendError::ClientCertificateRejected), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_port_of_the_other_protocol_is_named_with_what_to_do() {
    let own = Authority::new();
    let plain = wiremock::MockServer::builder().start().await;
    let error = call("kms.test", plain.address().port(), under(&own.pem)).await.unwrap_err();
    assert!(matches!(error, SendError::NotTls) && error.is_unsent(), "{error:?}");
    let advice = error.into_error("call").advice.unwrap();
    assert!(advice.contains("does not speak TLS"), "{advice}");

    let made = own.make(|_| ());
    let address = server(&made.0, &made.1, None).await;
    let Err(error) = get(&client(&Script::new(&[]), &format!("http://{address}"))).await else {
        panic!("a TLS port answered plain HTTP");
    };
    assert!(matches!(error, SendError::NotHttp) && !error.is_unsent(), "{error:?}");
    let advice = error.into_error("call").advice.unwrap();
    assert!(advice.contains("https://"), "{advice}");
}

/// One exchange without HTTP with the server under this name.
async fn exchange(host: &str, port: u16, options: TlsOptions<'_>) -> Result<usize, SendError> {
    let egress = egress(&Script::new(&[&["127.0.0.1"]]));
    let endpoint = egress.endpoint(&format!("{host}:{port}")).unwrap();
    let mut stream = egress.tls(endpoint, options).unwrap().connect().await?;
    let broken = |error: std::io::Error| SendError::of_stream(&error);
    stream.write_all(b"anything").await.map_err(broken)?;
    stream.read(&mut [0; 64]).await.map_err(broken)
}

#[tokio::test]
async fn a_connection_without_http_trusts_and_shows_the_same() {
    let (own, strange) = (Authority::new(), Authority::new());
    let made = own.make(|_| ());
    let port = server(&made.0, &made.1, Some(&own)).await.port();
    let clients = |authority: &Authority| {
        let (certificate, key) = authority.make(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    };
    let (right, wrong) = (clients(&own), clients(&strange));
    let with = |ca, client_certificate| TlsOptions {
        ca,
        client_certificate,
        connect_timeout: std::time::Duration::from_secs(5),
        share: crate::Share::default(),
    };
    assert!(exchange("kms.test", port, with(Some(&own.pem), Some(&right))).await.unwrap() > 0);
    for certificate in [None, Some(&wrong)] {
        let error = exchange("kms.test", port, with(Some(&own.pem), certificate)).await.unwrap_err();
        assert!(matches!(error, SendError::ClientCertificateRejected), "{error:?}");
    }
    for (host, ca, why) in [
        ("kms.test", Some(strange.pem.as_str()), Distrust::Authority),
        ("kms.test", None, Distrust::Authority),
        ("other.test", Some(&own.pem), Distrust::Name),
    ] {
        match exchange(host, port, with(ca, Some(&right))).await {
            Err(SendError::Untrusted(found)) => assert_eq!(found, why),
            other => panic!("{other:?} instead of {why:?}"),
        }
    }
    let plain = wiremock::MockServer::builder().start().await;
    let error = exchange("kms.test", plain.address().port(), with(Some(&own.pem), None))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::NotTls) && error.is_unsent(), "{error:?}");
}

/// As the HTTP client's is: TCP finds out by itself that the other side is gone.
#[tokio::test]
async fn a_connection_without_http_is_watched_by_tcp() {
    let own = Authority::new();
    let made = own.make(|_| ());
    let port = server(&made.0, &made.1, None).await.port();
    let egress = egress(&Script::new(&[&["127.0.0.1"]]));
    let options = TlsOptions {
        ca: Some(&own.pem),
        client_certificate: None,
        connect_timeout: std::time::Duration::from_secs(5),
        share: crate::Share::default(),
    };
    let endpoint = egress.endpoint(&format!("kms.test:{port}")).unwrap();
    let stream = egress.tls(endpoint, options).unwrap().connect().await.unwrap();
    let socket = SockRef::from(stream.get_ref().0.0.get_ref());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
}
