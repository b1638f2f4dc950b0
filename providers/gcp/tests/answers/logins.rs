//! The battery about logins, on a scripted Security Token Service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::{
    Algorithm, ConnectionParts, Error, Factory, LoginReport, OpContext, Provider, Secret, SecretFiles, SettingsOrigin,
};
use claviger_provider_gcp::{Endpoints, GcpFactory};
use claviger_testkit::battery::logins::{LoginAnswer, LoginService, cases};
use claviger_testkit::connection::parts;
use parking_lot::Mutex;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::fixture::{AUDIENCE, RING, b64, context, crc, on, wrapped};

const EXCHANGE: &str = "/v1/token";

struct Server {
    server: MockServer,
    answer: Arc<Mutex<LoginAnswer>>,
}

/// The Security Token Service.
struct Sts(Arc<Mutex<LoginAnswer>>);

impl Respond for Sts {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let of_life = |life: Duration| {
            let token = json!({"access_token": "ya29.issued", "expires_in": life.as_secs(), "token_type": "Bearer"});
            ResponseTemplate::new(200).set_body_json(token)
        };
        match *self.0.lock() {
            LoginAnswer::Accept(life) => of_life(life),
            LoginAnswer::Refuse => ResponseTemplate::new(400).set_body_json(json!({"error": "invalid_grant"})),
            LoginAnswer::Unavailable => ResponseTemplate::new(503),
            LoginAnswer::Hang => of_life(Duration::ZERO).set_delay(Duration::from_secs(60)),
        }
    }
}

impl Server {
    async fn start() -> Self {
        let server = MockServer::builder().start().await;
        let answer = Arc::new(Mutex::new(LoginAnswer::Refuse));
        let sts = Sts(Arc::clone(&answer));
        Mock::given(path(EXCHANGE)).respond_with(sts).mount(&server).await;
        let plaintext = json!({"plaintext": b64("key"), "plaintextCrc32c": crc("key")});
        on(&server, ":decrypt", plaintext).await;
        Self { server, answer }
    }

    async fn requests(&self) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests.into_iter().filter(|request| request.url.path() == EXCHANGE).collect()
    }
}

#[async_trait]
impl LoginService for Server {
    async fn connect(&self, word: &str, files: Option<Arc<dyn SecretFiles>>, login: LoginReport) -> Arc<dyn Provider> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let endpoints = Endpoints {
            kms: Some(self.server.uri()),
            sts: Some(self.server.uri()),
            iam: None,
        };
        let factory = GcpFactory::new(endpoints, Duration::from_secs(3));
        let auth = json!({"workload_identity": {"audience": AUDIENCE, "subject_token": word}});
        let settings = json!({"key_ring": RING, "auth": auth});
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
        let parts = ConnectionParts {
            files,
            login,
            ..parts(&parsed.public, parsed.secrets)
        };
        Arc::new(factory.provider(parts).await.unwrap())
    }

    fn secrets(&self, word: &str) -> Vec<(String, Secret)> {
        vec![("credential".to_owned(), Secret::copy_from(word.as_bytes()))]
    }

    fn answer(&self, answer: LoginAnswer) {
        *self.answer.lock() = answer;
    }

    async fn logins(&self) -> usize {
        self.requests().await.len()
    }

    async fn used(&self, word: &str) -> bool {
        let latest = self.requests().await.pop();
        latest.is_some_and(|request| String::from_utf8_lossy(&request.body).contains(word))
    }

    async fn call(&self, provider: &dyn Provider, cx: &OpContext) -> Result<(), Error> {
        provider
            .unwrap_key(cx, &wrapped(Algorithm::ProviderOpaque), &context())
            .await
            .map(drop)
    }
}

#[tokio::test]
async fn the_battery_about_logins() {
    for case in cases() {
        case.run(Server::start().await)
            .await
            .unwrap_or_else(|failure| panic!("{}: {failure}", case.name));
    }
}
