//! A declared connection of several tenants: who is refused another tenant's key learns no more than who is refused one
//! that the key manager denies.

use std::path::Path;

use claviger_fake_xks::{AccessKey, Denial, FakeXks, Transport};
use claviger_test_support::{Answer, Client, Tune, text_of, token};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, TENANT, World};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("claimed::another_tenants_key_is_refused_as_a_denied_one", &[], || {
            Box::pin(claimed())
        }),
        Case::new(
            "claimed::a_released_connection_claims_within_its_tenant_once_its_secrets_are_new",
            &[],
            || Box::pin(released()),
        ),
    ]
}

const OTHER: &str = "globex";

/// A problem without the id of its request.
fn problem(answer: &Answer) -> Value {
    let mut problem = answer.body.clone();
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

/// A fake, and a gateway whose configuration declares a connection to it for both tenants.
struct Bench {
    fake: FakeXks,
    world: World,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let fake = FakeXks::start(Transport::Plain, "").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), AccessKey::first().secret).unwrap();
        declare(&fake, folder.path(), &[TENANT, OTHER]);
        let world = World::of(Tune {
            arguments: vec!["--config".to_owned(), folder.path().join("claviger.toml").display().to_string()],
            ..Tune::default()
        });
        Self { fake, world, folder }
    }
}

/// Writes a configuration that declares the connection for these tenants.
fn declare(fake: &FakeXks, folder: &Path, tenants: &[&str]) {
    let declared = format!(
        "[[tenants]]\nname = \"{TENANT}\"\n[[tenants]]\nname = \"{OTHER}\"\n[[connections]]\ntenants = {tenants:?}\n\
         name = \"{CONNECTION}\"\nprovider = \"xks\"\n[connections.settings]\naddress = \"{}\"\nregion = \"eu-central-1\"\n\
         # A slow machine must not end a call.\nbudget_ms = 10000\n[connections.settings.auth.sigv4]\naccess_key_id = \"{}\"\n\
         secret_access_key = {{ file = \"{}\" }}\n",
        fake.url(),
        AccessKey::first().id,
        folder.join("secret").display()
    );
    std::fs::write(folder.join("claviger.toml"), declared).unwrap();
}

/// One of the other tenant's own: an operator is told the key manager's own reason.
async fn other(world: &World) -> Client {
    let other = world.started.tenant(OTHER);
    let issued = token(&other, "caller", &["CreateKey"], None).await;
    other.with_token(text_of(&issued))
}

async fn released() {
    let Bench { fake, world, folder } = Bench::new().await;
    fake.keys().make("orders");
    let adopted = world.key("orders", json!({"provider_key": "orders"})).await;
    let other = other(&world).await;
    let adopt = async || {
        let body = json!({"name": "theirs", "connection": CONNECTION, "provider_key": "orders"});
        other.post("/v1/keys", &body).await
    };
    adopt().await.expect_problem(424, "provider_denied");
    declare(&fake, folder.path(), &[OTHER]);
    let release = json!({"kind": "connection", "tenant": TENANT, "name": CONNECTION});
    let released = world.started.operator().post("/v1/declared/release", &release).await;
    released.expect_status(204);
    // The identity is still the operator's, who lends it to the other tenant as well.
    let connection = format!("/v1/connections/{CONNECTION}");
    world
        .client
        .patch(&connection, "*", &json!({"labels": {"a": "b"}}))
        .await
        .expect_status(200);
    adopt().await.expect_problem(424, "provider_denied");
    // Nor is it the tenant's own while one of its secrets is left.
    let removed = json!({"secrets": {"second": null}});
    world.client.patch(&connection, "*", &removed).await.expect_status(200);
    adopt().await.expect_problem(424, "provider_denied");
    let key = AccessKey::first();
    let secrets = json!({"secrets": {"access_key_id": key.id, "secret_access_key": key.secret}});
    world.client.patch(&connection, "*", &secrets).await.expect_status(200);
    adopt().await.expect_status(201);
    // Each tenant's key is its own, and within the tenant it is claimed still.
    let made = world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let opened = world.client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await;
    assert_eq!(opened.expect_status(200)["plaintext"], made["plaintext"]);
    let twice = json!({"name": "twice", "connection": CONNECTION, "provider_key": adopted["provider_key"]});
    world
        .client
        .post("/v1/keys", &twice)
        .await
        .expect_problem(409, "provider_key_taken");
}

async fn claimed() {
    let Bench {
        fake,
        world,
        folder: _folder,
    } = Bench::new().await;
    for name in ["orders", "denied"] {
        fake.keys().make(name);
    }
    let other = other(&world).await;
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
