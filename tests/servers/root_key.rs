//! A root key that OpenBao unwraps at each start.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger::envelope::{Context, Envelope};
use claviger_test_support::{Gateway, Started, Tune, free_address};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::openbao::{DEV, Server, unique};
use crate::world::{good, variable};
use crate::{BINARY, Case};

/// A Python with the package `cryptography`.
const PYTHON: &str = "CLAVIGER_TEST_PYTHON";
/// What opening without us needs.
const WITH_PYTHON: &[&str] = &[
    "CLAVIGER_TEST_OPENBAO_ADDRESS",
    "CLAVIGER_TEST_OPENBAO_TOKEN",
    "CLAVIGER_TEST_OPENBAO_CLI",
    PYTHON,
];

/// How long a gateway that waits may take to notice: its pauses are 1, 2 and 4 s by then.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("root_key::init_wraps_it_and_each_start_unwraps_it", DEV, || {
            Box::pin(wrapped_at_init())
        }),
        Case::new(
            "root_key::a_start_waits_for_the_server_and_for_the_right",
            DEV,
            || Box::pin(waits()),
        ),
        Case::new("root_key::one_that_exists_is_wrapped_once", DEV, || Box::pin(wrapped_later())),
        Case::new("root_key::the_server_and_the_page_open_it_without_us", WITH_PYTHON, || {
            Box::pin(without_us())
        }),
        Case::new("root_key::what_cannot_be_mended_ends_the_start", DEV, || Box::pin(refused())),
    ]
}

/// A gateway to be, a key in OpenBao for its root key, and the configuration that names both.
struct Bench {
    gateway: Gateway,
    folder: tempfile::TempDir,
    key: String,
    address: String,
}

impl Bench {
    fn new() -> Self {
        let key = unique("root");
        Server::Dev.bao(&["write", "-f", &format!("transit/keys/{key}")], "");
        let bench = Self {
            gateway: Gateway::empty(BINARY),
            folder: tempfile::tempdir().unwrap(),
            key,
            address: Server::Dev.address(),
        };
        bench.give(&Server::Dev.token());
        bench
    }

    fn wrapped(&self) -> PathBuf {
        self.folder.path().join("root.key.wrapped")
    }

    /// The token that the gateway logs in with, from now on.
    fn give(&self, token: &str) {
        std::fs::write(self.folder.path().join("token"), format!("{token}\n")).unwrap();
    }

    /// A token with these rights on the key.
    fn limited(&self, rights: &[&str]) -> String {
        let line = |right| format!("path \"transit/{right}/{}\" {{ capabilities = [\"update\"] }}\n", self.key);
        Server::Dev.limited(&rights.iter().map(line).collect::<String>(), &[])
    }

    fn tune(&self) -> Tune {
        let shown = |path: PathBuf| path.display().to_string();
        let (file, token) = (self.folder.path().join("claviger.toml"), self.folder.path().join("token"));
        let text = format!(
            "[storage.root_key]\nwrapped = {:?}\nprovider = \"vault\"\nkey = {:?}\n\
             [storage.root_key.settings]\naddress = {:?}\nauth = {{ token = {{ file = {:?} }} }}\n",
            shown(self.wrapped()),
            self.key,
            self.address,
            shown(token),
        );
        std::fs::write(&file, text).unwrap();
        Tune::default()
            .unset("CLAVIGER_STORAGE__ROOT_KEY__FILE")
            .set("CLAVIGER_CONFIG", shown(file))
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
    }

    fn command(&self, tune: &Tune, arguments: &[&str]) -> Result<String, String> {
        let mut command: Command = self.gateway.command(tune);
        let output = command.args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    fn init(&self, tune: &Tune) -> Result<String, String> {
        let token = self.gateway.token_file();
        self.command(tune, &["init", "--token-out", token.to_str().unwrap()])
    }

    fn refused(&self) -> String {
        match self.gateway.try_serve(&self.tune()) {
            Ok(_) => panic!("it started"),
            Err(said) => said,
        }
    }
}

/// A data key of the embedded provider, whose material the root key seals.
async fn data_key(started: &Started) -> serde_json::Value {
    let client = started.with_tenant("acme").await;
    let key = json!({"name": "orders", "connection": "embedded"});
    client.post("/v1/keys", &key).await.expect_status(201);
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    json!({"wrapped": made["wrapped"]})
}

async fn opens(started: &Started, blob: &serde_json::Value) {
    started.tenant("acme").post("/v1/unwrap", blob).await.expect_status(200);
}

async fn waits_for_the_root_key(started: &Started) {
    let watcher = started.watcher();
    assert_eq!(watcher.get("/healthz").await.expect_status(200), json!({"alive": true}));
    let ready = watcher.get("/readyz").await.expect_status(503);
    assert_eq!(ready["parts"][0]["state"], "waiting for the root key", "{ready}");
    started.operator().get("/v1/tenants").await.expect_problem(503, "not_ready");
}

async fn wrapped_at_init() {
    let bench = Bench::new();
    let told = bench.init(&bench.tune()).unwrap();
    assert!(!told.contains("clvroot1"), "{told}");
    let wrapped = std::fs::read_to_string(bench.wrapped()).unwrap();
    assert!(wrapped.starts_with("clv1.") && !wrapped.contains("clvroot1"), "{wrapped}");
    assert!(!bench.gateway.root_key().exists(), "no other copy");

    let started = bench.gateway.serve(&bench.tune());
    let blob = data_key(&started).await;
    assert!(started.terminate());
    // To start takes one right: to decrypt with that key.
    bench.give(&bench.limited(&["decrypt"]));
    let started = bench.gateway.serve(&bench.tune());
    opens(&started, &blob).await;
    let log = started.output();
    assert!(!log.contains("clvroot1"), "{log}");
    assert!(started.terminate());
    let token = bench.gateway.token_file().with_extension("second");
    let again = bench.command(&bench.tune(), &["init", "--new-token", "--token-out", token.to_str().unwrap()]);
    again.unwrap();
}

async fn waits() {
    let mut bench = Bench::new();
    bench.init(&bench.tune()).unwrap();

    // Nothing answers at this address yet.
    let address = free_address();
    bench.address = format!("http://{address}");
    bench.give(&bench.limited(&["encrypt"]));
    let started = bench.gateway.listen(&bench.tune());
    waits_for_the_root_key(&started).await;
    // A start that waits ends as asked.
    assert!(started.terminate());

    let started = bench.gateway.listen(&bench.tune());
    waits_for_the_root_key(&started).await;
    let server = Server::Dev.address();
    let server = server.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    // The server answers now, and refuses: the token may not decrypt.
    let denied = async {
        while !started.output().contains("provider_denied") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, denied)
        .await
        .unwrap_or_else(|_| panic!("{}", started.output()));
    waits_for_the_root_key(&started).await;
    // A token that may takes effect without a restart.
    bench.give(&bench.limited(&["decrypt"]));
    started.until_ready().await;
    assert_eq!(started.operator().get("/v1/tenants").await.expect_status(200)["items"], json!([]));
    assert!(started.terminate());
}

async fn wrapped_later() {
    let bench = Bench::new();
    let plain = Tune::default();
    bench.init(&plain).unwrap();
    let started = bench.gateway.serve(&plain);
    let blob = data_key(&started).await;
    assert!(started.terminate());

    let from = bench.gateway.root_key();
    let arguments = ["wrap-root-key", "--from", from.to_str().unwrap()];
    let nowhere = bench.command(&plain, &arguments).unwrap_err();
    assert!(nowhere.contains("storage.root_key.wrapped"), "{nowhere}");
    bench.command(&bench.tune(), &arguments).unwrap();
    let wrapped = std::fs::read_to_string(bench.wrapped()).unwrap();
    let twice = bench.command(&bench.tune(), &arguments).unwrap_err();
    assert!(twice.contains("root.key.wrapped exists"), "{twice}");
    assert_eq!(std::fs::read_to_string(bench.wrapped()).unwrap(), wrapped);

    std::fs::remove_file(from).unwrap();
    let started = bench.gateway.serve(&bench.tune());
    opens(&started, &blob).await;
    assert!(started.terminate());
}

async fn refused() {
    let mut bench = Bench::new();
    // An init that may wrap and not unwrap would make a gateway that never starts.
    bench.give(&bench.limited(&["encrypt"]));
    let half = bench.init(&bench.tune()).unwrap_err();
    assert!(half.contains("the root key's provider"), "{half}");
    assert!(!bench.wrapped().exists() && !bench.gateway.data().join("claviger.db").exists());

    bench.give(&Server::Dev.token());
    bench.init(&bench.tune()).unwrap();
    let good = std::fs::read_to_string(bench.wrapped()).unwrap();
    let other = Bench::new();
    other.init(&other.tune()).unwrap();
    for (text, says) in [
        // The last character of the payload.
        (format!("{}A\n", &good[..good.len() - 2]), "contains no wrapped root key"),
        (
            std::fs::read_to_string(other.wrapped()).unwrap(),
            "this root key does not open this store",
        ),
        ("clvroot1:".to_owned(), "contains no wrapped root key"),
        (String::new(), "contains no wrapped root key"),
    ] {
        std::fs::write(bench.wrapped(), &text).unwrap();
        let said = bench.refused();
        assert!(said.contains(says), "{says}: {said}");
    }
    std::fs::remove_file(bench.wrapped()).unwrap();
    assert!(bench.refused().contains("claviger init creates a wrapped root key"));
    std::fs::write(bench.wrapped(), good).unwrap();

    bench.address = "ftp://vault".to_owned();
    let said = bench.refused();
    assert!(said.contains("storage.root_key.settings") && said.contains("/address"), "{said}");
    std::fs::remove_file(bench.folder.path().join("token")).unwrap();
    bench.address = Server::Dev.address();
    let said = bench.refused();
    assert!(said.contains("/token") && said.contains("cannot be read"), "{said}");
}

/// What lies there is an envelope as every other one: with the provider's own tool and the
/// page's Python it gives the root key, and the root key opens the store.
async fn without_us() {
    let bench = Bench::new();
    bench.init(&bench.tune()).unwrap();
    let started = bench.gateway.serve(&bench.tune());
    let blob = data_key(&started).await;
    assert!(started.terminate());

    let text = std::fs::read_to_string(bench.wrapped()).unwrap();
    let envelope = Envelope::parse(text.trim_end()).unwrap();
    let pairs = [("purpose".to_owned(), "claviger-root-key".to_owned())];
    let context = Context::from_pairs(pairs).unwrap().bind(envelope.header());
    let [recipient] = envelope.recipients() else {
        panic!("one recipient")
    };
    let ciphertext = std::str::from_utf8(recipient.ciphertext()).unwrap();
    let k = Server::Dev.bao(
        &[
            "write",
            "-field=plaintext",
            &format!("transit/decrypt/{}", bench.key),
            &format!("ciphertext={ciphertext}"),
            &format!("associated_data={}", STANDARD.encode(context.bytes())),
        ],
        "",
    );
    for (name, content) in [
        ("k", STANDARD.decode(k.trim()).unwrap()),
        ("header", envelope.header_bytes().to_vec()),
        ("payload", envelope.payload().unwrap().to_vec()),
    ] {
        std::fs::write(bench.folder.path().join(name), content).unwrap();
    }
    let mut python = Command::new(variable(PYTHON));
    python.current_dir(bench.folder.path()).arg("-");
    good(python, include_str!("../../src/protocols/rest/offline_decrypt.py"));
    let found = bench.folder.path().join("plaintext");
    std::fs::set_permissions(&found, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with_it = Tune::default().set("CLAVIGER_STORAGE__ROOT_KEY__FILE", found.to_str().unwrap());
    let started = bench.gateway.serve(&with_it);
    opens(&started, &blob).await;
    assert!(started.terminate());
}
