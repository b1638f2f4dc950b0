//! What the configuration no longer declares.

use claviger_test_support::records;
use serde_json::{Value, json};

use super::declared::{Bench, DECLARED, command, key};

#[tokio::test]
async fn what_is_no_longer_declared_is_told_and_the_tenants_once_it_is_released() {
    let bench = Bench::new();
    let started = bench.serve(DECLARED);
    key(&started, "orders").await;
    let client = started.tenant("acme");
    let refused = command(&bench, &started, &["release", "key", "acme", "orders"]);
    assert!(refused.0 != 0 && refused.1.contains("managed_by_config"), "{refused:?}");

    // The connection of `globex` stays.
    let rest = DECLARED.replace("[\"acme\", \"globex\"]", "[\"globex\"]");
    bench.tune(rest.split("[[keys]]").next().unwrap());
    let told = "- connection acme/embedded: not declared\n- key acme/orders: not declared\n3 as declared\n";
    for act in ["plan", "apply"] {
        assert_eq!(command(&bench, &started, &[act]), (0, told.to_owned()));
    }
    // Until then it is as if it were declared.
    client.delete("/v1/keys/orders").await.expect_problem(409, "managed_by_config");

    let released = command(&bench, &started, &["release", "key", "acme", "orders"]);
    assert_eq!(released.0, 0, "{released:?}");
    let shown = client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(shown["managed_by"], Value::Null);
    assert_eq!(command(&bench, &started, &["release", "connection", "acme", "embedded"]).0, 0);
    // Again, it changes nothing.
    assert_eq!(command(&bench, &started, &["release", "key", "acme", "orders"]).0, 0);
    assert_eq!(client.get("/v1/keys/orders").await.expect_status(200), shown);
    assert_eq!(command(&bench, &started, &["plan"]), (0, "3 as declared\n".to_owned()));
    let records = records(&bench.gateway.data());
    let of_tenant = |record: &&Value| {
        let update = ["UpdateKey", "UpdateConnection"].map(Value::from).contains(&record["operation"]);
        update && record["kind"] == "outcome" && record["tenant"] == "00112233445566778899aabbccddeeff"
    };
    assert_eq!(
        records.iter().filter(of_tenant).count(),
        3,
        "each has its record in the tenant's log"
    );

    for (kind, tenant, name, code) in [
        ("key", "acme", "nobody", "not_found"),
        ("key", "nowhere", "orders", "not_found"),
        ("connection", "globex", "embedded", "managed_by_config"),
    ] {
        let body = json!({"kind": kind, "tenant": tenant, "name": name});
        let refused = started.operator().post("/v1/declared/release", &body).await;
        assert_eq!(refused.body["code"], code, "{}", refused.text);
    }
    // It outlives the process, and the tenant ends it.
    assert!(started.terminate());
    let started = bench.serve("");
    let client = started.tenant("acme");
    assert_eq!(client.delete("/v1/keys/orders").await.status, 204);
    assert_eq!(client.delete("/v1/connections/embedded").await.status, 204);
}
