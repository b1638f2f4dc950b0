//! Logins that a real service refuses, and secrets in files that change, counted where the service is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use claviger_test_support::{Answer, Client, Tune};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::Case;
use crate::openbao::{DEV, Server, TLS, unique};
use crate::world::{CONNECTION, TENANT, World, variable};

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const MOTO: &[&str] = &["CLAVIGER_TEST_MOTO_ADDRESS"];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("logins::a_refused_approle_logs_in_once_and_is_not_locked", TLS, || {
            Box::pin(a_refused_approle_logs_in_once_and_is_not_locked())
        }),
        Case::new("logins::a_check_tries_a_refused_approle_at_once", DEV, || {
            Box::pin(a_check_tries_a_refused_approle_at_once())
        }),
        Case::new("logins::a_refused_role_is_assumed_once", MOTO, || {
            Box::pin(a_refused_role_is_assumed_once())
        }),
        Case::new("logins::a_declared_secret_file_is_read_at_each_login", DEV, || {
            Box::pin(a_declared_secret_file_is_read_at_each_login())
        }),
    ]
}

/// A role at an AppRole mount of its own.
pub struct Role {
    pub server: Server,
    pub mount: String,
    pub role_id: String,
}

impl Role {
    pub fn new(server: Server) -> Self {
        Self::with_tokens_of(server, "1h")
    }

    /// Whose tokens live so long.
    pub fn with_tokens_of(server: Server, life: &str) -> Self {
        let mount = unique("approle");
        server.bao(&["auth", "enable", &format!("-path={mount}"), "approle"], "");
        let policy = unique("all");
        let rights = "path \"transit/*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }";
        server.bao(&["policy", "write", &policy, "-"], rights);
        let role = format!("auth/{mount}/role/gateway");
        let (policies, ttl, most) = (
            format!("token_policies={policy}"),
            format!("token_ttl={life}"),
            format!("token_max_ttl={life}"),
        );
        server.bao(&["write", &role, &policies, &ttl, &most], "");
        let role_id = server.bao(&["read", "-field=role_id", &format!("{role}/role-id")], "");
        let role_id = role_id.trim().to_owned();
        Self { server, mount, role_id }
    }

    pub fn secret_id(&self) -> String {
        let path = format!("auth/{}/role/gateway/secret-id", self.mount);
        self.server.bao(&["write", "-f", "-field=secret_id", &path], "").trim().to_owned()
    }

    /// Makes this the secret id of the role.
    fn admit(&self, secret_id: &str) {
        let path = format!("auth/{}/role/gateway/custom-secret-id", self.mount);
        self.server.bao(&["write", &path, &format!("secret_id={secret_id}")], "");
    }

    pub fn auth(&self, secret_id: &Value) -> Value {
        json!({"approle": {"role_id": self.role_id, "secret_id": secret_id, "mount": self.mount}})
    }

    /// How many logins the server's own audit log has.
    fn logins(&self) -> usize {
        let path = format!("auth/{}/login", self.mount);
        let log = self.server.file("audit.log");
        let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        requests
            .filter(|entry| entry["type"] == "request" && entry["request"]["path"] == *path)
            .count()
    }
}

pub async fn new_key(client: &Client, name: &str) -> Answer {
    client.post("/v1/keys", &json!({"name": name, "connection": CONNECTION})).await
}

/// Makes 60 requests at once and 41 one after another; each must be denied.
async fn denied(client: &Client) {
    let at_once: Vec<_> = (0..60)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { new_key(&client, &format!("at-once-{number}")).await })
        })
        .collect();
    for answer in at_once {
        answer.await.unwrap().expect_problem(424, "provider_denied");
    }
    for number in 0..41 {
        let answer = new_key(client, &format!("key-{number}")).await;
        let problem = answer.expect_problem(424, "provider_denied");
        assert!(problem["what_to_do"].is_string() && problem["retryable"] == false, "{problem}");
    }
}

pub async fn login(client: &Client) -> Value {
    let path = format!("/v1/connections/{CONNECTION}");
    client.get(&path).await.expect_status(200)["login"].clone()
}

pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What shows a refused login, once each.
async fn shown(world: &World, provider: &str) {
    let login = login(&world.client).await;
    assert_eq!(
        (&login["state"], &login["code"]),
        (&json!("refused"), &json!("provider_denied")),
        "{login}"
    );
    assert!(login["next_attempt"].is_string() && login["failing_since"].is_string(), "{login}");
    let printed = world.claviger(&["connections", "get", CONNECTION]);
    assert!(printed.contains("state=refused"), "{printed}");
    let metrics = world.started.operator().get("/metrics").await.text;
    for line in [
        format!("claviger_provider_logins_total{{provider=\"{provider}\",outcome=\"refused\"}} 1"),
        "claviger_connection_logins{state=\"refused\"} 1".to_owned(),
        format!("claviger_provider_breaker_transitions_total{{provider=\"{provider}\""),
    ] {
        let expected = !line.contains("breaker");
        assert_eq!(metrics.contains(&line), expected, "{line} in\n{metrics}");
    }
    let ready = world.started.operator().get("/readyz").await.text;
    assert!(ready.contains("1 with a refused login"), "{ready}");
    let log = world.started.output();
    assert_eq!(log.matches("the connection's login failed").count(), 1, "{log}");
}

async fn a_refused_approle_logs_in_once_and_is_not_locked() {
    let role = Role::new(Server::Tls);
    let world = World::new(Tune::default()).await;
    let settings = role.server.settings(&role.auth(&json!("a-secret-id-of-nobody")));
    world.connect("vault", &settings).await;
    denied(&world.client).await;
    assert_eq!(role.logins(), 1);
    shown(&world, "vault").await;

    // OpenBao locks a role after five: the corrected secret would be refused, too.
    let secrets = json!({"secrets": {"secret_id": role.secret_id()}});
    let path = format!("/v1/connections/{CONNECTION}");
    world.client.patch(&path, "*", &secrets).await.expect_status(200);
    new_key(&world.client, "orders").await.expect_status(201);
    assert_eq!(role.logins(), 2);
    let login = login(&world.client).await;
    assert_eq!((&login["state"], login["expires"].is_string()), (&json!("ok"), true), "{login}");
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(
        metrics.contains("claviger_connection_login_expires_seconds{connection=\""),
        "{metrics}"
    );
}

async fn a_check_tries_a_refused_approle_at_once() {
    let role = Role::new(Server::Dev);
    let world = World::new(Tune::default()).await;
    let settings = role.server.settings(&role.auth(&json!("the-secret-id-to-come")));
    world.connect("vault", &settings).await;
    new_key(&world.client, "orders").await.expect_problem(424, "provider_denied");
    role.admit("the-secret-id-to-come");
    new_key(&world.client, "orders").await.expect_problem(424, "provider_denied");
    let path = format!("/v1/connections/{CONNECTION}/check");
    assert_eq!(world.client.post_empty(&path).await.expect_status(200)["reachable"], true);
    new_key(&world.client, "orders").await.expect_status(201);
    assert_eq!(login(&world.client).await["state"], "ok");
}

/// STS: refuses, or passes the requests on to moto.
struct Sts {
    moto: String,
    client: reqwest::Client,
    refusing: AtomicBool,
    logins: AtomicUsize,
}

async fn sts(State(sts): State<Arc<Sts>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    sts.logins.fetch_add(1, Ordering::Relaxed);
    if sts.refusing.load(Ordering::Relaxed) {
        let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        return (StatusCode::FORBIDDEN, [("content-type", "text/xml")], refusal).into_response();
    }
    let request = sts.client.request(method, format!("{}{uri}", sts.moto)).headers(headers).body(body);
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, [("content-type", "text/xml")], answer.bytes().await.unwrap()).into_response()
}

async fn a_refused_role_is_assumed_once() {
    let moto = variable(MOTO[0]);
    let service = Arc::new(Sts {
        moto: moto.clone(),
        client: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
        refusing: AtomicBool::new(true),
        logins: AtomicUsize::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(sts).with_state(Arc::clone(&service));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let tune = Tune::default()
        .set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", &moto)
        .set("CLAVIGER_PROVIDERS__AWS__STS_ENDPOINT", &address);
    let world = World::new(tune).await;
    let base = json!({"static": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"}});
    let auth = json!({"assume_role": {"role_arn": "arn:aws:iam::123456789012:role/claviger", "base": base}});
    world.connect("aws", &json!({"region": "eu-central-1", "auth": auth})).await;
    denied(&world.client).await;
    assert_eq!(service.logins.load(Ordering::Relaxed), 1);
    shown(&world, "aws").await;

    service.refusing.store(false, Ordering::Relaxed);
    new_key(&world.client, "orders").await.expect_problem(424, "provider_denied");
    let path = format!("/v1/connections/{CONNECTION}/check");
    world.client.post_empty(&path).await.expect_status(200);
    new_key(&world.client, "orders").await.expect_status(201);
    let login = login(&world.client).await;
    assert_eq!((&login["state"], login["expires"].is_string()), (&json!("ok"), true), "{login}");
}

async fn a_declared_secret_file_is_read_at_each_login() {
    let role = Role::new(Server::Dev);
    let folder = tempfile::tempdir().unwrap();
    let (secret, config) = (folder.path().join("secret-id"), folder.path().join("claviger.toml"));
    std::fs::write(&secret, role.secret_id()).unwrap();
    let declared = format!(
        "[[tenants]]\nname = \"{TENANT}\"\n[[connections]]\ntenants = [\"{TENANT}\"]\nname = \"{CONNECTION}\"\nprovider = \"vault\"\n\
         [connections.settings]\naddress = \"{}\"\n[connections.settings.auth.approle]\nrole_id = \"{}\"\nmount = \"{}\"\n\
         secret_id = {{ file = \"{}\" }}\n",
        role.server.address(),
        role.role_id,
        role.mount,
        secret.display()
    );
    std::fs::write(&config, declared).unwrap();
    let tune = Tune {
        arguments: vec!["--config".to_owned(), config.display().to_string()],
        ..Tune::default()
    };
    let world = World::of(tune);
    new_key(&world.client, "orders").await.expect_status(201);

    // The secret is replaced, as Kubernetes replaces a token, and the old one and its tokens are revoked.
    let replaced = role.secret_id();
    std::fs::write(&secret, &replaced).unwrap();
    let revoke = format!("auth/{}/login", role.mount);
    role.server.bao(&["lease", "revoke", "-prefix", &revoke], "");
    until("a login with the replaced secret", async || {
        new_key(&world.client, "more").await.status == 201
    })
    .await;

    // A wrong secret is refused until the file is mended.
    std::fs::write(&secret, "a-secret-id-of-nobody").unwrap();
    until("a login with the wrong secret", async || {
        login(&world.client).await["state"] == "renewal_failing"
    })
    .await;
    // That is told while everything works still, with the time that is left.
    let log = world.started.output();
    let warning = log
        .lines()
        .find(|line| line.contains("the renewal of the connection's login failed"));
    let warning: Value = serde_json::from_str(warning.unwrap_or_else(|| panic!("no warning in {log}"))).unwrap();
    let left = warning["ends_in_seconds"].as_u64();
    assert!(
        warning["level"] == "WARN" && left.is_some_and(|left| (1..=3600).contains(&left)),
        "{warning}"
    );
    let ready = world.started.operator().get("/readyz").await.text;
    assert!(ready.contains("1 whose login cannot be renewed"), "{ready}");
    let metrics = world.started.operator().get("/metrics").await.text;
    assert!(
        metrics.contains("claviger_connection_logins{state=\"renewal_failing\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("claviger_connection_login_expires_seconds{connection=\""),
        "{metrics}"
    );
    new_key(&world.client, "meanwhile").await.expect_status(201);
    std::fs::write(&secret, role.secret_id()).unwrap();
    until("a login with the mended file", async || login(&world.client).await["state"] == "ok").await;
    new_key(&world.client, "others").await.expect_status(201);
}
