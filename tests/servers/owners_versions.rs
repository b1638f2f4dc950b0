//! What only Transit's administrator can do to a key: raise its minimum versions, and trim it.

use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Tune, records_of};
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::transit_key::{BACKED_UP, PATIENCE, Scene};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("owners_versions::minimum_versions_are_raised_and_the_key_is_trimmed", DEV, || {
            Box::pin(raised())
        }),
        Case::new("owners_versions::a_trimmed_version_is_destroyed_until_it_is_restored", DEV, || {
            Box::pin(trimmed())
        }),
    ]
}

/// State at the provider of each version.
async fn states(world: &World) -> Vec<Value> {
    let versions = world.client.list("/v1/keys/orders/versions").await;
    versions.iter().map(|version| version["provider_state"].clone()).collect()
}

async fn raised() {
    let name = unique("theirs");
    let key = format!("transit/keys/{name}");
    Server::Dev.bao(&["write", "-f", &key], "");
    let world = World::new(Tune::default()).await;
    let auth = json!({"token": Server::Dev.token()});
    world.connect("vault", &Server::Dev.settings(&auth)).await;
    world.key("orders", json!({"provider_key": name})).await;
    let data_key = async || world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let unwrap = async |made: &Value| -> Answer { world.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await };

    let first = data_key().await.expect_status(200);
    for _ in 0..2 {
        Server::Dev.bao(&["write", "-f", &format!("{key}/rotate")], "");
    }
    // Of what the first version wrapped, nothing may be opened any more, and nothing be wrapped with the second.
    let raised = ["min_decryption_version=2", "min_encryption_version=3"];
    Server::Dev.bao(&[&["write", &format!("{key}/config")][..], &raised].concat(), "");
    let third = data_key().await.expect_status(200);
    assert_eq!(third["version"], 3);
    unwrap(&third).await.expect_status(200);
    unwrap(&first).await.expect_problem(409, "key_state");
    assert_eq!(states(&world).await, ["disabled", "enabled", "enabled"]);

    Server::Dev.bao(&["write", &format!("{key}/trim"), "min_available_version=2"], "");
    world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(states(&world).await, ["destroyed", "enabled", "enabled"]);
    unwrap(&first).await.expect_problem(409, "key_state");

    // What its owner lets leave the server later.
    let key_now = async || world.client.get("/v1/keys/orders").await.expect_status(200);
    assert!(key_now().await.get("warnings").is_none());
    Server::Dev.bao(&["write", &format!("{key}/config"), "exportable=true"], "");
    world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert_eq!(key_now().await["warnings"], json!(["exportable"]));

    // Transit enables no keys. The key is enabled here; what was not done is told and recorded, also at a repetition.
    world.client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    let once = world.client.clone().with_header("idempotency-key", "on");
    let enable = async || once.post("/v1/keys/orders/enable", &json!({"at_provider": true})).await;
    let first = enable().await;
    let records = records_of(&world.gateway.data(), first.header("x-request-id"));
    let outcomes = records.iter().filter(|record| record["kind"] == "outcome");
    let told: Vec<_> = outcomes.map(|record| (&record["result"], &record["code"])).collect();
    assert_eq!(told, [(&json!("success"), &Value::Null), (&json!("failed"), &json!("unsupported"))]);
    let first = first.expect_status(200);
    assert_eq!(
        (&first["state"], &first["at_provider"]["result"]),
        (&json!("enabled"), &json!("unsupported"))
    );
    assert_eq!(enable().await.expect_status(200), first);
}

/// No refusal says that the version could be permitted again.
#[track_caller]
fn is_destroyed(answer: Answer) {
    let problem = answer.expect_problem(409, "key_state");
    let (detail, advice) = (problem["detail"].as_str().unwrap(), problem["what_to_do"].as_str().unwrap());
    assert!(detail.contains("`destroyed` at the provider"), "{problem}");
    assert!(
        advice.contains("Nobody can enable a destroyed version again") && advice.contains("from a backup"),
        "{problem}"
    );
}

async fn trimmed() {
    let scene = Scene::new(1, &BACKED_UP).await;
    let made = scene.data_key().await.expect_status(200);
    let backup = scene.backup();
    Server::Dev.bao(&["write", "-f", &format!("{}/rotate", scene.path)], "");
    let raised = ["min_decryption_version=2", "min_encryption_version=2"];
    Server::Dev.bao(&[&["write", &format!("{}/config", scene.path)][..], &raised].concat(), "");
    Server::Dev.bao(&["write", &format!("{}/trim", scene.path), "min_available_version=2"], "");
    // The server itself refuses it in the words for one below the minimum.
    for _ in 0..2 {
        is_destroyed(scene.unwrap(&made).await);
    }
    let report = scene.check().await;
    let row = report["rights"]
        .as_array()
        .unwrap()
        .iter()
        .find(|right| right["operation"] == "key_version");
    let row = row.unwrap_or_else(|| panic!("{report}"));
    let (how, advice) = (row["how"].as_str().unwrap(), row["what_to_do"].as_str().unwrap());
    assert!(how.contains("`destroyed`") && advice.starts_with("Nobody can enable"), "{report}");
    // What the advice says: the backup has the version.
    scene.restore(&backup);
    let begin = Instant::now();
    while scene.unwrap(&made).await.status != 200 {
        assert!(begin.elapsed() < PATIENCE, "the restored version does not open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
