//! A credential that ended after the answer to its creation or move got lost: a thief with a key service of their
//! own chooses when that answers, and must get no key then.

use std::time::{Duration, Instant};

use claviger_test_support::{Client, Gateway, Started, text_of, token};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::answers::{PATIENCE, world};
use crate::creations::{begun, found_out, let_be_due, lose, new_key, until_ended};
use crate::run;
use crate::service::{Loss, Service};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("revoked::nothing_is_finished_for_a_credential_that_ended", || run(ended())),
        Trial::test("revoked::a_late_answer_makes_no_key_for_a_credential_that_ended", || run(late())),
        Trial::test(
            "revoked::a_declared_key_is_finished_though_the_token_that_had_it_applied_ended",
            || run(declared()),
        ),
        Trial::test("revoked::what_a_suspended_tenant_began_waits_for_its_resume", || run(suspended())),
    ]
}

/// What ends a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Token,
    Principal,
    Ancestor,
    Expiry,
}

impl End {
    const ALL: [Self; 4] = [Self::Token, Self::Principal, Self::Ancestor, Self::Expiry];

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// A token in the wrong hands, and the path whose deletion ends it; empty where it expires.
struct Stolen {
    client: Client,
    ended_by: String,
}

impl Stolen {
    async fn new(started: &Started, client: &Client, end: End) -> Self {
        let tenant = started.tenant("acme");
        let principal = async |name: &str| {
            client.post("/v1/principals", &json!({"name": name})).await.expect_status(201);
            format!("/v1/principals/{name}")
        };
        let issued = async |by: &Client, of: &str, life: &str, kind: &str| {
            let may = ["CreateKey", "ReadKey", "Rotate", "ManageTokens"];
            let body = json!({"operations": may, "expires_in": life, "kind": kind});
            by.post(&format!("{of}/tokens"), &body).await.expect_status(201)
        };
        let text = |token: &Value| tenant.with_token(token["token"].as_str().expect("a token"));
        let path = |of: &str, token: &Value| format!("{of}/tokens/{}", token["id"].as_str().expect("an id"));
        let of = principal(&end.name()).await;
        let (client, ended_by) = match end {
            End::Token => {
                let token = issued(client, &of, "1h", "standing").await;
                (text(&token), path(&of, &token))
            }
            End::Principal => (text(&issued(client, &of, "1h", "standing").await), of),
            End::Ancestor => {
                let issuer = principal("issuer").await;
                let above = issued(client, &issuer, "1h", "standing").await;
                (text(&issued(&text(&above), &of, "30m", "delegated").await), path(&issuer, &above))
            }
            End::Expiry => (text(&issued(client, &of, "5s", "standing").await), String::new()),
        };
        Self { client, ended_by }
    }

    /// Ends it, and checks that it has ended.
    async fn end(&self, client: &Client) {
        if !self.ended_by.is_empty() {
            assert_eq!(client.delete(&self.ended_by).await.status, 204);
        }
        until(async || self.client.get("/v1/keys").await.status == 401).await;
    }
}

async fn until(so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < until, "never so");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The gateway told of a creation for this key that it is not finished, and why, and logged how the provider names
/// the key that was made under this id.
fn is_reported(gateway: &Gateway, started: &Started, service: &Service, key: &Value, made_as: &Value) {
    let told = found_out(gateway, key);
    assert_eq!(
        (&told["result"], &told["code"]),
        (&json!("failed"), &json!("unauthenticated")),
        "{told}"
    );
    let named = service.name_of(made_as.as_str().expect("an id")).expect("the service has it");
    let said = started.output();
    assert!(
        said.lines().any(|line| line.contains("nothing uses") && line.contains(&named)),
        "{named} is not named: {said}"
    );
}

async fn ended() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    let code = "provider_unavailable";
    for end in End::ALL {
        let (loot, kept) = (format!("/v1/keys/loot-{}", end.name()), format!("kept-{}", end.name()));
        let path = format!("/v1/keys/{kept}");
        client.post("/v1/keys", &new_key(&kept, "aws")).await.expect_status(201);
        let stolen = Stolen::new(&started, &client, end).await;
        service.lose(Some(Loss::Closed));
        let name = format!("loot-{}", end.name());
        let created = lose(&gateway, &stolen.client, "/v1/keys", &new_key(&name, "vault"), code).await;
        let moved = lose(
            &gateway,
            &stolen.client,
            &format!("{path}/rotate"),
            &json!({"connection": "vault"}),
            code,
        )
        .await;
        service.lose(None);
        stolen.end(&client).await;
        let_be_due(&gateway).await;
        until_ended(&gateway).await;

        client.get(&loot).await.expect_problem(404, "not_found");
        let key = client.get(&path).await.expect_status(200);
        assert_eq!(
            (&key["connection"], &key["primary_version"]),
            (&json!("aws"), &json!(1)),
            "{end:?}: {key}"
        );
        is_reported(&gateway, &started, &service, &created["change"]["id"], &created["change"]["id"]);
        is_reported(&gateway, &started, &service, &key["id"], &moved["change"]["made_as"]);
        // The name is free for somebody else.
        client.post("/v1/keys", &new_key(&name, "vault")).await.expect_status(201);
    }
}

/// The thief's service has the request while the token is revoked, and answers then.
async fn late() {
    let service = Service::start().await;
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&service.tune().set("CLAVIGER_PROVIDERS__CREATION_TIMEOUT", "30s"));
    let client = started.with_tenant("acme").await;
    for connection in service.connections() {
        client.post("/v1/connections", &connection).await.expect_status(201);
    }
    let stolen = Stolen::new(&started, &client, End::Principal).await;
    let hasty = stolen.client.clone().with_header("claviger-timeout", "1s");
    service.slow(Duration::from_secs(8));
    for connection in ["vault", "aws"] {
        lose(&gateway, &hasty, "/v1/keys", &new_key(connection, connection), "deadline_exceeded").await;
    }
    stolen.end(&client).await;
    assert_eq!(begun(&gateway).await.len(), 2, "the service has not answered");
    until_ended(&gateway).await;
    for connection in ["vault", "aws"] {
        client.get(&format!("/v1/keys/{connection}")).await.expect_problem(404, "not_found");
    }
    assert_eq!(started.output().matches("nothing uses").count(), 2);
}

/// What the configuration declares is nobody's loot: an apply is repeated at each start.
async fn declared() {
    let service = Service::start().await;
    let gateway = Gateway::new(crate::BINARY);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("claviger.toml");
    let declare = |keys: &[&str]| {
        let keys = keys
            .iter()
            .map(|connection| format!("[[keys]]\ntenant = \"acme\"\nname = \"declared-{connection}\"\nconnection = \"{connection}\"\n"));
        std::fs::write(&file, keys.collect::<String>()).expect("the file is written");
    };
    declare(&[]);
    let mut tune = service.tune();
    tune.arguments = vec!["--config".to_owned(), file.display().to_string()];
    let started = gateway.serve(&tune);
    let client = started.with_tenant("acme").await;
    for connection in service.connections() {
        client.post("/v1/connections", &connection).await.expect_status(201);
    }
    let operator = started.operator();
    let issued = token(&operator, "thief", &["ManageTenants"], None).await;
    let thief = operator.with_token(text_of(&issued));

    declare(&["vault", "aws"]);
    service.lose(Some(Loss::Closed));
    let applied = thief.post_empty("/v1/declared/apply").await.expect_status(200);
    service.lose(None);
    assert_eq!(begun(&gateway).await.len(), 2, "{applied}");
    assert_eq!(operator.delete("/v1/principals/thief").await.status, 204);
    thief.post_empty("/v1/declared/apply").await.expect_problem(401, "unauthenticated");
    let made = service.keys();
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    for connection in ["vault", "aws"] {
        let key = client.get(&format!("/v1/keys/declared-{connection}")).await.expect_status(200);
        assert_eq!((&key["managed_by"], &key["connection"]), (&json!("config"), &json!(connection)));
    }
    assert_eq!(service.keys(), made);
}

async fn suspended() {
    let service = Service::start().await;
    let (gateway, started, client) = world(&service).await;
    service.lose(Some(Loss::Closed));
    let code = "provider_unavailable";
    lose(&gateway, &client, "/v1/keys", &new_key("new", "vault"), code).await;
    lose(&gateway, &client, "/v1/keys/on-aws/rotate", &json!({"connection": "vault"}), code).await;
    service.lose(None);
    let operator = started.operator();
    operator.post_empty("/v1/tenants/acme/suspend").await.expect_status(200);
    let calls = service.calls();
    let_be_due(&gateway).await;
    // A round that began after that has ended.
    for _ in 0..2 {
        let before = last_round(&started).await;
        until(async || last_round(&started).await != before).await;
    }
    assert_eq!((begun(&gateway).await.len(), service.calls()), (2, calls));
    operator.post_empty("/v1/tenants/acme/resume").await.expect_status(200);
    until_ended(&gateway).await;
    client.get("/v1/keys/new").await.expect_status(200);
    let moved = client.get("/v1/keys/on-aws").await.expect_status(200);
    assert_eq!(moved["connection"], "vault", "{moved}");
}

/// When the job that looks for creations last ended.
async fn last_round(started: &Started) -> Value {
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let jobs = ready["jobs"].as_array().expect("the jobs");
    let job = jobs.iter().find(|job| job["name"] == "creations").expect("the job");
    job["last_run"].clone()
}
