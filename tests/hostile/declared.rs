//! What the operator's configuration declares, beside a tenant whose key service does not answer, and in the hands
//! of a thief.

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_test_support::raw::{Http1, Http2, answer_of};
use claviger_test_support::{Client, Tune, text_of, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::{Call, Names, calls};
use crate::transit::{Mood, Transit};
use crate::world::{PATIENCE, World, key_service_on_loopback};

/// The tenant with a key service of its own, and a tenant after it.
const TENANTS: &str = "[[tenants]]\nname = \"acme\"\n[[tenants]]\nname = \"globex\"\n";

/// An operator's token in other hands.
struct Stolen {
    client: Client,
    text: String,
    /// What to delete to revoke it.
    path: String,
}

/// A gateway whose configuration is a file.
struct Declared {
    world: World,
    transit: Transit,
    file: PathBuf,
    rest: String,
    _folder: tempfile::TempDir,
}

impl Declared {
    /// Whose file declares these keys from the start.
    async fn start(mood: Mood, keys: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let transit = Transit::start().await;
        transit.is(mood);
        let (file, secret) = (folder.path().join("claviger.toml"), folder.path().join("token"));
        std::fs::write(&secret, "hvs.of-the-tenant").unwrap();
        let rest = format!(
            "{TENANTS}[[connections]]\ntenants = [\"acme\"]\nname = \"own\"\nprovider = \"vault\"\n\
             settings = {{ address = \"{}\", auth = {{ token = {{ file = {secret:?} }} }} }}\n\
             [[connections]]\ntenants = [\"acme\", \"globex\"]\nname = \"embedded\"\nprovider = \"local\"\n",
            transit.url()
        );
        let declared = |keys| Self::write(&file, &rest, keys);
        declared(keys);
        let tune = Tune {
            arguments: vec!["--config".to_owned(), file.display().to_string()],
            ..key_service_on_loopback()
        };
        let world = World::tuned(&tune).await;
        Self {
            world,
            transit,
            file,
            rest,
            _folder: folder,
        }
    }

    fn write(file: &Path, rest: &str, keys: &[(&str, &str, &str)]) {
        let mut text = rest.to_owned();
        for (tenant, name, connection) in keys {
            text += &format!("[[keys]]\ntenant = \"{tenant}\"\nname = \"{name}\"\nconnection = \"{connection}\"\n");
        }
        std::fs::write(file, text).unwrap();
    }

    /// From now on the file declares these keys: tenant, name, connection.
    fn keys(&self, keys: &[(&str, &str, &str)]) {
        Self::write(&self.file, &self.rest, keys);
    }

    /// A token that operates the installation, in other hands.
    async fn stolen(&self) -> Stolen {
        let operator = self.world.started.operator();
        let issued = token(&operator, "thief", &["ManageTenants"], None).await;
        Stolen {
            client: operator.with_token(text_of(&issued)),
            text: text_of(&issued).to_owned(),
            path: format!("/v1/principals/thief/tokens/{}", issued["id"].as_str().unwrap()),
        }
    }

    /// Waits until the gateway has made a key that its file declares.
    async fn until_made(&self, tenant: &str, name: &str) {
        let made = async {
            while !self.has_key(tenant, name).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, made).await.expect("the key is made");
    }

    async fn has_key(&self, tenant: &str, name: &str) -> bool {
        self.world.started.tenant(tenant).get(&format!("/v1/keys/{name}")).await.status == 200
    }
}

/// A creation that waits for the key service when the token of whoever asked for it is revoked is not stored.
#[tokio::test]
async fn a_revoked_operators_token_applies_nothing_more() {
    let declared = Declared::start(Mood::Works, &[]).await;
    let honest = declared.world.honest().await;
    let stolen = declared.stolen().await;
    let (thief, path) = (stolen.client, stolen.path);
    declared.keys(&[("acme", "orders", "own"), ("acme", "later", "own"), ("globex", "orders", "own")]);
    declared.transit.is(Mood::Hangs);
    let applying = tokio::spawn(async move { thief.post_empty("/v1/declared/apply").await });
    declared.transit.until_waiting(1).await;
    let revoked = declared.world.started.operator().delete(&path).await;
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    declared.transit.is(Mood::Works);
    applying.await.unwrap().expect_problem(401, "unauthenticated");
    for (tenant, name) in [("acme", "orders"), ("acme", "later"), ("globex", "orders")] {
        assert!(!declared.has_key(tenant, name).await, "{tenant} {name}");
    }
    // The operator's own token applies it.
    let applied = declared.world.started.operator().post_empty("/v1/declared/apply").await;
    applied.expect_status(200);
    assert!(declared.has_key("acme", "later").await);
    honest.end().await;
}

/// A thief with an operator's token begins a request on every route of the installation, and ends it when the token
/// was revoked. Each is a good one: only the end of the credential refuses it.
#[tokio::test]
async fn a_stolen_operators_token_is_refused_on_every_route_of_the_installation_also_in_the_middle_of_a_body() {
    let declared = Declared::start(Mood::Works, &[("globex", "orders", "embedded")]).await;
    let started = &declared.world.started;
    declared.until_made("globex", "orders").await;
    // From now on the file declares another key, and this one no more.
    declared.keys(&[("globex", "later", "embedded")]);
    let honest = declared.world.honest().await;
    let operator = started.operator();
    let release = json!({"kind": "key", "tenant": "globex", "name": "orders"});
    let state = async || {
        let key = started.tenant("globex").get("/v1/keys/orders").await.expect_status(200);
        let tenants = operator.get("/v1/tenants").await.expect_status(200);
        let connections = started.tenant("globex").get("/v1/connections").await.expect_status(200);
        json!([key, tenants, connections, declared.has_key("globex", "later").await])
    };
    let before = state().await;
    for over_http2 in [false, true] {
        let Stolen {
            client: thief,
            text: token,
            path,
        } = declared.stolen().await;
        let mut over_1 = Vec::new();
        let mut over_2 = Vec::new();
        let connection = Http2::connect(started.address(), 65_535).await;
        for (method, path, body) in installation_calls(&release) {
            if over_http2 {
                let (response, mut sending) = connection.open(method.clone(), &token, &path).await;
                sending.send_data(body[..body.len().min(1)].to_vec().into(), false).unwrap();
                over_2.push((method, path, body, response, sending));
            } else {
                let mut request = Http1::begin(started.address(), &method, &token, &path, "").await;
                if !body.is_empty() {
                    request.chunk(&body[..1]).await;
                }
                over_1.push((method, path, body, request));
            }
        }
        // A whole request on the same connection: those before it were let in.
        let (status, answer) = answer_of(connection.get(&token, "/v1/tenants").await).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(operator.delete(&path).await.status, 204);
        let mut answers = Vec::new();
        for (method, path, body, mut request) in over_1 {
            if !body.is_empty() {
                request.chunk(&body[1..]).await;
            }
            request.chunk(b"").await;
            answers.push((method, path, request.answer().await));
        }
        for (method, path, body, response, mut sending) in over_2 {
            sending.send_data(body[body.len().min(1)..].to_vec().into(), true).unwrap();
            answers.push((method, path, answer_of(response).await));
        }
        for (method, path, (status, answer)) in answers {
            assert_eq!(
                (status, answer["code"].as_str()),
                (401, Some("unauthenticated")),
                "{method} {path}: {answer}"
            );
        }
        for (method, path, body) in installation_calls(&release) {
            let request = thief.request(method.clone(), &path);
            let request = if body.is_empty() {
                request
            } else {
                request.header("content-type", "application/json").body(body)
            };
            let answer = thief.send(request).await;
            assert_eq!(
                (answer.status, answer.body["code"].as_str()),
                (401, Some("unauthenticated")),
                "{method} {path}"
            );
        }
        assert_eq!(state().await, before, "nothing was made, and nothing changed");
    }
    // With a token in force each of them does what it says.
    for (method, path, body) in installation_calls(&release) {
        let request = operator.request(method.clone(), &path);
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-type", "application/json").body(body)
        };
        let answer = operator.send(request).await;
        assert!(matches!(answer.status, 200 | 201 | 204), "{method} {path}: {}", answer.text);
    }
    assert!(declared.has_key("globex", "later").await);
    honest.end().await;
}

/// A call of each route that only a platform operator may call: method, path and body. What applies the declaration
/// comes last.
fn installation_calls(release: &Value) -> Vec<(Method, String, Vec<u8>)> {
    let names = Names {
        tenant: "globex",
        new: "loot",
        ..Names::of_evil("orders", "", &Value::Null)
    };
    let mut all: Vec<Call> = calls(&names).into_iter().filter(Call::is_operators).collect();
    all.sort_by_key(|call| call.route == "/v1/declared/apply");
    let body = |call: &Call| match call.route {
        "/v1/declared/release" => release.to_string().into_bytes(),
        _ => call.body_text(),
    };
    all.into_iter()
        .map(|call| {
            let body = body(&call);
            (call.method, call.path, body)
        })
        .collect()
}

/// What an apply says of a key.
fn step<'v>(applied: &'v Value, tenant: &str, name: &str) -> Option<&'v Value> {
    let steps = applied["steps"].as_array().unwrap();
    steps.iter().find(|step| step["tenant"] == tenant && step["name"] == name)
}

/// Three keys of a key service that never answers stand before the others. Each call takes what the gateway gives
/// one object, so one after the other they would take all the time that an apply has.
#[tokio::test]
async fn declared_keys_of_a_service_that_never_answers_keep_no_other_from_being_made() {
    let declared = Declared::start(Mood::Works, &[]).await;
    let honest = declared.world.honest().await;
    declared.keys(&[
        ("acme", "first", "own"),
        ("acme", "second", "own"),
        ("acme", "third", "own"),
        ("acme", "here", "embedded"),
        ("globex", "orders", "embedded"),
    ]);
    declared.transit.is(Mood::Hangs);
    // Time for one object that takes all of its own, and to begin no other after it.
    let operator = declared.world.started.operator().with_header("claviger-timeout", "20s");
    let applied = operator.post_empty("/v1/declared/apply").await.expect_status(200);
    assert_eq!(step(&applied, "globex", "orders").unwrap()["result"], "made", "{applied}");
    let first = step(&applied, "acme", "first").unwrap();
    assert!(first["detail"].as_str().unwrap().starts_with("deadline_exceeded"), "{applied}");
    assert!(step(&applied, "acme", "second").is_none(), "{applied}");
    // Those of the connection, and what was next in its tenant.
    assert_eq!(applied["not_reached"], 3, "{applied}");
    // Repeated, the slow one comes last.
    let applied = operator.post_empty("/v1/declared/apply").await.expect_status(200);
    assert_eq!(step(&applied, "acme", "here").unwrap()["result"], "made", "{applied}");
    honest.end().await;
}

/// As above, of the keys that the gateway makes by itself after its start.
#[tokio::test]
async fn at_the_start_a_service_that_never_answers_holds_up_no_other_tenants_declared_keys() {
    let keys = [
        ("acme", "first", "own"),
        ("acme", "second", "own"),
        ("globex", "orders", "embedded"),
    ];
    let declared = Declared::start(Mood::Hangs, &keys).await;
    let honest = declared.world.honest().await;
    declared.until_made("globex", "orders").await;
    let asked = declared.transit.asked();
    assert!(asked.len() <= 1, "the service gave up on the first key meanwhile: {asked:?}");
    assert_eq!(
        declared.world.started.tenant("acme").get("/v1/keys/first").await.body["code"],
        json!("not_found")
    );
    honest.end().await;
}

/// What of it asks no key service is answered at once, and what does says what it met.
#[tokio::test]
async fn what_is_declared_is_planned_released_and_made_whatever_a_key_service_does() {
    for (mood, met) in [
        (Mood::Hangs, Some("deadline_exceeded")),
        (Mood::Huge, Some("provider_protocol")),
        (Mood::OtherVersions, None),
    ] {
        let declared = Declared::start(Mood::Works, &[("acme", "orders", "own")]).await;
        declared.until_made("acme", "orders").await;
        let honest = declared.world.honest().await;
        let operator = declared.world.started.operator().with_header("claviger-timeout", "20s");
        declared.keys(&[("acme", "next", "own"), ("globex", "later", "embedded")]);
        declared.transit.is(mood);
        declared.transit.forget();
        let plan = operator.post_empty("/v1/declared/plan").await.expect_status(200);
        assert_eq!(step(&plan, "acme", "orders").unwrap()["result"], "not_declared", "{plan}");
        let release = json!({"kind": "key", "tenant": "acme", "name": "orders"});
        let released = operator.post("/v1/declared/release", &release).await;
        assert_eq!(released.status, 204, "{}", released.text);
        // Its owner may change it now.
        let labels = json!({"labels": {"seen": "yes"}});
        let acme = declared.world.started.tenant("acme");
        acme.patch("/v1/keys/orders", "*", &labels).await.expect_status(200);
        assert!(declared.transit.asked().is_empty(), "{mood:?}: {:?}", declared.transit.asked());
        let applied = operator.post_empty("/v1/declared/apply").await.expect_status(200);
        assert_eq!(step(&applied, "globex", "later").unwrap()["result"], "made", "{mood:?}: {applied}");
        let next = step(&applied, "acme", "next").unwrap();
        match met {
            Some(code) => assert!(next["detail"].as_str().unwrap().starts_with(code), "{mood:?}: {next}"),
            None => assert_eq!(next["result"], "made", "{mood:?}: {next}"),
        }
        assert_eq!(declared.has_key("acme", "next").await, met.is_none(), "{mood:?}");
        honest.end().await;
    }
}

#[tokio::test]
async fn with_a_full_disk_nothing_declared_is_planned_released_or_made() {
    let declared = Declared::start(Mood::Works, &[("globex", "orders", "embedded")]).await;
    declared.until_made("globex", "orders").await;
    declared.keys(&[("globex", "later", "embedded")]);
    let operator = declared.world.started.operator();
    let release = json!({"kind": "key", "tenant": "globex", "name": "orders"});
    declared.world.fill_disk();
    let plan = operator.post_empty("/v1/declared/plan").await;
    plan.expect_problem(503, "audit_unavailable");
    let released = operator.post("/v1/declared/release", &release).await;
    released.expect_problem(503, "audit_unavailable");
    let applied = operator.post_empty("/v1/declared/apply").await;
    applied.expect_problem(503, "audit_unavailable");
    declared.world.has_room().await;
    assert!(!declared.has_key("globex", "later").await);
    let globex = declared.world.started.tenant("globex");
    let labels = json!({"labels": {"seen": "yes"}});
    let refused = globex.patch("/v1/keys/orders", "*", &labels).await;
    refused.expect_problem(409, "managed_by_config");
    assert_eq!(operator.post("/v1/declared/release", &release).await.status, 204);
    operator.post_empty("/v1/declared/apply").await.expect_status(200);
    assert!(declared.has_key("globex", "later").await);
}
