//! Connections with their own CA certificates or a proxy, to a server that has a certificate of a test
//! authority for AWS's own host names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use claviger_fake::{Dialect, Running, Switches, Tls, serve};
use claviger_provider::egress::{Egress, EgressPolicy, Lookup};
use claviger_provider::{Error, ErrorKind, Provider, Secret, SettingsOrigin};
use claviger_provider_aws::Endpoints;
use claviger_test_support::tunnels_to;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fixture::{ARN, REGION, access_key, b64, context, cx, provider, role, wrapped};

const KMS: &str = "kms.eu-central-1.amazonaws.com";
const STS: &str = "sts.eu-central-1.amazonaws.com";
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Plain;

impl Dialect for Plain {
    fn throttled(&self) -> Response {
        StatusCode::TOO_MANY_REQUESTS.into_response()
    }

    fn unavailable(&self) -> Response {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

/// Decrypts anything, and lets anyone assume a role.
async fn answer(headers: HeaderMap, _: Bytes) -> Response {
    match headers.get("x-amz-target") {
        Some(_) => axum::Json(json!({"KeyId": ARN, "Plaintext": b64([1; 32])})).into_response(),
        None => "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
                 <AccessKeyId>ASIAONE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            .into_response(),
    }
}

/// A server with a certificate of this authority for AWS's host names.
async fn aws(tls: &Tls) -> (Running, Switches) {
    let switches = Switches::default();
    let running = serve(Router::new().fallback(answer), Plain, &switches, LOOPBACK, Some(tls)).await;
    (running.unwrap(), switches)
}

fn authority() -> Tls {
    Tls::new(&[KMS, STS]).unwrap()
}

/// A resolver that knows one name, and the names that were looked up.
struct Knows(&'static str, IpAddr, Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Lookup for Knows {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.2.lock().push(name.to_owned());
        match name == self.0 {
            true => Ok(vec![self.1]),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn allowing_loopback() -> EgressPolicy {
    EgressPolicy {
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        allow_plain_http: false,
    }
}

async fn unwrap(endpoints: Endpoints, egress: Egress, origin: SettingsOrigin, settings: &Value) -> Result<Secret, Error> {
    let provider = provider(endpoints, egress, origin, settings).await?;
    provider.unwrap_key(&cx(), &wrapped(), &context()).await
}

fn at(server: &Running) -> Endpoints {
    Endpoints {
        kms: Some(server.url()),
        sts: Some(server.url()),
    }
}

#[tokio::test]
async fn an_authority_holds_for_its_connection_alone() {
    let (tls, other) = (authority(), authority());
    let (server, _) = aws(&tls).await;
    let strict = || Egress::new(EgressPolicy::default());
    let with = |ca: Option<&str>| json!({"region": REGION, "auth": role(), "ca": ca});
    let dek = unwrap(at(&server), strict(), SettingsOrigin::Tenant, &with(Some(tls.ca_pem())))
        .await
        .unwrap();
    assert_eq!(dek.expose(), [1; 32]);
    // While the sockets of that connection are open.
    let error = unwrap(at(&server), strict(), SettingsOrigin::Tenant, &with(Some(other.ca_pem())))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.advice.as_ref().is_some_and(|advice| advice.contains("`ca`")), "{error}");
    let none = json!({"region": REGION, "auth": access_key()});
    assert!(unwrap(at(&server), strict(), SettingsOrigin::Tenant, &none).await.is_err());
}

#[tokio::test]
async fn a_proxy_is_asked_for_awss_own_hosts() {
    let tls = authority();
    let (server, switches) = aws(&tls).await;
    let (proxy, asked) = tunnels_to(server.address()).await;
    let looked_up = Arc::default();
    let lookup = Knows("proxy.test", proxy.ip(), Arc::clone(&looked_up));
    let settings = json!({
        "region": REGION, "auth": role(), "ca": tls.ca_pem(), "proxy": format!("http://proxy.test:{}", proxy.port()),
    });
    let egress = Egress::with_lookup(allowing_loopback(), Arc::new(lookup));
    let dek = unwrap(Endpoints::default(), egress, SettingsOrigin::Tenant, &settings)
        .await
        .unwrap();
    assert_eq!(dek.expose(), [1; 32]);
    let tunnels = [format!("CONNECT {STS}:443 HTTP/1.1"), format!("CONNECT {KMS}:443 HTTP/1.1")];
    assert_eq!(*asked.lock().unwrap(), tunnels);
    assert!(looked_up.lock().iter().all(|name| name == "proxy.test"));
    let hosts: Vec<_> = switches.journal.all().into_iter().map(|asked| asked.host).collect();
    assert_eq!(hosts, [STS, KMS]);
}

#[tokio::test]
async fn a_proxy_is_met_under_the_egress_policy() {
    let tls = authority();
    let (server, _) = aws(&tls).await;
    let (proxy, asked) = tunnels_to(server.address()).await;
    let lookup = Knows("proxy.test", proxy.ip(), Arc::default());
    let settings = json!({
        "region": REGION, "auth": access_key(), "ca": tls.ca_pem(), "proxy": format!("http://proxy.test:{}", proxy.port()),
    });
    let egress = Egress::with_lookup(EgressPolicy::default(), Arc::new(lookup));
    let error = unwrap(Endpoints::default(), egress, SettingsOrigin::Tenant, &settings)
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.advice.as_ref().is_some_and(|advice| advice.contains("[egress]")), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}
