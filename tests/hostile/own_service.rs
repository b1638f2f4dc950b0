//! A tenant whose own key service never answers, or lies: each route by itself, with a connection and a key of its
//! own, so that what one call meets is not the doing of another.

use claviger_test_support::{Answer, Client, text_of};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::routes::{Call, Names, RESTORE, calls};
use crate::transit::{Mood, Transit};
use crate::world::{HOSTILE, PEAK, World, key_service_on_loopback};

/// The routes of a tenant that have the gateway ask a key service.
pub fn asking_routes() -> Vec<(Method, &'static str)> {
    let all = calls(&Names::of_evil("", "", &Value::Null)).into_iter();
    all.filter(|call| call.asks_key_service() && !call.is_operators())
        .map(|call| (call.method, call.route))
        .collect()
}

/// The time that a caller gives a request that will never be answered.
const GIVEN: &str = "8s";

/// A call of one route on objects of its own.
pub struct Case {
    pub call: Call,
    pub connection: String,
    pub key: String,
    /// The key's name at the key service.
    provider_key: String,
    /// The wrapped data key in its body.
    wrapped: Value,
    /// What that opens to.
    plaintext: Value,
}

impl Case {
    /// Its objects in this tenant, on a connection like this one; `patch` is the body of the connection's change.
    pub async fn prepare(tenant: &Client, (method, route): &(Method, &str), like: &Value, patch: &Value) -> Self {
        let end = format!("{method}{route}").to_lowercase().replace(['/', '{', '}'], "-");
        let (connection, key, new) = (format!("own-{end}"), format!("key-{end}"), format!("new-{end}"));
        let mut body = like.clone();
        body["name"] = json!(connection);
        tenant.post("/v1/connections", &body).await.expect_status(201);
        let body = json!({"name": key, "connection": connection});
        let made = tenant.post("/v1/keys", &body).await.expect_status(201);
        let path = format!("/v1/keys/{key}/data-keys");
        let data_key = tenant.post(&path, &json!({})).await.expect_status(200);
        let names = Names {
            tenant: HOSTILE,
            connection: &connection,
            key: &key,
            principal: "admin",
            token: "0",
            wrapped: &data_key["wrapped"],
            new: &new,
        };
        let mut all = calls(&names).into_iter();
        let mut call = all.find(|call| call.method == *method && call.route == *route).unwrap();
        match (method, *route) {
            (&Method::POST, "/v1/keys/{key}/disable" | "/v1/keys/{key}/enable") => call.body = json!({"at_provider": true}),
            (&Method::PATCH, "/v1/connections/{connection}") => call.body = patch.clone(),
            _ => {}
        }
        if call.restores() {
            let path = format!("/v1/connections/{connection}/sever");
            tenant.post_empty(&path).await.expect_status(200);
        }
        let provider_key = made["provider_key"].as_str().unwrap();
        Self {
            call,
            connection,
            key,
            provider_key: provider_key.rsplit('/').next().unwrap().to_owned(),
            wrapped: data_key["wrapped"].clone(),
            plaintext: data_key["plaintext"].clone(),
        }
    }

    /// Its answer in short: the status, and the code of a problem, also of a batch's item, or what a check found by its
    /// canary.
    pub fn told(&self, answer: &Answer) -> (u16, String) {
        let body = &answer.body;
        let mut rights = body["rights"].as_array().into_iter().flatten();
        let canary = rights.find(|right| right["operation"] == "canary").map(|canary| &canary["finding"]);
        let codes = [
            &body["code"],
            &body["items"][0]["error"]["code"],
            &body["problem"]["code"],
            &body["at_provider"]["result"],
        ];
        let code = codes.into_iter().chain(canary).find_map(Value::as_str);
        (answer.status, code.unwrap_or_default().to_owned())
    }

    /// Stops the test unless what was wrapped before the service lied opens once it does not, whatever version is the primary
    /// one now.
    async fn opens_what_it_wrapped(&self, tenant: &Client) {
        let name = self.call.name();
        if name.ends_with("/disable") || self.call.method == Method::POST && self.call.route == "/v1/keys" {
            return;
        }
        let answer = tenant.post("/v1/unwrap", &json!({"wrapped": self.wrapped})).await;
        assert_eq!(answer.body["plaintext"], self.plaintext, "{name}: {}", answer.text);
    }

    /// Its key's primary version, and all versions as the key service names them.
    async fn versions(&self, tenant: &Client) -> (Value, Vec<Value>) {
        let path = format!("/v1/keys/{}", self.key);
        let key = tenant.get(&path).await.expect_status(200);
        let versions = tenant.list(&format!("{path}/versions")).await;
        let names = |version: &Value| json!([version["number"], version["provider_key"], version["provider_version"]]);
        (key["primary_version"].clone(), versions.iter().map(names).collect())
    }

    /// Stops the test if the key service changed more of the key's versions by what it said than its owner can. `before`
    /// as of [`Case::versions`].
    async fn keeps_its_versions(&self, tenant: &Client, mood: Mood, (primary, before): &(Value, Vec<Value>)) {
        let (now, after) = self.versions(tenant).await;
        let name = self.call.name();
        assert!(after.starts_with(before), "{name}: {before:?} {after:?}");
        let rotates = self.call.route.ends_with("/rotate");
        // Its own description of a key adds versions. A lie about what wrapped adds none.
        if mood != Mood::OtherVersions {
            let is_new = rotates && matches!(mood, Mood::Works | Mood::OtherBytes | Mood::OddVersions);
            assert_eq!(after.len(), before.len() + usize::from(is_new), "{name}: {before:?} {after:?}");
            assert!(rotates || now == *primary, "{name}: {primary} {now}");
        }
    }

    /// Stops the test if an answer has other plaintext than what was wrapped.
    fn shows_no_other_plaintext(&self, answer: &Answer) {
        if !self.call.route.ends_with("unwrap") {
            return;
        }
        for shown in [&answer.body["plaintext"], &answer.body["items"][0]["plaintext"]] {
            assert!(shown.is_null() || *shown == self.plaintext, "{}: {}", self.call.name(), answer.text);
        }
    }
}

/// The hostile tenant's own credential; where the key service never answers, with little time for each request.
pub async fn attacker(world: &World, mood: Mood) -> Client {
    let issued = world.evil_token("attacker", &everything(), None).await;
    let client = world.evil.with_token(text_of(&issued));
    match mood {
        Mood::Hangs | Mood::Drips => client.with_header("claviger-timeout", GIVEN),
        Mood::Works | Mood::OtherBytes | Mood::OtherVersions | Mood::OddVersions | Mood::Huge => client,
    }
}

/// A call of each route that asks a key service, of a tenant with a Transit engine of its own.
pub async fn prepare_all(tenant: &Client, transit: &Transit) -> Vec<Case> {
    let mut cases = Vec::new();
    for route in asking_routes() {
        cases.push(Case::prepare(tenant, &route, &transit.connection(), &transit.patch()).await);
    }
    cases
}

/// What each route is answered while its key service behaves so, in the order of [`asking_routes`].
async fn with_a_service_that(mood: Mood) -> Vec<(Case, (u16, String))> {
    let world = World::tuned(&key_service_on_loopback()).await;
    let transit = Transit::start().await;
    let cases = prepare_all(&world.evil, &transit).await;
    let attacker = attacker(&world, mood).await;
    let honest = world.honest().await;
    let versions = join_all(cases.iter().map(|case| case.versions(&world.evil))).await;
    transit.forget();
    transit.is(mood);
    let answers = join_all(cases.iter().map(|case| case.call.send(&attacker))).await;
    let asked = transit.asked();
    let known: Vec<&String> = cases.iter().map(|case| &case.provider_key).collect();
    let mut told = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let (name, at_service) = (case.call.name(), asked.contains(&case.provider_key));
        match (&case.call.method, case.call.route) {
            // A Vault's keys are not enabled or disabled there, and a connection to it is not tried before its restore.
            (&Method::POST, "/v1/keys/{key}/disable" | "/v1/keys/{key}/enable" | RESTORE) => assert!(!at_service, "{name}"),
            (&Method::POST, "/v1/keys") => {
                // A check asks for a key of this name, which there is not.
                let made = |name: &&String| !known.contains(name) && !name.ends_with(&"0".repeat(32));
                assert!(asked.iter().any(|name| made(&name)), "{asked:?}");
            }
            _ => assert!(at_service, "{name}: {}", answer.text),
        }
        assert!(answer.status != 500, "{name}: {}", answer.text);
        case.shows_no_other_plaintext(answer);
        told.push(case.told(answer));
    }
    for (case, before) in cases.iter().zip(&versions) {
        case.keeps_its_versions(&world.evil, mood, before).await;
    }
    if matches!(mood, Mood::OtherBytes | Mood::OtherVersions | Mood::OddVersions) {
        transit.is(Mood::Works);
        for case in &cases {
            case.opens_what_it_wrapped(&world.evil).await;
        }
        transit.is(mood);
    }
    // Each connection is severed at once, whatever its service does.
    for case in &cases {
        let path = format!("/v1/connections/{}/sever", case.connection);
        world.evil.post_empty(&path).await.expect_status(200);
    }
    honest.end().await;
    world.holds(PEAK);
    cases.into_iter().zip(told).collect()
}

/// Whether a route may be answered so while its key service is in this mood: a status, and the code of a problem, of a
/// batch's item, of a check or of the part at the provider.
fn fits(mood: Mood, case: &Case, status: u16, code: &str) -> bool {
    let route = case.call.route;
    // Of a batch, the item is refused.
    let refused = |as_one: u16| status == if route.starts_with("/v1/batch/") { 200 } else { as_one };
    match (&case.call.method, route) {
        // A Vault's keys are not enabled or disabled there.
        (&Method::POST, "/v1/keys/{key}/disable" | "/v1/keys/{key}/enable") => return (status, code) == (200, "unsupported"),
        (&Method::POST, RESTORE) => return (status, code) == (200, ""),
        // A report, which says what became of the bytes that it had wrapped and unwrapped.
        (&Method::POST, "/v1/connections/{connection}/check") => {
            let canary = match mood {
                Mood::Works | Mood::OtherVersions => "granted",
                Mood::Hangs | Mood::Drips | Mood::Huge | Mood::OtherBytes | Mood::OddVersions => "failed",
            };
            return (status, code) == (200, canary);
        }
        _ => {}
    }
    let changes_network = case.call.method == Method::PATCH;
    let opens = route.ends_with("unwrap") || route.ends_with("rewrap");
    match mood {
        Mood::Works => matches!((status, code), (200 | 201, "")),
        Mood::Hangs | Mood::Drips => code == "deadline_exceeded" && refused(504),
        Mood::OtherBytes | Mood::Huge if changes_network => (status, code) == (400, "connection_refused_at_check"),
        Mood::OtherBytes if opens => code == "ciphertext_rejected" && refused(422),
        // Nobody can see that it was not what should be wrapped until it is opened, and then it is refused.
        Mood::OtherBytes => matches!((status, code), (200 | 201, "")),
        // It opens what it wrapped, of which no answer names a version.
        Mood::OtherVersions | Mood::OddVersions if route.ends_with("/unwrap") => (status, code) == (200, ""),
        Mood::OtherVersions | Mood::OddVersions if wraps(route) => code == "provider_protocol" && refused(502),
        Mood::OtherVersions | Mood::OddVersions => matches!((status, code), (200 | 201, "")),
        Mood::Huge => code == "provider_protocol" && refused(502),
    }
}

/// Whether the key service wraps something for a route, and names the version.
fn wraps(route: &str) -> bool {
    ["/data-keys", "/wrap", "/rewrap"].iter().any(|end| route.ends_with(end))
}

async fn every_route_fits(mood: Mood) {
    let told = with_a_service_that(mood).await;
    let told = told.iter().filter(|(case, (status, code))| !fits(mood, case, *status, code));
    let wrong: Vec<_> = told.map(|(case, told)| (case.call.name(), told)).collect();
    assert!(wrong.is_empty(), "{mood:?}: {wrong:#?}");
}

/// The calls of these tests are good ones.
#[tokio::test]
async fn a_key_service_that_works_lets_every_route_succeed() {
    every_route_fits(Mood::Works).await;
}

#[tokio::test]
async fn each_route_ends_by_itself_while_its_key_service_hangs() {
    every_route_fits(Mood::Hangs).await;
}

#[tokio::test]
async fn a_key_service_that_sends_other_bytes_opens_nothing() {
    every_route_fits(Mood::OtherBytes).await;
}

#[tokio::test]
async fn a_key_service_that_names_other_versions_misleads_no_route() {
    every_route_fits(Mood::OtherVersions).await;
}

/// The version is the key's own, so that only its form is wrong: no look at the key's description refuses it.
#[tokio::test]
async fn a_key_service_that_writes_versions_oddly_misleads_no_route() {
    every_route_fits(Mood::OddVersions).await;
}

#[tokio::test]
async fn a_key_service_with_huge_answers_takes_no_memory() {
    every_route_fits(Mood::Huge).await;
}

#[tokio::test]
async fn a_key_service_that_drips_holds_up_its_own_caller_alone() {
    every_route_fits(Mood::Drips).await;
}

/// As above with a service whose keys are enabled and disabled there, and each route with a service of its own.
#[cfg(feature = "testkit")]
#[tokio::test]
async fn each_route_asks_its_own_service_that_never_answers_and_ends() {
    use crate::key_service::KeyService;
    use crate::world::PATIENCE;

    let (world, control) = World::with_fake().await;
    let server = |number: usize| format!("hung-{number}");
    let mut cases = Vec::new();
    // The change of network settings is tried with a Vault, above.
    let routes = asking_routes().into_iter().filter(|(method, _)| *method != Method::PATCH);
    for (number, route) in routes.enumerate() {
        let like = KeyService::connection(&server(number), route.1);
        cases.push(Case::prepare(&world.evil, &route, &like, &Value::Null).await);
    }
    let attacker = attacker(&world, Mood::Hangs).await;
    let honest = world.honest().await;
    for number in 0..cases.len() {
        let mut service = KeyService::named(control, &server(number)).await;
        service.hang().await;
        service.forget().await;
    }
    let answering = join_all(cases.iter().map(|case| case.call.send(&attacker)));
    let watching = async {
        for (number, case) in cases.iter().enumerate() {
            let asked = async {
                while KeyService::named(control, &server(number)).await.calls().await == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            let asked = tokio::time::timeout(PATIENCE, asked).await;
            assert!(asked.is_ok(), "{} asks its service", case.call.name());
        }
    };
    let (answers, ()) = tokio::join!(answering, watching);
    for (case, answer) in cases.iter().zip(&answers) {
        let (status, code) = case.told(answer);
        let name = case.call.name();
        match (&case.call.method, case.call.route) {
            (&Method::POST, "/v1/keys/{key}/disable") => {
                assert_eq!((status, code.as_str()), (200, "pending"), "{name}");
                let key = world.evil.get(&format!("/v1/keys/{}", case.key)).await.expect_status(200);
                assert_eq!(key["state"], "disabled", "it is disabled here");
            }
            (_, route) if route.starts_with("/v1/batch/") => assert_eq!((status, code.as_str()), (200, "deadline_exceeded"), "{name}"),
            (&Method::POST, "/v1/connections/{connection}/check") => {
                assert_eq!((status, &answer.body["reachable"]), (200, &json!(false)), "{name}: {}", answer.text);
            }
            (&Method::POST, RESTORE) => {
                assert_eq!((status, code.as_str()), (504, "deadline_exceeded"), "{name}: {}", answer.text);
                let path = format!("/v1/connections/{}", case.connection);
                assert_eq!(world.evil.get(&path).await.expect_status(200)["state"], "severed", "{name}");
            }
            _ => assert_eq!((status, code.as_str()), (504, "deadline_exceeded"), "{name}"),
        }
        let path = format!("/v1/connections/{}/sever", case.connection);
        world.evil.post_empty(&path).await.expect_status(200);
    }
    honest.end().await;
}
