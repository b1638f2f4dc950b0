//! Other network settings of a connection, on the fake of Azure and on providers that have none.

use claviger_fake_azure::{Application, DIRECTORY, FakeAzure};
use claviger_test_support::{Tune, tunnels_to};
use serde_json::{Value, json};

use crate::support::Api;

const PATH: &str = "/v1/connections/hsm";
const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

async fn fake() -> FakeAzure {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    FakeAzure::start().await.unwrap()
}

/// A gateway with a connection `hsm` to the fake, and a key `orders` through it.
async fn api(fake: &FakeAzure) -> Api {
    let application = Application {
        secrets: vec!["the-secret".to_owned(), "the-next-secret".to_owned()],
        ..Application::default()
    };
    fake.access().register(CLIENT, application);
    fake.access().strict(true);
    let secret_file = tempfile::NamedTempFile::new().unwrap();
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_PROVIDERS__AZURE__MANAGED_HSMS", fake.hsm_url())
        .set("CLAVIGER_PROVIDERS__AZURE__AUTHORITY", fake.url())
        .set("CLAVIGER_PROVIDERS__AZURE__APPLICATION__CLIENT_ID", CLIENT)
        .set(
            "CLAVIGER_PROVIDERS__AZURE__APPLICATION__SECRET_FILE",
            secret_file.path().to_str().unwrap(),
        );
    let api = Api::tuned(&tune).await;
    let auth = json!({"client_secret": {"directory": DIRECTORY, "client_id": CLIENT, "secret": "the-secret"}});
    connect(
        &api,
        "hsm",
        "azure",
        json!({"vault": fake.hsm_url(), "ca": fake.ca_pem(), "auth": auth}),
    )
    .await;
    let key = json!({"name": "orders", "connection": "hsm"});
    api.client.post("/v1/keys", &key).await.expect_status(201);
    api
}

async fn connect(api: &Api, name: &str, provider: &str, settings: Value) {
    let body = json!({"name": name, "provider": provider, "settings": settings});
    api.client.post("/v1/connections", &body).await.expect_status(201);
}

#[tokio::test]
async fn azure_s_authority_and_proxy_change_with_the_secret() {
    let fake = fake().await;
    let api = api(&fake).await;
    let made = api.data_key("orders").await;
    let before = api.client.get(PATH).await.expect_status(200);
    let secrets = json!({"secret": "the-next-secret"});
    let strange = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for settings in [json!({"ca": strange}), json!({"ca": null}), json!({"proxy": "http://127.0.0.1:1"})] {
        let body = json!({"settings": settings, "secrets": secrets});
        let refused = api.client.patch(PATH, "*", &body).await;
        api.recorded(&refused, "UpdateConnection", "failed");
        let problem = refused.expect_problem(400, "connection_refused_at_check");
        assert_eq!(problem["provider"], "azure", "{problem}");
        // The check tries what is stored, so it says nothing of these settings.
        let (detail, advice) = (problem["detail"].as_str().unwrap(), problem["what_to_do"].as_str().unwrap());
        assert!(!advice.contains("claviger connections check"), "{problem}");
        let is_dead = settings.get("proxy").is_some();
        assert_eq!(detail.contains("Connection refused"), is_dead, "{problem}");
        assert_eq!(api.client.get(PATH).await.expect_status(200), before);
    }
    let wrong = json!({"settings": {"ca": format!("{}{strange}", fake.ca_pem())}, "secrets": {"secret": "a-wrong-one"}});
    api.client
        .patch(PATH, "*", &wrong)
        .await
        .expect_problem(400, "connection_refused_at_check");
    let elsewhere = json!({"settings": {"address": fake.url()}, "secrets": secrets});
    let problem = api.client.patch(PATH, "*", &elsewhere).await.expect_problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/settings/address");

    let both = format!("{}{strange}", fake.ca_pem());
    let body = json!({"settings": {"ca": both}, "secrets": secrets, "labels": {"renewed": "yes"}});
    let stale = api.client.patch(PATH, "\"7\"", &body).await;
    stale.expect_problem(412, "precondition_failed");
    let after = api.client.patch(PATH, "*", &body).await.expect_status(200);
    assert_eq!(
        (&after["settings"]["ca"], &after["labels"]["renewed"]),
        (&json!(both), &json!("yes"))
    );
    let opened = api
        .client
        .post("/v1/unwrap", &json!({"wrapped": made["wrapped"]}))
        .await
        .expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    api.data_key("orders").await;
    // The canary stands in no answer, and in the store sealed only.
    let database = std::fs::read(api.gateway.data().join("claviger.db")).unwrap();
    let log = std::fs::read(api.gateway.data().join("claviger.db-wal")).unwrap_or_default();
    for bytes in [database, log] {
        assert!(
            !bytes.windows(5).any(|window| window == b"clv1."),
            "a wrapped key stands in the store"
        );
    }
}

#[tokio::test]
async fn a_proxy_comes_and_goes() {
    let fake = fake().await;
    let api = api(&fake).await;
    let made = api.data_key("orders").await;
    let server: std::net::SocketAddr = fake.url().rsplit_once("//").unwrap().1.parse().unwrap();
    let (proxy, asked) = tunnels_to(server).await;
    let change = async |proxy: Value| {
        let body = json!({"settings": {"proxy": proxy}, "secrets": {"secret": "the-next-secret"}});
        api.client.patch(PATH, "*", &body).await.expect_status(200)
    };
    let proxy = json!(format!("http://{proxy}/"));
    let after = change(proxy.clone()).await;
    assert_eq!(after["settings"]["proxy"], proxy);
    let vault = fake.hsm_url().replace("https://", "CONNECT ");
    let tunnels = std::mem::take(&mut *asked.lock().unwrap());
    assert!(tunnels.iter().any(|request| request.starts_with(&vault)), "{tunnels:?}");
    let newer = api.data_key("orders").await;
    for made in [&made, &newer] {
        let body = json!({"wrapped": made["wrapped"]});
        let opened = api.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }

    asked.lock().unwrap().clear();
    let after = change(Value::Null).await;
    assert_eq!(after["settings"].get("proxy"), None, "{after}");
    api.data_key("orders").await;
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_has_no_secrets_or_no_such_settings_does_not_change() {
    let fake = fake().await;
    let api = api(&fake).await;
    let patch = async |name: &str, body: Value| api.client.patch(&format!("/v1/connections/{name}"), "*", &body).await;

    // The operator lends the identity.
    let lent = json!({"vault": fake.hsm_url(), "ca": fake.ca_pem(), "auth": {"application": {"directory": DIRECTORY}}});
    connect(&api, "lent", "azure", lent).await;
    let problem = patch("lent", json!({"settings": {"ca": null}})).await;
    let problem = problem.expect_problem(400, "operator_only_setting");
    assert!(problem["what_to_do"].as_str().unwrap().contains("another connection"), "{problem}");

    let ring = "projects/p/locations/global/keyRings/r";
    connect(&api, "google", "gcp", json!({"key_ring": ring, "auth": {"token": "a-token"}})).await;
    for (name, settings, secrets, pointer, says) in [
        (
            "google",
            json!({"ca": fake.ca_pem()}),
            json!({"token": "t"}),
            "/settings/ca",
            "Google's client",
        ),
        (
            "google",
            json!({"proxy": null}),
            json!({"token": "t"}),
            "/settings/proxy",
            "Google's client",
        ),
        (
            "google",
            json!({"address": "https://kms.example"}),
            json!({"token": "t"}),
            "/settings/address",
            "endpoints",
        ),
        ("embedded", json!({"ca": fake.ca_pem()}), Value::Null, "/settings", "neither ca"),
    ] {
        let mut body = json!({"settings": settings});
        if !secrets.is_null() {
            body["secrets"] = secrets;
        }
        let problem = patch(name, body).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        assert!(problem["errors"][0]["expected"].as_str().unwrap().contains(says), "{problem}");
    }
}

/// Google's client has no setting against it, and its endpoint here is a host that does not exist.
#[tokio::test]
async fn the_environment_s_proxy_is_taken_by_no_client_of_the_gateway() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (proxy, asked) = tunnels_to(gone).await;
    let variables = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"];
    let tune = Tune::default().set("CLAVIGER_PROVIDERS__GCP__KMS_ENDPOINT", "https://kms.invalid");
    let tune = variables.iter().fold(tune, |tune, name| tune.set(name, format!("http://{proxy}")));
    let api = Api::tuned(&tune).await;
    let ring = "projects/p/locations/global/keyRings/r";
    connect(&api, "google", "gcp", json!({"key_ring": ring, "auth": {"token": "a-token"}})).await;
    let checked = api.client.post_empty("/v1/connections/google/check").await.expect_status(200);
    assert_eq!(checked["reachable"], false, "{checked}");
    assert!(asked.lock().unwrap().is_empty(), "{asked:?}");
    let said = api.started.output();
    assert!(
        variables.iter().all(|name| said.contains(name)) && said.contains("setting `proxy`"),
        "{said}"
    );
}
