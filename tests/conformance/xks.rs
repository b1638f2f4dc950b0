//! A fake XKS proxy, in the process of the tests.

use std::sync::{Arc, OnceLock, mpsc};

use claviger_fake_xks::{AccessKey, FakeXks, Keys, Transport};
use serde_json::{Value, json};

use crate::entries::{Entry, Start};
use crate::external::EXTERNAL;

/// The proxy behind which the owner of the keys has them.
pub const XKS: Entry = Entry {
    name: "fake-xks",
    provider: "xks",
    absent: || None,
    start: Start::Xks,
    settings,
    spec: "aes-256",
    inside: false,
    differences: EXTERNAL,
};

/// Makes a key at the provider, as its owner does, and returns its name; `None` where the gateway creates keys.
pub fn owners_key(entry: &Entry) -> Option<String> {
    match entry.start {
        Start::Xks => Some(fake().keys.make_another()),
        Start::Serve | Start::Token(_) | Start::Aws(_) | Start::Azure | Start::Google | Start::Fake(_) => None,
    }
}

/// The fake that all cases share.
pub struct Fake {
    address: String,
    ca: String,
    /// The keys of the key manager behind it.
    pub keys: Arc<Keys>,
}

/// The fake: one for all cases, on a thread of its own, since each case has a runtime that ends with it.
pub fn fake() -> &'static Fake {
    static FAKE: OnceLock<Fake> = OnceLock::new();
    FAKE.get_or_init(|| {
        let (told, tell) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
                let fake = FakeXks::start(Transport::Tls, "/conformance").await.expect("a fake XKS proxy");
                let shared = Fake {
                    address: fake.url(),
                    ca: fake.tls().expect("TLS").ca_pem().to_owned(),
                    keys: Arc::clone(fake.keys()),
                };
                told.send(shared).expect("somebody who waits");
                std::future::pending::<()>().await;
            });
        });
        tell.recv().expect("a fake")
    })
}

fn settings() -> Value {
    let (fake, key) = (fake(), AccessKey::first());
    json!({
        // A slow machine must not end a call.
        "address": fake.address, "ca": fake.ca, "region": "eu-central-1", "budget_ms": 10_000,
        "auth": {"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}},
    })
}
