//! A gateway process.

use std::path::PathBuf;

use claviger_client::Client;
use claviger_client::settings::LocalSettings;
use claviger_test_support::{Gateway, Started, Tune};

/// The gateway's binary: `CLAVIGER_TEST_BINARY`, or else the one that cargo builds with the workspace's tests.
pub fn binary() -> String {
    let built = || {
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(|deps| deps.parent()).unwrap();
        folder.join("claviger")
    };
    let binary = std::env::var_os("CLAVIGER_TEST_BINARY").map_or_else(built, PathBuf::from);
    assert!(
        binary.is_file(),
        "{}: no such binary; `cargo test --workspace` builds it, or set CLAVIGER_TEST_BINARY",
        binary.display()
    );
    binary.to_str().unwrap().to_owned()
}

/// A gateway of its own with the tenant `acme`, which has the connection `embedded` and the key `orders`.
pub struct Acme {
    pub folder: Gateway,
    pub started: Started,
}

impl Acme {
    pub async fn start() -> Self {
        let folder = Gateway::new(&binary());
        let started = folder.serve(&Tune::default());
        let acme = Self { folder, started };
        acme.operator().create_tenant("acme").await.unwrap();
        let client = acme.client();
        client.create_connection("embedded", LocalSettings::default()).await.unwrap();
        client.create_key("orders", "embedded").await.unwrap();
        acme
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.started.address())
    }

    /// The platform operator.
    pub fn operator(&self) -> Client {
        Client::builder(self.address())
            .token_file(self.folder.token_file())
            .build()
            .unwrap()
    }

    /// The platform operator, who acts for the tenant.
    pub fn client(&self) -> Client {
        self.operator().with_tenant("acme")
    }
}
