//! The battery about logins, on a scripted server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::{ConnectionParts, Error, Factory, LoginReport, OpContext, Provider, Secret, SecretFiles, SettingsOrigin};
use claviger_testkit::battery::logins::{LoginAnswer, LoginService, cases};
use claviger_testkit::connection::parts;
use parking_lot::Mutex;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::{DECRYPT, context, data, factory, refusal, wrapped};

const LOGIN: &str = "/v1/auth/jwt/login";
const RENEWAL: &str = "/v1/auth/token/renew-self";

struct Server {
    server: MockServer,
    answer: Arc<Mutex<LoginAnswer>>,
}

/// Answers logins and renewals.
struct Logins(Arc<Mutex<LoginAnswer>>);

impl Respond for Logins {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let of_life = |life: Duration| {
            let auth = json!({"client_token": "hvs.issued", "lease_duration": life.as_secs(), "renewable": true});
            ResponseTemplate::new(200).set_body_json(json!({"auth": auth}))
        };
        match *self.0.lock() {
            LoginAnswer::Accept(life) => of_life(life),
            LoginAnswer::Refuse => refusal(400, "invalid role or JWT"),
            LoginAnswer::Unavailable => refusal(503, "Vault is sealed"),
            LoginAnswer::Hang => of_life(Duration::ZERO).set_delay(Duration::from_secs(60)),
        }
    }
}

impl Server {
    async fn start() -> Self {
        let server = MockServer::builder().start().await;
        let answer = Arc::new(Mutex::new(LoginAnswer::Refuse));
        for at in [LOGIN, RENEWAL] {
            let logins = Logins(Arc::clone(&answer));
            Mock::given(path(at)).respond_with(logins).mount(&server).await;
        }
        let lookup = path("/v1/sys/wrapping/lookup");
        Mock::given(lookup).respond_with(refusal(400, "not one")).mount(&server).await;
        let opened = data(json!({"plaintext": "AQID"}));
        Mock::given(path(DECRYPT)).respond_with(opened).mount(&server).await;
        Self { server, answer }
    }

    async fn requests(&self) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        let of_logins = |request: &Request| [LOGIN, RENEWAL].contains(&request.url.path());
        requests.into_iter().filter(of_logins).collect()
    }
}

#[async_trait]
impl LoginService for Server {
    async fn connect(&self, word: &str, files: Option<Arc<dyn SecretFiles>>, login: LoginReport) -> Arc<dyn Provider> {
        let settings = json!({"address": self.server.uri(), "auth": {"jwt": {"role": "r", "jwt": word}}});
        let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
        let parts = ConnectionParts {
            files,
            login,
            ..parts(&parsed.public, parsed.secrets)
        };
        Arc::new(factory().provider(parts).unwrap())
    }

    fn secrets(&self, word: &str) -> Vec<(String, Secret)> {
        vec![("jwt".to_owned(), Secret::copy_from(word.as_bytes()))]
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
        provider.unwrap_key(cx, &wrapped(), &context()).await.map(drop)
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
