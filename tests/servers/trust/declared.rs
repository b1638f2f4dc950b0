//! Other network settings of a connection that the configuration declares.

use std::path::PathBuf;

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::{Value, json};

use super::{Limited, PATH, token};
use crate::front::{Front, Manner};
use crate::openbao::{Server, unique};
use crate::world::World;

/// The declaration of a key.
const KEY: &str = "[[keys]]\ntenant = \"acme\"\nname = \"orders\"\nconnection = \"kms\"\n";

/// A gateway, and its configuration.
struct Bench {
    gateway: Gateway,
    file: PathBuf,
    /// With the connection's token.
    secret: PathBuf,
}

impl Bench {
    async fn new(token: &str) -> Self {
        let World { gateway, started, .. } = World::new(Tune::default()).await;
        assert!(started.terminate());
        let bench = Self {
            file: gateway.token_file().with_extension("toml"),
            secret: gateway.token_file().with_extension("vault"),
            gateway,
        };
        std::fs::write(&bench.secret, token).unwrap();
        bench
    }

    /// Declares a connection by way of a front, and more.
    fn write(&self, front: &Front, more: &str) {
        let (address, ca, secret) = (front.address(), &front.ca, self.secret.display());
        let settings = format!("settings = {{ address = \"{address}\", ca = '''{ca}''', auth = {{ token = {{ file = \"{secret}\" }} }} }}");
        let text = format!("[[connections]]\ntenants = [\"acme\"]\nname = \"kms\"\nprovider = \"vault\"\n{settings}\n{more}");
        std::fs::write(&self.file, text).unwrap();
    }

    fn serve(&self) -> Started {
        let mut tune = Tune::default()
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
        tune.arguments = vec!["--config".to_owned(), self.file.to_str().unwrap().to_owned()];
        self.gateway.serve(&tune)
    }
}

/// The steps of a plan, or of an apply.
async fn steps(started: &Started, act: &str) -> Vec<Value> {
    let report = started
        .operator()
        .post_empty(&format!("/v1/declared/{act}"))
        .await
        .expect_status(200);
    let of = |step: &Value| json!([step["kind"], step["name"], step["result"], step["detail"]]);
    report["steps"].as_array().unwrap().iter().map(of).collect()
}

pub async fn declared() {
    let mut front = Front::start(Manner::Honest).await;
    let bench = Bench::new(&Server::Dev.token()).await;
    bench.write(&front, KEY);
    let started = bench.serve();
    let client = started.tenant("acme");
    until(async || client.get("/v1/keys/orders").await.status == 200).await;
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    // Nobody else changes it.
    let body = json!({"settings": {"proxy": null}, "secrets": token()});
    client.patch(PATH, "*", &body).await.expect_problem(409, "managed_by_config");

    // One that lacks the keys is refused here, too: there is a canary. A check makes it where the creation had no time.
    client.post_empty(&format!("{PATH}/check")).await.expect_status(200);
    let evil = Front::start(Manner::Stranger(unique("nowhere"))).await;
    bench.write(&evil, KEY);
    let plan = steps(&started, "plan").await;
    assert_eq!(plan, [json!(["connection", "kms", "new_settings", "address, ca"])]);
    let applied = steps(&started, "apply").await;
    assert_eq!(applied[0][2], "failed", "{applied:?}");
    assert!(
        applied[0][3].as_str().unwrap().contains("connection_refused_at_check"),
        "{applied:?}"
    );
    front.renew();
    bench.write(&front, KEY);
    assert_eq!(steps(&started, "plan").await, [json!(["connection", "kms", "new_settings", "ca"])]);
    assert_eq!(
        steps(&started, "apply").await,
        [json!(["connection", "kms", "settings_changed", "ca"])]
    );
    assert_eq!(steps(&started, "plan").await, Vec::<Value>::new());
    let body = json!({"wrapped": made["wrapped"]});
    client.post("/v1/unwrap", &body).await.expect_status(200);

    // A start takes them over as well, once it serves.
    assert!(started.terminate());
    front.renew();
    bench.write(&front, KEY);
    let started = bench.serve();
    let client = started.tenant("acme");
    until(async || client.get(PATH).await.body["settings"]["ca"] == json!(front.ca)).await;
    client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);

    // What is no longer declared is told, and is the tenant's once it is released.
    std::fs::write(&bench.file, "").unwrap();
    let operator = started.operator();
    let plan = operator.post_empty("/v1/declared/plan").await.expect_status(200);
    let told: Vec<(&Value, &Value)> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (&step["kind"], &step["result"]))
        .collect();
    assert_eq!(told.len(), 2, "{plan}");
    assert!(told.iter().all(|(_, result)| *result == "not_declared"), "{plan}");
    for kind in ["connection", "key"] {
        let name = if kind == "key" { "orders" } else { "kms" };
        let body = json!({"kind": kind, "tenant": "acme", "name": name});
        assert_eq!(operator.post("/v1/declared/release", &body).await.status, 204);
    }
    let body = json!({"settings": {"ca": format!("{}{}", front.ca, evil.ca)}, "secrets": token()});
    client.patch(PATH, "*", &body).await.expect_status(200);
    client.delete("/v1/keys/orders").await;
    client.delete(PATH).await;
    client.get(PATH).await.expect_problem(404, "not_found");
    assert!(started.terminate());
}

/// What the operator declares is believed where nothing speaks against it.
pub async fn without_canary() {
    let (front, other) = (Front::start(Manner::Honest).await, Front::start(Manner::Honest).await);
    let limited = Limited::new();
    let bench = Bench::new(&limited.token).await;
    bench.write(&front, KEY);
    let started = bench.serve();
    let client = started.tenant("acme");
    until(async || client.get("/v1/keys/orders").await.status == 200).await;
    bench.write(&other, KEY);
    let planned = [json!(["connection", "kms", "new_settings", "address, ca"])];
    assert_eq!(steps(&started, "plan").await, planned);
    let applied = [json!(["connection", "kms", "settings_changed", "address, ca"])];
    assert_eq!(steps(&started, "apply").await, applied);
    assert_eq!(steps(&started, "plan").await, Vec::<Value>::new());
    let shown = client.get(PATH).await.expect_status(200);
    assert_eq!(shown["settings"]["ca"], json!(other.ca));

    limited.may_wrap(true);
    front.calls();
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    assert!(other.calls().iter().any(|path| path.contains("/encrypt/")) && front.calls().is_empty());
    // Once there is a canary, it has to open.
    client.post_empty(&format!("{PATH}/check")).await.expect_status(200);
    let evil = Front::start(Manner::Stranger(unique("nowhere"))).await;
    bench.write(&evil, KEY);
    let refused = steps(&started, "apply").await;
    assert_eq!(refused[0][2], "failed", "{refused:?}");
    let body = json!({"wrapped": made["wrapped"]});
    client.post("/v1/unwrap", &body).await.expect_status(200);
    assert!(started.terminate());
}

/// Waits for a condition, for a minute at most.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it never came");
}
