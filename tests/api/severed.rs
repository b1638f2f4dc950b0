//! A severed connection is silent: its token is not renewed, neither while the gateway runs nor after a
//! start; and it works again after the restore, with a credential that is fetched anew.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use claviger_test_support::{Client, Tune};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE};

/// A Transit server that counts requests: the path of each, with its token.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Vec<(String, String)>>>);

impl Counting {
    async fn start() -> (SocketAddr, Self) {
        let counting = Self::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = counting.clone();
        let answer = move |request: Request| {
            let seen = seen.clone();
            async move { seen.answer(&request) }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        (address, counting)
    }

    fn answer(&self, request: &Request) -> impl IntoResponse + use<> {
        let header = request.headers().get("x-vault-token");
        let token = header.map_or("", |value| value.to_str().unwrap()).to_owned();
        let path = request.uri().path().to_owned();
        let body = match path.as_str() {
            "/v1/sys/health" => json!({"initialized": true, "sealed": false, "version": "2.4.0"}),
            "/v1/auth/token/lookup-self" => json!({"data": {"ttl": 1, "renewable": true}}),
            "/v1/auth/token/renew-self" => json!({"auth": {"client_token": token, "lease_duration": 1, "renewable": true}}),
            "/v1/sys/capabilities-self" => json!({"data": {}}),
            "/v1/sys/internal/ui/mounts/transit" => json!({"data": {"type": "transit"}}),
            _ => Value::Null,
        };
        self.0.lock().push((path, token));
        let status = if body.is_null() { StatusCode::NOT_FOUND } else { StatusCode::OK };
        (status, body.to_string())
    }

    /// How many requests had this token.
    fn with(&self, token: &str) -> usize {
        self.0.lock().iter().filter(|(_, of)| of == token).count()
    }

    /// How often this token was asked about, as each new session does at first.
    fn looked_up(&self, token: &str) -> usize {
        let seen = self.0.lock();
        seen.iter()
            .filter(|(path, of)| path.ends_with("/lookup-self") && of == token)
            .count()
    }

    /// Waits until a token was renewed that many times more.
    async fn renewed(&self, token: &str, times: usize) {
        let renewals = || {
            let seen = self.0.lock();
            seen.iter()
                .filter(|(path, of)| path.ends_with("/renew-self") && of == token)
                .count()
        };
        let enough = renewals() + times;
        let waited = tokio::time::timeout(PATIENCE, async {
            while renewals() < enough {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("the token is renewed");
    }
}

fn path(name: &str, verb: &str) -> String {
    format!("/v1/connections/{name}/{verb}")
}

async fn check(client: &Client, name: &str) {
    let report = client.post_empty(&path(name, "check")).await.expect_status(200);
    assert_eq!(report["reachable"], true, "{report}");
}

#[tokio::test]
async fn a_severed_connection_says_nothing_until_it_is_restored() {
    let (address, server) = Counting::start().await;
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
    let api = Api::tuned(&tune).await;
    for name in ["cut", "open"] {
        let settings = json!({"address": format!("http://{address}"), "auth": {"token": format!("token-{name}")}});
        let body = json!({"name": name, "provider": "vault", "settings": settings});
        api.client.post("/v1/connections", &body).await.expect_status(201);
        check(&api.client, name).await;
    }
    server.renewed("token-cut", 2).await;

    // In the background nothing is sent any more. The other token's renewals tell how long to look.
    api.client.post_empty(&path("cut", "sever")).await.expect_status(200);
    let before = server.with("token-cut");
    server.renewed("token-open", 4).await;
    assert_eq!(server.with("token-cut"), before, "sent after the sever was answered");

    // Neither on request, nor by a change of the connection, nor after a start.
    let refused = api.client.post_empty(&path("cut", "check")).await;
    refused.expect_problem(409, "connection_severed");
    let change = json!({"timeouts": {"attempt": "900ms"}});
    api.client.patch("/v1/connections/cut", "*", &change).await.expect_status(200);
    let Api { gateway, started, .. } = api;
    started.kill();
    let started = gateway.serve(&tune);
    let client = started.tenant("acme");
    client.get("/v1/connections/cut").await.expect_status(200);
    client
        .post_empty(&path("cut", "check"))
        .await
        .expect_problem(409, "connection_severed");
    check(&client, "open").await;
    server.renewed("token-open", 4).await;
    assert_eq!(server.with("token-cut"), before, "sent after the start");

    // The restore needs no start; and one without a start in between, neither.
    for round in 1..=2 {
        let sessions = server.looked_up("token-cut");
        client.post_empty(&path("cut", "restore")).await.expect_status(200);
        check(&client, "cut").await;
        assert!(server.looked_up("token-cut") > sessions, "round {round}: an old session was used");
        server.renewed("token-cut", 2).await;
        client.post_empty(&path("cut", "sever")).await.expect_status(200);
        let before = server.with("token-cut");
        server.renewed("token-open", 4).await;
        assert_eq!(server.with("token-cut"), before, "round {round}");
    }
}
