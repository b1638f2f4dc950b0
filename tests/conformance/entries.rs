//! The providers that the battery runs on. A new one is one more entry of [`ENTRIES`].

use std::sync::OnceLock;

use claviger_test_support::Tune;
use claviger_test_support::softhsm::Module;
use serde_json::{Value, json};

use crate::kmip::{KMIP_GO, PYKMIP};
use crate::pkcs11::{KRYOPTIC, SOFTHSM};
use crate::xks::XKS;

/// One provider and what is known of it.
pub struct Entry {
    /// Its name in the names of tests.
    pub name: &'static str,
    /// Its word in the API.
    pub provider: &'static str,
    /// Why it cannot be run here; its cases are reported as ignored then.
    pub absent: fn() -> Option<&'static str>,
    /// How the gateway is started that reaches it.
    pub start: Start,
    /// The settings of a connection to it.
    pub settings: fn() -> Value,
    /// The specification of the keys that the battery makes.
    pub spec: &'static str,
    /// Whether it generates data keys and rewraps by itself.
    pub inside: bool,
    /// Where it differs from the battery, and why that is right.
    pub differences: &'static [Difference],
}

/// How a gateway is started.
#[derive(Clone, Copy)]
pub enum Start {
    /// `claviger init` and `claviger serve`.
    Serve,
    /// The same, with AWS's endpoints led to a stand-in.
    Aws(&'static str),
    /// The same, with the fake of Azure among the vaults that tenants may name.
    Azure,
    /// The same, with Google's endpoints led to a fake of it that the process of the tests holds.
    Google,
    /// The same. The process of the tests holds a fake XKS proxy, whose keys their owner makes.
    Xks,
    /// The same. The configuration declares the tenants, and connections to a token of this module.
    Token(&'static Module),
    /// `claviger dev` with the testkit's fake and its control port; what the fake plays.
    Fake(&'static str),
}

/// A case that is known to end otherwise on one provider.
pub struct Difference {
    /// `module::case`.
    pub case: &'static str,
    /// Words of the failure, so that no other failure is taken for it.
    pub says: &'static str,
    /// Why it is right.
    pub reason: &'static str,
}

impl Entry {
    /// How its gateway is tuned.
    pub fn tune(&self) -> Tune {
        match self.start {
            // A server that the tests start is on loopback and speaks no TLS.
            Start::Serve | Start::Xks | Start::Token(_) => Tune::default()
                .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
                .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
                // The embedded provider draws RSA keys, which takes seconds on a busy machine.
                .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s"),
            Start::Aws(server) => {
                let address = aws(server).unwrap_or_default();
                Tune::default()
                    .set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", &address)
                    .set("CLAVIGER_PROVIDERS__AWS__STS_ENDPOINT", &address)
            }
            Start::Azure => azure_tune(Tune::default()),
            Start::Google => {
                let address = google();
                Tune::default()
                    .set("CLAVIGER_PROVIDERS__GCP__KMS_ENDPOINT", &address)
                    .set("CLAVIGER_PROVIDERS__GCP__STS_ENDPOINT", &address)
                    .set("CLAVIGER_PROVIDERS__GCP__IAM_ENDPOINT", &address)
                    // The fake draws RSA keys, which takes seconds on a busy machine.
                    .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s")
            }
            Start::Fake(plays) => Tune::default().set("CLAVIGER_TESTKIT_PLAYS", plays),
        }
    }
}

fn fake_absent() -> Option<&'static str> {
    (!cfg!(feature = "testkit")).then_some("this binary was built without the feature testkit")
}

/// The server that `tests/backends/openbao/start` started; with `TLS_`, that of `start --tls`.
pub fn openbao(variable: &str) -> Option<String> {
    std::env::var(format!("CLAVIGER_TEST_OPENBAO_{variable}")).ok()
}

fn openbao_settings() -> Value {
    json!({"address": openbao("ADDRESS"), "auth": {"token": openbao("TOKEN")}})
}

/// With a token that has the least privilege.
fn openbao_tls_settings() -> Value {
    let ca = openbao("TLS_FOLDER").and_then(|folder| std::fs::read_to_string(format!("{folder}/ca.pem")).ok());
    json!({"address": openbao("TLS_ADDRESS"), "ca": ca, "auth": {"token": openbao("TLS_LIMITED_TOKEN")}})
}

fn openbao_tls_absent() -> Option<&'static str> {
    let there = ["TLS_ADDRESS", "TLS_LIMITED_TOKEN", "TLS_FOLDER"]
        .iter()
        .all(|name| openbao(name).is_some());
    (!there).then_some("CLAVIGER_TEST_OPENBAO_TLS_ADDRESS, _LIMITED_TOKEN and _FOLDER name no server")
}

fn openbao_absent() -> Option<&'static str> {
    let there = openbao("ADDRESS").is_some() && openbao("TOKEN").is_some();
    (!there).then_some("CLAVIGER_TEST_OPENBAO_ADDRESS and _TOKEN name no server")
}

/// A stand-in for AWS that `tests/backends/aws/start` started.
pub fn aws(server: &str) -> Option<String> {
    std::env::var(format!("CLAVIGER_TEST_{server}_ADDRESS")).ok()
}

fn moto_absent() -> Option<&'static str> {
    aws("MOTO").is_none().then_some("CLAVIGER_TEST_MOTO_ADDRESS names no server")
}

fn localstack_absent() -> Option<&'static str> {
    aws("LOCALSTACK")
        .is_none()
        .then_some("CLAVIGER_TEST_LOCALSTACK_ADDRESS names no server")
}

/// Neither server looks at the signature.
fn aws_settings() -> Value {
    let key = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"});
    json!({"region": "eu-central-1", "auth": {"static": key}})
}

/// The fake of Azure that `tests/backends/azure/start` started: its Key Vault.
fn azure_vault() -> Option<String> {
    std::env::var("CLAVIGER_TEST_FAKE_AZURE_ADDRESS").ok()
}

/// Its Managed HSM is the same port by another name.
fn azure_hsm() -> Option<String> {
    azure_vault().map(|address| address.replace("127.0.0.1", "localhost"))
}

fn azure_absent() -> Option<&'static str> {
    azure_vault()
        .is_none()
        .then_some("CLAVIGER_TEST_FAKE_AZURE_ADDRESS names no server")
}

fn azure_tune(tune: Tune) -> Tune {
    let address = azure_vault().unwrap_or_default();
    tune.set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_PROVIDERS__AZURE__VAULTS", &address)
        .set("CLAVIGER_PROVIDERS__AZURE__MANAGED_HSMS", azure_hsm().unwrap_or_default())
        .set("CLAVIGER_PROVIDERS__AZURE__AUTHORITY", &address)
        // The fake draws each RSA key when it is asked, which takes seconds on a busy machine.
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "9s")
}

fn azure_settings(vault: Option<String>, aes_algorithm: Option<&str>) -> Value {
    let ca = std::env::var("CLAVIGER_TEST_FAKE_AZURE_CA").ok();
    let ca = ca.and_then(|file| std::fs::read_to_string(file).ok());
    let application = json!({
        "directory": "11111111-2222-3333-4444-555555555555", "client_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "secret": "any",
    });
    let mut settings = json!({"vault": vault, "ca": ca, "auth": {"client_secret": application}});
    if let Some(word) = aes_algorithm {
        settings["aes_algorithm"] = json!(word);
    }
    settings
}

/// The key ring of all cases on the fake of Google.
const RING: &str = "projects/claviger-test/locations/europe-west3/keyRings/conformance";

/// The fake of Google: one for all cases, on a thread of its own, since each case has a runtime
/// that ends with it.
pub fn google() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let start = || {
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let fake = claviger_fake_google::FakeGoogle::start().await.expect("a fake of Google");
                fake.make_ring(RING).expect("a key ring");
                told.send(fake.url()).expect("somebody who waits");
                std::future::pending::<()>().await;
            });
        });
        tell.recv().expect("an address")
    };
    ADDRESS.get_or_init(start).clone()
}

fn google_settings() -> Value {
    json!({"key_ring": RING, "auth": {"token": "ya29.of-nobody"}})
}

const GOOGLE: &[Difference] = &[Difference {
    case: "forged::a_forged_recipient_does_not_open",
    says: "another version, sealed anew",
    reason: "as Google: Decrypt takes no version and tells none, so under a symmetric key another version's name opens as well",
}];

// Why the stand-ins for AWS, and AWS itself, end a case otherwise.
const UNNAMED: &str = "as AWS: a ciphertext names no version of its key, so the newest one is told, and no other can be forged";
const IN_CLEAR: &str =
    "moto's ciphertext begins with the key's id in clear; another id there is denied, where AWS answers InvalidCiphertextException";
const ONLY_32: &str = "LocalStack ignores NumberOfBytes: data keys have 32 bytes";
const NO_HISTORY: &str = "LocalStack has no ListKeyRotations, without which nothing is rotated";

/// All of them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "local",
        provider: "local",
        absent: || None,
        start: Start::Serve,
        settings: || json!({}),
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "local-rsa",
        provider: "local",
        absent: || None,
        start: Start::Serve,
        settings: || json!({}),
        spec: "rsa-3072",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "openbao",
        provider: "vault",
        absent: openbao_absent,
        start: Start::Serve,
        settings: openbao_settings,
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "openbao-rsa",
        provider: "vault",
        absent: openbao_absent,
        start: Start::Serve,
        settings: openbao_settings,
        spec: "rsa-3072",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "openbao-tls",
        provider: "vault",
        absent: openbao_tls_absent,
        start: Start::Serve,
        settings: openbao_tls_settings,
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "moto",
        provider: "aws",
        absent: moto_absent,
        start: Start::Aws("MOTO"),
        settings: aws_settings,
        spec: "aes-256",
        inside: true,
        differences: &[
            Difference {
                case: "forged::a_forged_recipient_does_not_open",
                says: "left != right",
                reason: UNNAMED,
            },
            Difference {
                case: "rewrap::same_key_keeps_the_data_key",
                says: "(Number(2), Number(2))",
                reason: UNNAMED,
            },
            Difference {
                case: "adopt::a_detached_key_comes_back_and_opens_its_blobs",
                says: "Number(2), Bool(false)",
                reason: UNNAMED,
            },
            Difference {
                case: "tampered::a_flipped_bit_of_a_data_key",
                says: "provider_denied",
                reason: IN_CLEAR,
            },
            Difference {
                case: "tampered::a_flipped_bit_of_wrapped_bytes",
                says: "provider_denied",
                reason: IN_CLEAR,
            },
            Difference {
                case: "capabilities::specifications",
                says: "provider_protocol",
                reason: "moto's GetPublicKey tells the key's id instead of its ARN, and its RSA encryption is none",
            },
            Difference {
                case: "capabilities::state_at_the_provider",
                says: "pending",
                reason: "moto's DisableKey takes a key id, but no ARN",
            },
            Difference {
                case: "owner::a_key_that_was_deleted_softly_works_again_once_recovered",
                says: "\"plaintext\"",
                reason: "moto goes on using a key that is to be deleted, where AWS answers KMSInvalidStateException",
            },
        ],
    },
    Entry {
        name: "localstack",
        provider: "aws",
        absent: localstack_absent,
        start: Start::Aws("LOCALSTACK"),
        settings: aws_settings,
        spec: "aes-256",
        inside: true,
        differences: &[
            Difference {
                case: "round_trip::data_keys_of_every_length",
                says: "provider_protocol",
                reason: ONLY_32,
            },
            Difference {
                case: "round_trip::a_data_key_without_plaintext",
                says: "provider_protocol",
                reason: ONLY_32,
            },
            Difference {
                case: "tampered::a_flipped_bit_of_a_data_key",
                says: "provider_protocol",
                reason: ONLY_32,
            },
            Difference {
                case: "forged::a_forged_recipient_does_not_open",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "rotate::old_versions_still_open",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "rewrap::same_key_keeps_the_data_key",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "rewrap::a_wrong_source_is_refused",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "adopt::a_detached_key_comes_back_and_opens_its_blobs",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "adopt::a_provider_key_that_is_held_is_taken",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "moves::both_sides_open",
                says: "unsupported",
                reason: NO_HISTORY,
            },
            Difference {
                case: "capabilities::rotation",
                says: "unsupported",
                reason: NO_HISTORY,
            },
        ],
    },
    Entry {
        name: "azure-vault",
        provider: "azure",
        absent: azure_absent,
        start: Start::Azure,
        settings: || azure_settings(azure_vault(), None),
        spec: "rsa-3072",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "azure-hsm",
        provider: "azure",
        absent: azure_absent,
        start: Start::Azure,
        settings: || azure_settings(azure_hsm(), None),
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "azure-hsm-gcm",
        provider: "azure",
        absent: azure_absent,
        start: Start::Azure,
        settings: || azure_settings(azure_hsm(), Some("A256GCM")),
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "fake-google",
        provider: "gcp",
        absent: || None,
        start: Start::Google,
        settings: google_settings,
        spec: "aes-256",
        inside: false,
        differences: GOOGLE,
    },
    Entry {
        name: "fake-google-rsa",
        provider: "gcp",
        absent: || None,
        start: Start::Google,
        settings: google_settings,
        spec: "rsa-3072",
        inside: false,
        differences: &[Difference {
            case: "owners_versions::a_rotation_is_followed_by_the_next_wrap",
            says: "the wrap after the rotation",
            reason: "as Google: an asymmetric key has no primary version, so the gateway uses the one that it knows until it looks again",
        }],
    },
    XKS,
    PYKMIP,
    KMIP_GO,
    SOFTHSM,
    KRYOPTIC,
    Entry {
        name: "fake",
        provider: "vault",
        absent: fake_absent,
        start: Start::Fake("plain"),
        settings: || json!({}),
        spec: "aes-256",
        inside: false,
        differences: &[],
    },
    Entry {
        name: "fake-capable",
        provider: "vault",
        absent: fake_absent,
        start: Start::Fake("capable"),
        settings: || json!({}),
        spec: "aes-256",
        inside: true,
        differences: &[],
    },
];
