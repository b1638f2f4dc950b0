//! A key manager of each kind whose decryptions a test counts and spoils, and a gateway with keys in it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_fake::{Act, Fault as Planned};
use claviger_fake_xks::{AccessKey, Denial, FakeXks, Transport};
use claviger_test_support::faulty::Switch;
use claviger_test_support::softhsm::{Declared, PIN, SOFTHSM, VARIABLES};
use claviger_test_support::{Answer, Client, Tune};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::key_managers::{KMIP_GO, Server};
use crate::world::{CONNECTION, TENANT, World};

/// The key of [`CONNECTION`], which is so patient that a slow machine ends no call.
pub const KEY: &str = "orders";
/// A connection to the same key manager with [`BUDGET`], and its key.
pub const HASTY: &str = "hasty";
/// A connection to a sound key manager of the same kind, and its key.
pub const BESIDE: &str = "beside";
/// The time of one call through [`HASTY`].
pub const BUDGET: Duration = Duration::from_secs(1);
/// How long a condition is waited for.
const WAIT: Duration = Duration::from_secs(30);

/// What a key manager speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xks,
    Kmip,
    Pkcs11,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Xks, Self::Kmip, Self::Pkcs11];

    /// Its word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xks => "xks",
            Self::Kmip => "kmip",
            Self::Pkcs11 => "pkcs11",
        }
    }

    /// The variables that its key manager needs.
    pub const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Xks => &[],
            Self::Kmip => KMIP_GO,
            Self::Pkcs11 => VARIABLES,
        }
    }
}

/// What becomes of decryptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They are answered.
    None,
    /// The owner denies them.
    Denied,
    /// They are never answered.
    Hang,
    /// Each takes half a second.
    Pause,
    /// The next one takes two seconds.
    SlowOnce,
    /// They return other bytes than were encrypted, as many.
    WrongPlaintext,
}

enum Manager {
    Xks { fake: Box<FakeXks>, beside: Box<FakeXks> },
    Kmip { switch: Switch, _servers: [Server; 2] },
    Pkcs11 { switch: Switch },
}

/// A key manager, and a gateway with a key of each of its connections.
pub struct Held {
    pub world: World,
    manager: Manager,
    _folder: TempDir,
}

fn xks_settings(fake: &FakeXks) -> Value {
    let key = AccessKey::first();
    json!({
        "address": fake.url(), "region": "eu-central-1", "ca": fake.tls().unwrap().ca_pem(),
        "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
    })
}

/// Makes the three connections.
async fn connect(world: &World, kind: Kind, manager: &Value, beside: &Value) {
    for (name, settings, budget) in [
        (CONNECTION, manager, Duration::from_secs(10)),
        (HASTY, manager, BUDGET),
        (BESIDE, beside, Duration::from_secs(10)),
    ] {
        let mut settings = settings.clone();
        settings["budget_ms"] = json!(budget.as_millis());
        let body = json!({"name": name, "provider": kind.word(), "settings": settings});
        world.client.post("/v1/connections", &body).await.expect_status(201);
    }
}

impl Held {
    pub async fn new(kind: Kind) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let switch = Switch::in_folder(folder.path());
        // A slow machine must not end an attempt.
        let tuned = |tune: Tune| tune.set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s");
        let (world, manager) = match kind {
            Kind::Xks => {
                let world = World::new(tuned(Tune::default())).await;
                let fake = Box::new(FakeXks::start(Transport::Tls, "/of/acme").await.unwrap());
                let beside = Box::new(FakeXks::start(Transport::Tls, "/of/acme").await.unwrap());
                connect(&world, kind, &xks_settings(&fake), &xks_settings(&beside)).await;
                (world, Manager::Xks { fake, beside })
            }
            Kind::Kmip => {
                let world = World::new(tuned(Tune::default())).await;
                let file = switch.path().to_str().unwrap();
                let server = Server::kmip_go(&["-versions", "1.4", "-switch", file], Stdio::null());
                let beside = Server::kmip_go(&["-versions", "1.4"], Stdio::null());
                connect(&world, kind, &server.settings(KMIP_GO[0]), &beside.settings(KMIP_GO[0])).await;
                let _servers = [server, beside];
                (world, Manager::Kmip { switch, _servers })
            }
            Kind::Pkcs11 => {
                let behind = |name| Declared {
                    switch: Some(&switch),
                    ..Declared::named(name)
                };
                let hasty = Declared {
                    budget_ms: 1000,
                    ..behind(HASTY)
                };
                let connections = [behind(CONNECTION), hasty, Declared::named(BESIDE)];
                let tune = SOFTHSM.declared_as(folder.path(), &[TENANT], &connections, PIN);
                (World::of(tuned(tune)), Manager::Pkcs11 { switch })
            }
        };
        let held = Self {
            world,
            manager,
            _folder: folder,
        };
        for (name, connection) in [(KEY, CONNECTION), (HASTY, HASTY), (BESIDE, BESIDE)] {
            let mut body = json!({"name": name, "connection": connection});
            if let Manager::Xks { fake, beside } = &held.manager {
                let of = if name == BESIDE { beside } else { fake };
                of.keys().make(name);
                body["provider_key"] = json!(name);
            }
            let made = held.world.client.post("/v1/keys", &body).await.expect_status(201);
            assert_eq!(made["custody"], "external");
        }
        held
    }

    /// Has the key manager of [`CONNECTION`] and [`HASTY`] have a fault from now on.
    pub fn have(&self, fault: Fault) {
        match &self.manager {
            Manager::Xks { fake, .. } => {
                let denial = Denial {
                    member: "kmsOperation".to_owned(),
                    value: "Decrypt".to_owned(),
                };
                let denials = if fault == Fault::Denied { vec![denial] } else { Vec::new() };
                fake.access().change(|settings| settings.denials = denials);
                let planned = match fault {
                    Fault::None | Fault::Denied => Vec::new(),
                    Fault::Hang => vec![Planned::always("/decrypt", Act::Hang)],
                    Fault::Pause => vec![Planned::always("/decrypt", Act::Delay { milliseconds: 500 })],
                    Fault::SlowOnce => vec![Planned::once("/decrypt", Act::Delay { milliseconds: 2000 })],
                    Fault::WrongPlaintext => {
                        let patch = json!({"plaintext": STANDARD.encode([7; 32])});
                        vec![Planned::always("/decrypt", Act::Change { patch })]
                    }
                };
                fake.switches().faults.set(planned);
            }
            Manager::Kmip { switch, .. } | Manager::Pkcs11 { switch } => switch.have(match fault {
                Fault::None => "",
                Fault::Denied => "reject",
                Fault::Hang => "hang-decrypt",
                Fault::Pause => "pause-decrypt",
                Fault::SlowOnce => "slow-decrypt-once",
                Fault::WrongPlaintext => "wrong-plaintext",
            }),
        }
    }

    /// How many decryptions the key manager was asked for so far.
    pub fn asked(&self) -> usize {
        match &self.manager {
            Manager::Xks { fake, .. } => fake.switches().journal.count("POST", "/decrypt"),
            Manager::Kmip { switch, .. } | Manager::Pkcs11 { switch } => switch.noted("decryptions"),
        }
    }

    /// Waits until it was asked for so many.
    pub async fn until_asked(&self, decryptions: usize) {
        let end = Instant::now() + WAIT;
        while self.asked() < decryptions {
            assert!(Instant::now() < end, "asked for {} of {decryptions}", self.asked());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes a data key.
    pub async fn data_key(&self, key: &str) -> Value {
        let path = format!("/v1/keys/{key}/data-keys");
        self.world.client.post(&path, &json!({})).await.expect_status(200)
    }

    /// Unwraps a data key.
    pub async fn unwrap(&self, made: &Value) -> Answer {
        unwrap(&self.world.client, made).await
    }

    /// Unwraps a data key in a task of its own.
    pub fn unwrapping(&self, made: &Value) -> tokio::task::JoinHandle<Answer> {
        let (client, made) = (self.world.client.clone(), made.clone());
        tokio::spawn(async move { unwrap(&client, &made).await })
    }

    /// Unwraps a data key, and returns whether it was cached.
    pub async fn opens(&self, made: &Value) -> bool {
        let opened = self.unwrap(made).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
        opened["cached"].as_bool().unwrap()
    }
}

async fn unwrap(client: &Client, made: &Value) -> Answer {
    client.post("/v1/unwrap", &json!({"wrapped": made["wrapped"]})).await
}
