//! Another authority and address of an XKS proxy.

use claviger_fake::Tls;
use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::proxy::Setup;
use serde_json::{Value, json};

use super::External;
use crate::world::CONNECTION;

/// What inspects TLS comes before the key manager, and renews its authority.
pub async fn changed() {
    let external = External::new().await;
    let made = external.data_key().await;
    let upstream = external.fake.url().replace("/of/acme", "");
    let front = Setup::before(&upstream).trusting(external.fake.tls().unwrap().ca_pem());
    let front = front.over_tls(Tls::new(&[]).unwrap()).start();
    let stranger = FakeXks::start(Transport::Tls, "/of/acme").await.unwrap();
    stranger.keys().make("orders");

    let client = &external.world.client;
    let path = format!("/v1/connections/{CONNECTION}");
    let key = AccessKey::first();
    let secrets = json!({"access_key_id": key.id, "secret_access_key": key.secret});
    let change = async |settings: &Value| client.patch(&path, "*", &json!({"settings": settings, "secrets": secrets})).await;
    let before = client.get(&path).await.expect_status(200);
    let address = format!("{}/of/acme", front.url());
    for wrong in [
        json!({"ca": front.ca_pem()}),
        json!({"address": address}),
        json!({"address": stranger.url(), "ca": stranger.tls().unwrap().ca_pem()}),
    ] {
        change(&wrong).await.expect_problem(400, "connection_refused_at_check");
        assert_eq!(client.get(&path).await.expect_status(200), before, "nothing was changed");
    }
    assert!(front.calls().is_empty(), "nothing is sent to who is not trusted");
    // Where nobody listens: it says so, and does not send its reader to the check, which tries what is stored.
    let dead = change(&json!({"address": "https://127.0.0.1:1/of/acme"})).await;
    let problem = dead.expect_problem(400, "connection_refused_at_check");
    assert!(problem["detail"].as_str().unwrap().contains("Connection refused"), "{problem}");
    let advice = problem["what_to_do"].as_str().unwrap();
    assert!(
        advice.contains("address") && !advice.contains("claviger connections check"),
        "{problem}"
    );
    external.opens(&made).await;

    let both = json!({"address": address, "ca": front.ca_pem()});
    let after = change(&both).await.expect_status(200);
    for member in ["address", "ca"] {
        assert_eq!(after["settings"][member], both[member]);
    }
    front.forget_calls();
    external.opens(&made).await;
    assert_eq!(front.calls().len(), 1, "by the new way");
    let newer = external.data_key().await;

    front.swap_certificate(Tls::new(&[]).unwrap());
    front.reset_open();
    let refused = external.unwrap(&made["wrapped"]).await;
    let problem = refused.expect_problem(424, "connection_misconfigured");
    assert!(problem["what_to_do"].as_str().unwrap().contains("`ca`"), "{problem}");
    change(&json!({"ca": front.ca_pem()})).await.expect_status(200);
    for made in [&made, &newer] {
        external.opens(made).await;
    }
}
