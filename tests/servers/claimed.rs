//! A declared connection of several tenants: who is refused another tenant's key learns no more than who is refused one
//! that the key manager denies.

use claviger_fake_xks::{AccessKey, Denial, FakeXks, Transport};
use claviger_test_support::{Answer, Client, Tune};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, TENANT, World};

pub fn cases() -> Vec<Case> {
    vec![Case::new("claimed::another_tenants_key_is_refused_as_a_denied_one", &[], || {
        Box::pin(claimed())
    })]
}

const OTHER: &str = "globex";

/// A problem without the id of its request.
fn problem(answer: &Answer) -> Value {
    let mut problem = answer.body.clone();
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

async fn claimed() {
    let fake = FakeXks::start(Transport::Plain, "").await.unwrap();
    for name in ["orders", "denied"] {
        fake.keys().make(name);
    }
    let folder = tempfile::tempdir().unwrap();
    let (secret, config) = (folder.path().join("secret"), folder.path().join("claviger.toml"));
    let key = AccessKey::first();
    std::fs::write(&secret, &key.secret).unwrap();
    let declared = format!(
        "[[tenants]]\nname = \"{TENANT}\"\n[[tenants]]\nname = \"{OTHER}\"\n[[connections]]\ntenants = [\"{TENANT}\", \"{OTHER}\"]\n\
         name = \"{CONNECTION}\"\nprovider = \"xks\"\n[connections.settings]\naddress = \"{}\"\nregion = \"eu-central-1\"\n\
         # A slow machine must not end a call.\nbudget_ms = 10000\n[connections.settings.auth.sigv4]\naccess_key_id = \"{}\"\n\
         secret_access_key = {{ file = \"{}\" }}\n",
        fake.url(),
        key.id,
        secret.display()
    );
    std::fs::write(&config, declared).unwrap();
    let world = World::of(Tune {
        arguments: vec!["--config".to_owned(), config.display().to_string()],
        ..Tune::default()
    });
    let other = world.started.tenant(OTHER);
    // An operator is told the key manager's own reason.
    let issued = claviger_test_support::token(&other, "caller", &["CreateKey"], None).await;
    let other = other.with_token(claviger_test_support::text_of(&issued));
    world.key("orders", json!({"provider_key": "orders"})).await;
    let journal = &fake.switches().journal;
    let adopt = async |client: &Client, name: &str| {
        journal.clear();
        let body = json!({"name": "theirs", "connection": CONNECTION, "provider_key": name});
        let refused = client.post("/v1/keys", &body).await;
        // Health checks are for no caller.
        let requests = journal.all();
        let calls = requests
            .iter()
            .filter(|request| request.body["requestMetadata"]["kmsOperation"] != "KmsHealthCheck");
        (problem(&refused), calls.count())
    };
    let denials = ["DescribeKey", "CreateKey"].map(|value| Denial {
        member: "kmsOperation".to_owned(),
        value: value.to_owned(),
    });
    fake.access().change(|settings| settings.denials = denials.into());
    let denied = adopt(&other, "denied").await;
    fake.access().change(|settings| settings.denials.clear());
    assert_eq!(denied.0["code"], "provider_denied", "{denied:?}");
    assert_eq!(adopt(&other, "orders").await, denied);
    // What nobody has claimed is adopted.
    other
        .post(
            "/v1/keys",
            &json!({"name": "theirs", "connection": CONNECTION, "provider_key": "denied"}),
        )
        .await
        .expect_status(201);
}
