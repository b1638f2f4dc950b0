//! What a tenant learns of provider keys that another tenant has claimed, where it leads a connection to their server.

use claviger_test_support::{Answer, Client, Tune, records_of};
use serde_json::{Value, json};

use crate::names::Bare;
use crate::transit::Transit;
use crate::world::{World, key_service_on_loopback};

/// Adopts a key of the service.
async fn adopt(tenant: &Client, name: &str, connection: &str, provider_key: &str) -> Answer {
    let body = json!({"name": name, "connection": connection, "provider_key": provider_key});
    tenant.post("/v1/keys", &body).await
}

/// What the log has of a request, but for ids and times.
fn recorded(world: &World, answer: &Answer) -> Vec<Value> {
    let records = records_of(&world.gateway.data(), answer.header("x-request-id")).into_iter();
    let of_record = |record: Value| json!([record["kind"], record["operation"], record["result"], record["code"]]);
    records.map(of_record).collect()
}

/// A tenant leads two connections to the server of another tenant, to which the operator lends the identity: one has a
/// key that the other tenant has claimed, one has a key that nobody has. Both answers, and what is sent for them, are the
/// same.
#[tokio::test]
async fn a_change_of_network_settings_does_not_show_what_another_tenant_has_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let transit = Transit::start().await;
    transit.make_key("claimed");
    transit.make_key("free");
    let (file, secret) = (folder.path().join("claviger.toml"), folder.path().join("token"));
    std::fs::write(&secret, "hvs.of-the-operator").unwrap();
    let text = format!(
        "[[tenants]]\nname = \"acme\"\n[[tenants]]\nname = \"globex\"\n[[connections]]\ntenants = [\"acme\", \"globex\"]\n\
         name = \"lent\"\nprovider = \"vault\"\nsettings = {{ address = \"{}\", auth = {{ token = {{ file = {secret:?} }} }} }}\n",
        transit.other_url()
    );
    std::fs::write(&file, text).unwrap();
    let tune = Tune {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..key_service_on_loopback()
    };
    let world = World::tuned(&tune).await;
    let [acme, globex] = ["acme", "globex"].map(|name| world.started.tenant(name));
    adopt(&acme, "orders", "lent", "claimed").await.expect_status(201);
    // The claim is in force.
    let refused = adopt(&globex, "orders", "lent", "claimed").await;
    refused.expect_problem(424, "provider_denied");
    let honest = world.honest().await;

    let mut answers = Vec::new();
    for name in ["claimed", "free"] {
        let mut connection = transit.connection();
        connection["name"] = json!(name);
        world.evil.post("/v1/connections", &connection).await.expect_status(201);
        adopt(&world.evil, name, name, name).await.expect_status(201);
        transit.forget();
        let path = format!("/v1/connections/{name}");
        let answer = world.evil.patch(&path, "*", &transit.patch()).await;
        let sent = transit.requests();
        answers.push((Bare::of_made(&answer, name), sent, recorded(&world, &answer)));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let path = format!("/v1/keys/{name}/data-keys");
        world.evil.post(&path, &json!({})).await.expect_status(200);
    }
    assert_eq!(answers[0], answers[1]);
    acme.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    honest.end().await;
}
