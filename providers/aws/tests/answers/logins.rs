//! The battery about logins, on a scripted STS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ConnectionParts, Error, Factory, LoginReport, OpContext, Provider, Secret, SecretFiles, SettingsOrigin};
use claviger_provider_aws::{AwsFactory, Endpoints};
use claviger_testkit::battery::logins::{LoginAnswer, LoginService, cases};
use claviger_testkit::connection::parts;
use parking_lot::Mutex;
use serde_json::json;
use wiremock::{MockServer, Request, Respond, ResponseTemplate};

use crate::fixture::{ARN, REGION, ROLE, answer, b64, context, kms, session_until, sts, sts_refusal, wrapped};

struct Server {
    server: MockServer,
    answer: Arc<Mutex<LoginAnswer>>,
}

/// STS.
struct Sts(Arc<Mutex<LoginAnswer>>);

impl Respond for Sts {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let of_life = |life: Duration| {
            let end = DateTime::from(SystemTime::now() + life).fmt(Format::DateTime).unwrap();
            session_until("ONE", &end)
        };
        match *self.0.lock() {
            LoginAnswer::Accept(life) => of_life(life),
            LoginAnswer::Refuse => sts_refusal("AccessDenied"),
            LoginAnswer::Unavailable => ResponseTemplate::new(503),
            LoginAnswer::Hang => of_life(Duration::ZERO).set_delay(Duration::from_secs(60)),
        }
    }
}

impl Server {
    async fn start() -> Self {
        let server = MockServer::builder().start().await;
        let state = Arc::new(Mutex::new(LoginAnswer::Refuse));
        sts("AssumeRole").respond_with(Sts(Arc::clone(&state))).mount(&server).await;
        let opened = answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])}));
        kms("Decrypt").respond_with(opened).mount(&server).await;
        Self { server, answer: state }
    }

    async fn requests(&self) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests
            .into_iter()
            .filter(|request| request.body.starts_with(b"Action=AssumeRole&"))
            .collect()
    }
}

#[async_trait]
impl LoginService for Server {
    async fn connect(&self, word: &str, files: Option<Arc<dyn SecretFiles>>, login: LoginReport) -> Arc<dyn Provider> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let endpoints = Endpoints {
            kms: Some(self.server.uri()),
            sts: Some(self.server.uri()),
        };
        let factory = AwsFactory::new(endpoints, Egress::new(EgressPolicy::default()));
        let base = json!({"static": {"access_key_id": word, "secret_access_key": "secret"}});
        let settings = json!({"region": REGION, "auth": {"assume_role": {"role_arn": ROLE, "base": base}}});
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
        let parts = ConnectionParts {
            files,
            login,
            ..parts(&parsed.public, parsed.secrets)
        };
        Arc::new(factory.provider(parts).await.unwrap())
    }

    fn secrets(&self, word: &str) -> Vec<(String, Secret)> {
        vec![("access_key".to_owned(), Secret::new(format!("{word}\nsecret").into_bytes()))]
    }

    fn answer(&self, answer: LoginAnswer) {
        *self.answer.lock() = answer;
    }

    async fn logins(&self) -> usize {
        self.requests().await.len()
    }

    async fn used(&self, word: &str) -> bool {
        let latest = self.requests().await.pop();
        let signature = latest.and_then(|request| request.headers.get("authorization")?.to_str().ok().map(str::to_owned));
        signature.is_some_and(|signature| signature.contains(&format!("Credential={word}/")))
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
