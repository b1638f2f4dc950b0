//! A namespace on a server that has none.

use claviger_test_support::Tune;
use serde_json::json;

use crate::Case;
use crate::front::{Front, Manner};
use crate::openbao::{DEV, Server, unique};
use crate::world::{CONNECTION, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("namespaces::vault_community_is_refused_before_it_is_used", DEV, || {
            Box::pin(community())
        }),
        Case::new("namespaces::a_server_that_has_them_is_used", DEV, || Box::pin(in_openbao())),
    ]
}

async fn community() {
    let front = Front::start(Manner::Community).await;
    let world = World::new(Tune::default()).await;
    let mut settings = front.settings(&json!({"token": Server::Dev.token()}));
    settings["namespace"] = json!("team1");
    world.connect("vault", &settings).await;
    for _ in 0..2 {
        let body = json!({"name": "orders", "connection": CONNECTION});
        let refused = world.client.post("/v1/keys", &body).await;
        assert_eq!(refused.body["code"], "connection_misconfigured", "{}", refused.text);
        let advice = refused.body["what_to_do"].as_str().unwrap();
        assert!(advice.contains("namespace") && advice.contains("Vault Community"), "{advice}");
    }
    let check = format!("/v1/connections/{CONNECTION}/check");
    let report = world.client.post_empty(&check).await.expect_status(200);
    assert_eq!(report["reachable"], false, "{report}");
    assert!(report["what_to_do"].as_str().unwrap().contains("Vault Community"), "{report}");
    assert!(
        front.calls().iter().all(|path| path == "/v1/sys/health"),
        "nothing is made in the root namespace"
    );
    assert!(front.tokens().is_empty(), "the token is not sent");
}

async fn in_openbao() {
    let front = Front::start(Manner::Honest).await;
    let namespace = unique("team");
    Server::Dev.bao(&["namespace", "create", &namespace], "");
    Server::Dev.bao(&["secrets", "enable", &format!("-namespace={namespace}"), "transit"], "");
    let world = World::new(Tune::default()).await;
    let mut settings = front.settings(&json!({"token": Server::Dev.token()}));
    settings["namespace"] = json!(namespace);
    world.connect("vault", &settings).await;
    let key = world.key("orders", json!({})).await;
    assert!(
        key["provider_key"].as_str().unwrap().starts_with(&format!("{namespace}/transit/")),
        "{key}"
    );
    // The server is asked once, and again by each check.
    let asked = |calls: Vec<String>| calls.iter().filter(|path| *path == "/v1/sys/health").count();
    assert_eq!(asked(front.calls()), 1);
    world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    assert_eq!(asked(front.calls()), 0);
}
