//! A wrapped key under each of five providers, rewrapped to each of the others and opened
//! there: embedded, moto, OpenBao, and the fakes of Google and Azure, whose journals show the
//! calls.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_fake::Switches;
use claviger_fake_azure::FakeAzure;
use claviger_fake_google::FakeGoogle;
use claviger_test_support::{Tune, records_of};
use serde_json::{Value, json};

use crate::Case;
use crate::leaving::{APPLICATION, DIRECTORY, aws_settings};
use crate::openbao::Server;
use crate::world::{World, variable};

/// What the five need.
pub const NEEDS: &[&str] = &[
    "CLAVIGER_TEST_MOTO_ADDRESS",
    "CLAVIGER_TEST_OPENBAO_ADDRESS",
    "CLAVIGER_TEST_OPENBAO_TOKEN",
    "CLAVIGER_TEST_OPENBAO_CLI",
];

pub fn cases() -> Vec<Case> {
    vec![Case::new("matrix::from_each_provider_to_each_other", NEEDS, || Box::pin(matrix()))]
}

const RING: &str = "projects/claviger-test/locations/europe-west3/keyRings/matrix";
/// The purpose of what is wrapped.
pub const CONTEXT: &str = "the matrix";

/// One provider, its connection and key, all of one name.
pub struct End<'f> {
    pub name: &'static str,
    pub spec: &'static str,
    settings: Value,
    /// A fake that writes down what it was asked, and the two calls.
    journal: Option<(&'f Switches, &'static str, &'static str)>,
}

impl End<'_> {
    /// How often its fake was asked to wrap and to unwrap since the last time.
    fn asked(&self) -> Option<(usize, usize)> {
        let (switches, wrap, unwrap) = self.journal?;
        let journal = &switches.journal;
        let asked = (journal.count("POST", wrap), journal.count("POST", unwrap));
        journal.clear();
        Some(asked)
    }
}

/// A gateway that reaches all five, and the fakes among them.
pub struct Five {
    pub world: World,
    google: FakeGoogle,
    azure: FakeAzure,
}

impl Five {
    pub async fn start() -> Self {
        let google = FakeGoogle::start().await.unwrap();
        google.make_ring(RING).unwrap();
        let azure = FakeAzure::start().await.unwrap();
        let aws = variable("CLAVIGER_TEST_MOTO_ADDRESS");
        let mut tune = Tune::default()
            .set("CLAVIGER_PROVIDERS__AZURE__VAULTS", azure.url())
            .set("CLAVIGER_PROVIDERS__AZURE__AUTHORITY", azure.url());
        for (provider, services, address) in [("AWS", &["KMS", "STS"][..], &aws), ("GCP", &["KMS", "STS", "IAM"], &google.url())] {
            for service in services {
                tune = tune.set(&format!("CLAVIGER_PROVIDERS__{provider}__{service}_ENDPOINT"), address);
            }
        }
        let world = World::new(tune).await;
        Self { world, google, azure }
    }

    pub fn ends(&self) -> [End<'_>; 5] {
        let application = json!({"directory": DIRECTORY, "client_id": APPLICATION, "secret": "any"});
        let end = |name, spec, settings, journal| End {
            name,
            spec,
            settings,
            journal,
        };
        let (google, azure) = (&self.google, &self.azure);
        [
            end("local", "aes-256", json!({}), None),
            end("aws", "aes-256", aws_settings(), None),
            end(
                "vault",
                "aes-256",
                Server::Dev.settings(&json!({"token": Server::Dev.token()})),
                None,
            ),
            end(
                "gcp",
                "aes-256",
                json!({"key_ring": RING, "auth": {"token": "ya29.of-nobody"}}),
                Some((google.switches(), ":encrypt", ":decrypt")),
            ),
            end(
                "azure",
                "rsa-3072",
                json!({"vault": azure.url(), "ca": azure.ca_pem(), "auth": {"client_secret": application}}),
                Some((azure.switches(), "/wrapkey", "/unwrapkey")),
            ),
        ]
    }

    /// Makes a connection to one of them.
    pub async fn connect(&self, end: &End<'_>, name: &str) {
        let connection = json!({
            "name": name, "provider": end.name, "settings": end.settings,
            // The fake of Azure draws its RSA key while it is asked for it.
            "timeouts": {"attempt": "9s"},
        });
        self.world.client.post("/v1/connections", &connection).await.expect_status(201);
    }
}

async fn matrix() {
    let five = Five::start().await;
    let (world, ends) = (&five.world, five.ends());
    for end in &ends {
        five.connect(end, end.name).await;
        let key = json!({"name": end.name, "connection": end.name, "spec": end.spec});
        world.client.post("/v1/keys", &key).await.expect_status(201);
    }
    for from in &ends {
        for to in &ends {
            for blob in made(world, from.name).await {
                for end in &ends {
                    end.asked();
                }
                rewrapped(world, from, to, &blob).await;
                for end in &ends {
                    let Some(asked) = end.asked() else { continue };
                    // Once, also where what stands under the primary version stays: the answer tells which
                    // version is the current one there.
                    let wraps = usize::from(end.name == to.name);
                    // Once by the rewrap, and where the result is opened and is refused.
                    let unwraps = usize::from(end.name == from.name) + 2 * usize::from(end.name == to.name);
                    assert_eq!(asked, (wraps, unwraps), "{} asked from {} to {}", end.name, from.name, to.name);
                }
            }
        }
    }
}

/// A data key and a caller's bytes, wrapped: the answer, its plaintext put in where it lacks.
pub async fn made(world: &World, key: &str) -> [Value; 2] {
    let path = format!("/v1/keys/{key}");
    let context = json!({"purpose": CONTEXT});
    let data_key = world.client.post(&format!("{path}/data-keys"), &json!({"context": context})).await;
    let plaintext = STANDARD.encode(b"a caller's own bytes");
    let body = json!({"plaintext": plaintext, "context": context});
    let mut wrapped = world.client.post(&format!("{path}/wrap"), &body).await.expect_status(200);
    wrapped["plaintext"] = json!(plaintext);
    [data_key.expect_status(200), wrapped]
}

async fn rewrapped(world: &World, from: &End<'_>, to: &End<'_>, blob: &Value) {
    let way = format!("from {} to {}", from.name, to.name);
    let same = from.name == to.name;
    let context = json!({"purpose": CONTEXT});
    let mut body = json!({"wrapped": blob["wrapped"], "context": context});
    if !same {
        body["to"] = json!(to.name);
    }
    let answer = world.client.post(&format!("/v1/keys/{}/rewrap", from.name), &body).await;
    let record = records_of(&world.gateway.data(), answer.header("x-request-id"));
    let answer = answer.expect_status(200);
    // Only AWS rewraps by itself, and only under the same key.
    let inside = same && from.name == "aws";
    assert_eq!(
        (&answer["key"], &answer["inside_provider"], &answer["changed"]),
        (&json!(to.name), &json!(inside), &json!(!same || inside)),
        "{way}"
    );
    let outcome = record.iter().find(|record| record["result"] == "success").unwrap();
    assert_eq!(outcome["inside_provider"], json!(inside), "{way}: {outcome}");

    let unwrap = json!({"wrapped": answer["wrapped"], "context": context});
    let opened = world.client.post("/v1/unwrap", &unwrap).await.expect_status(200);
    assert_eq!(
        (&opened["plaintext"], &opened["key"]),
        (&blob["plaintext"], &json!(to.name)),
        "{way}"
    );
    let inspected = world.client.post("/v1/inspect", &unwrap).await.expect_status(200);
    assert_eq!(inspected["recipients"][0]["provider"], to.name, "{way}");
    // What was bound before is bound after.
    let other = json!({"wrapped": answer["wrapped"], "context": {"purpose": "another"}});
    world
        .client
        .post("/v1/unwrap", &other)
        .await
        .expect_problem(422, "ciphertext_rejected");
}
