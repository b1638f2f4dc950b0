//! The battery about logins, on the fake's authority.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_fake::{Act, Fault};
use claviger_fake_azure::DIRECTORY;
use claviger_provider::{ConnectionParts, Error, Factory, Kek, LoginReport, OpContext, Provider, Secret, SecretFiles, SettingsOrigin};
use claviger_provider::{KeySpec, TenantId};
use claviger_provider_azure::AzureFactory;
use claviger_testkit::battery::logins::{LoginAnswer, LoginService, cases};
use claviger_testkit::connection::parts;
use serde_json::json;

use crate::bench::{Bench, CLIENT, Place, egress};
use crate::fixture::{ALL, made, requests, response};

/// The path of the endpoint that issues tokens.
const ENDPOINT: &str = "oauth2/v2.0/token";
const ISSUED: &str = "the-issued-token";

struct Server {
    bench: Bench,
    kek: Kek,
}

impl Server {
    async fn start() -> Self {
        let bench = Bench::start().await;
        let kek = made(&bench.connect(Place::Hsm), KeySpec::Aes256).await;
        bench.fake.access().permit(ISSUED, ALL);
        bench.fake.switches().journal.clear();
        let server = Self { bench, kek };
        server.answer(LoginAnswer::Refuse);
        server
    }
}

#[async_trait]
impl LoginService for Server {
    async fn connect(&self, word: &str, files: Option<Arc<dyn SecretFiles>>, login: LoginReport) -> Arc<dyn Provider> {
        let auth = json!({"client_secret": {"directory": DIRECTORY, "client_id": CLIENT, "secret": word}});
        let factory = AzureFactory::new(self.bench.installation(), egress());
        let settings = self.bench.settings(Place::Hsm, auth).to_string();
        let parsed = factory.parse(&settings, SettingsOrigin::Operator).unwrap();
        let parts = ConnectionParts {
            tenant: TenantId::random(),
            files,
            login,
            ..parts(&parsed.public, parsed.secrets)
        };
        Arc::new(factory.provider(parts).unwrap())
    }

    fn secrets(&self, word: &str) -> Vec<(String, Secret)> {
        vec![("secret".to_owned(), Secret::copy_from(word.as_bytes()))]
    }

    fn answer(&self, answer: LoginAnswer) {
        let act = match answer {
            LoginAnswer::Accept(life) => {
                let token = json!({"token_type": "Bearer", "expires_in": life.as_secs(), "ext_expires_in": 0, "access_token": ISSUED});
                response(200, &[("content-type", "application/json")], &token.to_string())
            }
            LoginAnswer::Refuse => {
                let refusal = json!({"error": "invalid_client", "error_codes": [7_000_215]});
                response(401, &[], &refusal.to_string())
            }
            LoginAnswer::Unavailable => response(503, &[], r#"{"error": "temporarily_unavailable", "error_codes": [90033]}"#),
            LoginAnswer::Hang => Act::Hang,
        };
        self.bench.fake.switches().faults.set(vec![Fault::always(ENDPOINT, act)]);
    }

    async fn logins(&self) -> usize {
        requests(&self.bench, "POST", ENDPOINT)
    }

    async fn used(&self, word: &str) -> bool {
        let all = self.bench.fake.switches().journal.all();
        let latest = all.iter().rev().find(|request| request.path.contains(ENDPOINT));
        latest.is_some_and(|request| request.body.as_str().is_some_and(|form| form.contains(word)))
    }

    async fn call(&self, provider: &dyn Provider, cx: &OpContext) -> Result<(), Error> {
        provider.describe(cx, &self.kek).await.map(drop)
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
