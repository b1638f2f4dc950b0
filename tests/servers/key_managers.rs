//! Key managers that speak KMIP, which these cases start and end: over HTTP against the real binary.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use claviger_test_support::{Tune, free_address};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{CONNECTION, World, folder_of, good, variable};

const PYKMIP: &[&str] = &["CLAVIGER_TEST_PYKMIP_FOLDER", "CLAVIGER_TEST_PYKMIP_PYTHON"];
pub const KMIP_GO: &[&str] = &["CLAVIGER_TEST_KMIP_GO_FOLDER", "CLAVIGER_TEST_KMIP_GO_BINARY"];
// PyKMIP's client acts for the owner of a key.
const WITH_OWNER: &[&str] = &[
    "CLAVIGER_TEST_KMIP_GO_FOLDER",
    "CLAVIGER_TEST_KMIP_GO_BINARY",
    "CLAVIGER_TEST_PYKMIP_PYTHON",
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("key_managers::a_data_key_outlives_restarts_of_gateway_and_pykmip", PYKMIP, || {
            Box::pin(restarted(PYKMIP[0], Server::pykmip))
        }),
        Case::new("key_managers::a_data_key_outlives_restarts_of_gateway_and_kmip_go", KMIP_GO, || {
            Box::pin(restarted(KMIP_GO[0], Server::kmip_go_at))
        }),
        Case::new("key_managers::keys_of_two_servers_have_the_same_ids", PYKMIP, || {
            Box::pin(two_servers())
        }),
        Case::new("key_managers::the_authority_and_the_address_change", PYKMIP, || {
            Box::pin(network_changed())
        }),
        Case::new("key_managers::a_server_of_old_versions_is_told", KMIP_GO, || {
            Box::pin(old_versions())
        }),
        Case::new("key_managers::the_owner_sees_why_a_call_is_made", KMIP_GO, || Box::pin(justified())),
        Case::new("key_managers::a_deactivated_key_opens_what_it_wrapped", WITH_OWNER, || {
            Box::pin(deactivated())
        }),
    ]
}

/// A running server. It ends with this value.
pub struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// PyKMIP with the keys of a folder, on this port.
    fn pykmip(folder: &Path, port: u16) -> Self {
        let certificates = PathBuf::from(variable("CLAVIGER_TEST_PYKMIP_FOLDER"));
        let file = |name: &str| certificates.join(name).display().to_string();
        let within = |name: &str| folder.join(name).display().to_string();
        let configuration = format!(
            "[server]\nhostname=127.0.0.1\nport={port}\ncertificate_path={}\nkey_path={}\nca_path={}\nauth_suite=TLS1.2\npolicy_path={}\n\
             enable_tls_client_auth=True\ndatabase_path={}\nlogging_level=WARNING\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem"),
            within("policies"),
            within("keys.db"),
        );
        std::fs::create_dir_all(folder.join("policies")).unwrap();
        std::fs::write(folder.join("server.conf"), configuration).unwrap();
        let python = variable("CLAVIGER_TEST_PYKMIP_PYTHON");
        let program = folder_of("CLAVIGER_TEST_PYKMIP_PYTHON").join("pykmip-server");
        let mut command = Command::new(python);
        command.args(["-W", "ignore"]).arg(program).args(["-f", &within("server.conf")]);
        command.args(["-l", &within("server.log")]).env("HOME", folder);
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn().unwrap();
        let mut server = Self {
            process,
            address: format!("127.0.0.1:{port}"),
        };
        while TcpStream::connect(&server.address).is_err() {
            assert!(server.process.try_wait().unwrap().is_none(), "the server ended early");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// The server on kmip-go with these arguments, and its log.
    pub fn kmip_go(arguments: &[&str], log: Stdio) -> Self {
        let certificates = PathBuf::from(variable("CLAVIGER_TEST_KMIP_GO_FOLDER"));
        let mut command = Command::new(variable("CLAVIGER_TEST_KMIP_GO_BINARY"));
        for (option, name) in [("-certificate", "server.pem"), ("-key", "server.key"), ("-ca", "ca.pem")] {
            command.arg(option).arg(certificates.join(name));
        }
        command.args(arguments).stdout(Stdio::piped()).stderr(log);
        let mut process = command.process_group(0).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self {
            process,
            address: address.trim().to_owned(),
        }
    }

    /// The same with the keys of a folder, on this port.
    fn kmip_go_at(folder: &Path, port: u16) -> Self {
        let (keys, listen) = (folder.join("keys.json"), format!("127.0.0.1:{port}"));
        Self::kmip_go(&["-keys", keys.to_str().unwrap(), "-listen", &listen], Stdio::null())
    }

    /// Has the owner of a key of kmip-go's deactivate it.
    fn deactivate(&self, id: &str) {
        let folder = PathBuf::from(variable("CLAVIGER_TEST_KMIP_GO_FOLDER"));
        let file = |name: &str| folder.join(name).display().to_string();
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let program = format!(
            "from kmip import enums\n\
             from kmip.pie.client import ProxyKmipClient\n\
             with ProxyKmipClient(hostname={host:?}, port={port}, cert={:?}, key={:?}, ca={:?}, ssl_version='PROTOCOL_TLSv1_2', \
             kmip_version=enums.KMIPVersion.KMIP_1_4) as c:\n    \
             c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid={id:?})\n",
            file("client.pem"),
            file("client.key"),
            file("ca.pem"),
        );
        let mut python = Command::new(variable("CLAVIGER_TEST_PYKMIP_PYTHON"));
        python.args(["-W", "ignore", "-c", &program]);
        good(python, "");
    }

    /// The settings of a connection, with the certificates in the folder that a variable names.
    pub fn settings(&self, folder: &str) -> Value {
        let folder = PathBuf::from(variable(folder));
        let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let cert = json!({"certificate": file("client.pem"), "key": file("client.key")});
        // A slow machine must not end a call.
        json!({"address": self.address, "ca": file("ca.pem"), "auth": {"cert": cert}, "budget_ms": 10_000})
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PyKMIP has processes of its own, and ends in order only once its clients have gone.
        let _sent = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ended = self.process.wait();
    }
}

async fn world() -> World {
    World::new(Tune::default().set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s")).await
}

/// With the certificates in the folder that a variable names. `start` starts the server on a port, with the keys of a folder.
async fn restarted(certificates: &str, start: fn(&Path, u16) -> Server) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_address().port();
    let server = start(folder.path(), port);
    let world = world().await;
    world.connect("kmip", &server.settings(certificates)).await;
    let key = world.key("orders", json!({})).await;
    assert_eq!(key["custody"], "external");
    let context = json!({"table": "orders"});
    let made = world
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context}))
        .await
        .expect_status(200);
    let body = json!({"wrapped": made["wrapped"], "context": context});
    drop(server);
    world
        .client
        .post("/v1/unwrap", &body)
        .await
        .expect_problem(503, "provider_unavailable");
    let world = world.restarted();
    let _server = start(folder.path(), port);
    let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
    assert_eq!((&opened["plaintext"], &opened["cached"]), (&made["plaintext"], &json!(false)));
    let other = json!({"wrapped": made["wrapped"], "context": {"table": "invoices"}});
    world
        .client
        .post("/v1/unwrap", &other)
        .await
        .expect_problem(422, "ciphertext_rejected");
}

/// Each PyKMIP counts its keys from 1.
async fn two_servers() {
    let world = world().await;
    let mut servers = Vec::new();
    for name in ["first", "second"] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::pykmip(folder.path(), free_address().port());
        let body = json!({"name": name, "provider": "kmip", "settings": server.settings("CLAVIGER_TEST_PYKMIP_FOLDER")});
        world.client.post("/v1/connections", &body).await.expect_status(201);
        servers.push((server, folder));
    }
    let made = async |name: &str, connection: &str| {
        let body = json!({"name": name, "connection": connection});
        let key = world.client.post("/v1/keys", &body).await.expect_status(201);
        key["provider_key"].as_str().unwrap().to_owned()
    };
    let mut wrapped = Vec::new();
    for (name, connection) in [("a", "first"), ("b", "second")] {
        assert_eq!(made(name, connection).await, "1");
        let key = format!("/v1/keys/{name}");
        let data_key = async || world.client.post(&format!("{key}/data-keys"), &json!({})).await.expect_status(200);
        wrapped.push(data_key().await);
        let rotated = world.client.post_empty(&format!("{key}/rotate")).await.expect_status(200);
        assert_eq!(rotated["provider_key"], "2");
        wrapped.push(data_key().await);
        assert_eq!(made(&format!("detached-{name}"), connection).await, "3");
        // One that is detached keeps nothing from the other server's.
        assert_eq!(world.client.delete(&format!("/v1/keys/detached-{name}")).await.status, 204);
    }
    for connection in ["first", "second"] {
        let body = json!({"name": "copy", "connection": connection, "provider_key": "1"});
        world.client.post("/v1/keys", &body).await.expect_problem(409, "provider_key_taken");
    }
    for made in &wrapped {
        let body = json!({"wrapped": made["wrapped"]});
        let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

/// The key manager moves to another port, and the connection trusts one more authority.
async fn network_changed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::pykmip(folder.path(), free_address().port());
    let stranger = Server::pykmip(other.path(), free_address().port());
    let world = world().await;
    let settings = server.settings(PYKMIP[0]);
    world.connect("kmip", &settings).await;
    let body = json!({"name": "second", "provider": "kmip", "settings": stranger.settings(PYKMIP[0])});
    world.client.post("/v1/connections", &body).await.expect_status(201);
    let own = world.key("orders", json!({})).await;
    let body = json!({"name": "theirs", "connection": "second"});
    let theirs = world.client.post("/v1/keys", &body).await.expect_status(201);
    assert_eq!(own["provider_key"], theirs["provider_key"]);
    let data_key = async || world.client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let made = data_key().await;

    let path = format!("/v1/connections/{CONNECTION}");
    let change = async |network: &Value| {
        let body = json!({"settings": network, "secrets": settings["auth"]["cert"]});
        world.client.patch(&path, "*", &body).await
    };
    let strange = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let before = world.client.get(&path).await.expect_status(200);
    for wrong in [
        json!({"ca": strange}),
        json!({"address": stranger.address}),
        json!({"address": "127.0.0.1:1"}),
    ] {
        change(&wrong).await.expect_problem(400, "connection_refused_at_check");
        assert_eq!(world.client.get(&path).await.expect_status(200), before, "nothing was changed");
    }
    drop(server);
    let moved = Server::pykmip(folder.path(), free_address().port());
    let both = json!({"address": moved.address, "ca": format!("{}{strange}", settings["ca"].as_str().unwrap())});
    let after = change(&both).await.expect_status(200);
    for member in ["address", "ca"] {
        assert_eq!(after["settings"][member], both[member]);
    }
    for made in [made, data_key().await] {
        let body = json!({"wrapped": made["wrapped"]});
        let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

async fn justified() {
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let server = Server::kmip_go(&["-versions", "1.4"], log.reopen().unwrap().into());
    let world = world().await;
    let mut settings = server.settings("CLAVIGER_TEST_KMIP_GO_FOLDER");
    settings["correlation"] = json!(true);
    settings["protocol_version"] = json!("1.4");
    world.connect("kmip", &settings).await;
    world.key("orders", json!({})).await;
    let client = world.client.clone().with_header("claviger-justification", "ticket 4711");
    let made = client.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    let body = json!({"wrapped": made["wrapped"]});
    client.post("/v1/unwrap", &body).await.expect_status(200);
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    for operation in ["GenerateDataKey", "Unwrap"] {
        let seen = format!("operation={operation} justification=ticket 4711\"");
        assert!(text.contains(&seen), "no {seen} in\n{text}");
    }
}

async fn deactivated() {
    let server = Server::kmip_go(&["-versions", "1.4"], Stdio::null());
    let world = world().await;
    world.connect("kmip", &server.settings("CLAVIGER_TEST_KMIP_GO_FOLDER")).await;
    world.key("orders", json!({})).await;
    let versions = async || world.client.list("/v1/keys/orders/versions").await;
    let wrap = async || world.client.post("/v1/keys/orders/data-keys", &json!({})).await;
    let made = wrap().await.expect_status(200);
    server.deactivate(versions().await[0]["provider_key"].as_str().unwrap());
    // The refusal has the gateway describe the key, and its second look is at what that stored.
    for _ in 0..2 {
        wrap().await.expect_problem(409, "key_state");
        assert_eq!(versions().await[0]["provider_state"], "decrypt_only");
        let body = json!({"wrapped": made["wrapped"]});
        let opened = world.client.post("/v1/unwrap", &body).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    // A check says it of the primary version.
    let report = world.client.post_empty("/v1/connections/kms/check").await.expect_status(200);
    assert!(report.to_string().contains("is `decrypt_only` at the provider"), "{report}");
}

async fn old_versions() {
    for versions in ["1.0", "1.0,1.2"] {
        let server = Server::kmip_go(&["-versions", versions], Stdio::null());
        let world = world().await;
        world.connect("kmip", &server.settings("CLAVIGER_TEST_KMIP_GO_FOLDER")).await;
        let path = format!("/v1/connections/{CONNECTION}/check");
        let report = world.client.post_empty(&path).await.expect_status(200);
        assert_eq!(
            (&report["reachable"], &report["code"]),
            (&json!(false), &json!("connection_misconfigured")),
            "{report}"
        );
        assert!(report["what_to_do"].as_str().unwrap().contains("KMIP 1.4 or 2.0"), "{report}");
        let body = json!({"name": "orders", "connection": CONNECTION});
        let refused = world.client.post("/v1/keys", &body).await;
        let problem = refused.expect_problem(424, "connection_misconfigured");
        assert!(problem["what_to_do"].as_str().unwrap().contains("KMIP 1.4 or 2.0"), "{problem}");
    }
}
