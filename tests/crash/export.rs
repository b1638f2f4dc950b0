//! A move out of external custody whose answer got lost: the gateway does not finish it once the leave to export
//! has ended.

use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_test_support::{text_of, token};
use libtest_mimic::Trial;
use serde_json::json;

use crate::answers::world;
use crate::creations::{begun, found_out, let_be_due, lose, until_ended};
use crate::run;
use crate::service::{Loss, Service};

const KEY: &str = "/v1/keys/held";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("export::a_lost_move_is_not_finished_once_its_leave_has_ended", || {
        run(ended())
    })]
}

async fn ended() {
    let service = Service::start().await;
    let (gateway, _started, client) = world(&service).await;
    let fake = FakeXks::start(Transport::Plain, "").await.expect("the fake");
    fake.keys().make("theirs");
    let access = AccessKey::first();
    // A slow machine must not end a call.
    let settings = json!({"address": fake.url(), "region": "eu-central-1", "budget_ms": 10000,
        "auth": {"sigv4": {"access_key_id": access.id, "secret_access_key": access.secret}}});
    let connection = json!({"name": "theirs", "provider": "xks", "settings": settings});
    client.post("/v1/connections", &connection).await.expect_status(201);
    let key = json!({"name": "held", "connection": "theirs", "provider_key": "theirs"});
    let held = client.post("/v1/keys", &key).await.expect_status(201);
    let issued = token(&client, "owner", &["UpdateKey", "CreateKey"], None).await;
    let owner = client
        .with_token(text_of(&issued))
        .with_header("claviger-justification", "a new vendor");
    let allow = async |allowed: bool| {
        let body = json!({"allow_export": allowed});
        owner.patch(KEY, "*", &body).await.expect_status(200)
    };
    let (path, out) = (format!("{KEY}/rotate"), json!({"connection": "vault"}));

    allow(true).await;
    service.lose(Some(Loss::Closed));
    lose(&gateway, &client, &path, &out, "provider_unavailable").await;
    service.lose(None);
    assert_eq!(begun(&gateway).await.len(), 1);
    let before = allow(false).await;
    let_be_due(&gateway).await;
    until_ended(&gateway).await;
    let told = found_out(&gateway, &held["id"]);
    assert_eq!(
        (&told["result"], &told["code"]),
        (&json!("failed"), &json!("permission_denied")),
        "{told}"
    );
    let after = client.get(KEY).await.expect_status(200);
    assert_eq!(after, before, "{after}");

    allow(true).await;
    let moved = client.post(&path, &out).await.expect_status(200);
    assert_eq!((&moved["primary_version"], &moved["custody"]), (&json!(2), &json!("provider")));
}
