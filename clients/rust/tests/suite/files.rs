//! Encrypted files: those of the client, of the command line, and the vectors.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_client::{Error, ErrorKind, Result};
use claviger_test_support::Started;
use serde_json::{Value, json};

use super::acme::{Acme, binary};
use super::stub::{Stub, object, problem, unwrapped};
use super::support::{TABLE, failed};

const CHUNK: usize = 16_384;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[tokio::test]
async fn content_of_every_length_comes_back() {
    let acme = Acme::start().await;
    let client = acme.client();
    let plain = content(100_000);
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 100_000] {
        let source = io::Cursor::new(content(length));
        let file = client.encrypt_stream("orders", source, Vec::new()).context(TABLE).await.unwrap();
        assert!(file.starts_with(b"CLF\x01") && !file.windows(32).any(|part| part == &plain[..32]));
        let opened = client
            .decrypt_stream(io::Cursor::new(file), Vec::new())
            .context(TABLE)
            .await
            .unwrap();
        assert!(opened == content(length), "{length}");
    }
}

#[tokio::test]
async fn errors_of_the_gateway_come_through() {
    let acme = Acme::start().await;
    let client = acme.client();
    let file = client.encrypt_stream("orders", &b"content"[..], Vec::new()).await.unwrap();
    let open = || client.decrypt_stream(io::Cursor::new(file.clone()), io::sink());
    failed(open().context(TABLE).await, ErrorKind::CiphertextRejected);
    client.create_key("other", "embedded").await.unwrap();
    failed(open().key("other").await, ErrorKind::CiphertextRejected);
    open().key("orders").await.unwrap();
    failed(
        client.encrypt_stream("no-such-key", io::empty(), io::sink()).await,
        ErrorKind::NotFound,
    );
    // What is no file of Claviger, or not all of one, is nothing to ask the gateway.
    let stub = Stub::new(vec![problem("not_found", 404, false)]).await;
    for (length, code) in [(0, "file_unrecognized"), (3, "file_truncated"), (100, "file_truncated")] {
        let part = io::Cursor::new(file[..length].to_vec());
        let error = failed(stub.client().decrypt_stream(part, io::sink()).await, ErrorKind::File);
        assert_eq!(error.code().as_str(), code);
        assert!(error.what_to_do().is_some() && !error.is_retryable());
    }
    assert_eq!(stub.count(), 0);
}

/// The command line of this gateway, as the administrator of the tenant.
fn command(acme: &Acme, started: &Started, folder: &Path, arguments: &[&str]) {
    let done = Command::new(binary())
        .env_clear()
        .env("CLAVIGER_ADDRESS", format!("http://{}", started.address()))
        .env("CLAVIGER_TOKEN_FILE", acme.folder.token_file())
        .env("CLAVIGER_TENANT", "acme")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn the_command_line_and_the_client_open_each_others_files() {
    let acme = Acme::start().await;
    let client = acme.client();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("plain"), content(50_000)).unwrap();
    let run = |arguments: &[&str]| command(&acme, &acme.started, folder.path(), arguments);
    run(&[
        "encrypt",
        "orders",
        "--in",
        "plain",
        "--out",
        "theirs.clv",
        "--context",
        "table=orders",
    ]);
    client.decrypt_file(at("theirs.clv"), at("opened")).context(TABLE).await.unwrap();
    assert!(fs::read(at("opened")).unwrap() == content(50_000));
    client
        .encrypt_file("orders", at("plain"), at("ours.clv"))
        .context(TABLE)
        .await
        .unwrap();
    run(&["decrypt", "--in", "ours.clv", "--out", "again", "--context", "table=orders"]);
    assert!(fs::read(at("again")).unwrap() == content(50_000));
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_target_is_replaced_by_the_whole_only() {
    let acme = Acme::start().await;
    let client = acme.client();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plain = content(50_000);
    fs::write(at("plain"), &plain).unwrap();
    client
        .encrypt_file("orders", at("plain"), at("file.clv"))
        .context(TABLE)
        .await
        .unwrap();
    assert_eq!(mode(&at("file.clv")), 0o600);

    // A target that exists keeps its mode, and a symbolic link stays one.
    fs::write(at("existing"), "old").unwrap();
    fs::set_permissions(at("existing"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("existing", at("link")).unwrap();
    client.decrypt_file(at("file.clv"), at("link")).context(TABLE).await.unwrap();
    assert!(fs::read(at("existing")).unwrap() == plain);
    assert_eq!(
        (mode(&at("existing")), fs::read_link(at("link")).unwrap()),
        (0o644, PathBuf::from("existing"))
    );

    // Damage behind the first chunk leaves nothing.
    let mut damaged = fs::read(at("file.clv")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(at("damaged.clv"), damaged).unwrap();
    symlink("nowhere", at("no-link")).unwrap();
    let before = names(folder.path());
    for target in ["existing", "new"] {
        failed(
            client.decrypt_file(at("damaged.clv"), at(target)).context(TABLE).await,
            ErrorKind::File,
        );
    }
    assert!(fs::read(at("existing")).unwrap() == plain);
    failed(client.decrypt_file(at("file.clv"), at("new")).await, ErrorKind::CiphertextRejected);
    for (source, target) in [
        ("no-such-source", "new"),
        ("file.clv", "no-such-folder/new"),
        ("file.clv", "."),
        ("file.clv", "no-link"),
    ] {
        let error = failed(client.decrypt_file(at(source), at(target)).context(TABLE).await, ErrorKind::Io);
        assert!(
            std::error::Error::source(&error).is_some_and(|source| source.is::<io::Error>()),
            "{error}"
        );
    }
    assert_eq!(names(folder.path()), before);

    // Both may be the same.
    client.encrypt_file("orders", at("plain"), at("plain")).await.unwrap();
    assert!(fs::read(at("plain")).unwrap().starts_with(b"CLF\x01"));
    client.decrypt_file(at("plain"), at("plain")).await.unwrap();
    assert!(fs::read(at("plain")).unwrap() == plain);
    assert_eq!(names(folder.path()), before);
}

/// A source that takes a minute or more, and says when it began and when it was dropped.
struct Slow {
    left: u32,
    began: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.began.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        buffer[0] = 0;
        // It ends some time, so that a test which fails ends, too.
        self.left = self.left.saturating_sub(1);
        Ok(usize::from(self.left > 0))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

async fn until(flag: &AtomicBool) {
    let reached = async {
        while !flag.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.unwrap();
}

/// Its thread cannot be ended from outside.
#[tokio::test]
async fn what_is_dropped_ends() {
    let acme = Acme::start().await;
    let client = acme.client();
    let (began, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let slow = Slow {
        left: 60_000,
        began: Arc::clone(&began),
        ended: Arc::clone(&ended),
    };
    let call = tokio::spawn(client.encrypt_stream("orders", slow, io::sink()).into_future());
    until(&began).await;
    call.abort();
    until(&ended).await;
}

#[tokio::test]
async fn failures_of_sources_and_targets_are_returned() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let acme = Acme::start().await;
    let client = acme.client();
    let cause = |result: Result<()>| {
        let error = failed(result, ErrorKind::Io);
        let source = std::error::Error::source(&error).unwrap();
        source.downcast_ref::<io::Error>().unwrap().kind()
    };
    let start = io::Cursor::new(content(20_000)).chain(Broken);
    let broken = client.encrypt_stream("orders", start, io::sink()).await;
    assert_eq!(cause(broken.map(drop)), io::ErrorKind::BrokenPipe);
    let full = io::Cursor::new(Box::<[u8]>::from([0; 10]));
    let broken = client.encrypt_stream("orders", io::empty(), full).await;
    assert_eq!(cause(broken.map(drop)), io::ErrorKind::WriteZero);
    assert_eq!(
        cause(client.decrypt_stream(Broken, io::sink()).await.map(drop)),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn responses_that_no_file_can_have() {
    let envelope = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let good = envelope(b"CLV\x01");
    for (wrapped, length) in [
        (format!("clv1.{good}"), 31),
        (format!("clv1.{}", envelope(b"CLV\x02")), 32),
        (format!(".{good}"), 32),
        (format!("clv1.{good}="), 32),
        (format!("clv2.{good}"), 32),
        (format!("clv1.{}", envelope(&[&b"CLV\x01"[..], &[0; 16_384]].concat())), 32),
    ] {
        let plaintext = STANDARD.encode(vec![0; length]);
        let stub = Stub::new(vec![object(
            &json!({"key": "orders", "version": 1, "wrapped": wrapped, "plaintext": plaintext}),
        )])
        .await;
        let error = failed(
            stub.client().encrypt_stream("orders", io::empty(), Vec::new()).await,
            ErrorKind::UnexpectedResponse,
        );
        assert!(error.what_to_do().is_some(), "{error}");
    }
}

fn vectors(kind: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/files").join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()));
    named.map(|(name, text)| (name, serde_json::from_slice(&text).unwrap())).collect()
}

/// As if the gateway had unwrapped the file's data key.
async fn open(file: Vec<u8>, k: &Value) -> Result<Vec<u8>, Error> {
    let key = STANDARD.encode(hex::decode(k.as_str().unwrap()).unwrap());
    let stub = Stub::new(vec![object(&unwrapped(&key))]).await;
    stub.client().decrypt_stream(io::Cursor::new(file), Vec::new()).await
}

/// Those of the format, which every other client writes.
#[tokio::test]
async fn the_vectors_open_or_are_refused_for_their_reason() {
    let good = vectors("good");
    let file = |vector: &Value| STANDARD.decode(vector["file"].as_str().unwrap()).unwrap();
    assert!(good.len() >= 6);
    for (name, vector) in &good {
        let opened = open(file(vector), &vector["k"]).await.unwrap();
        assert_eq!(Some(opened.len() as u64), vector["plaintext_length"].as_u64(), "{name}");
    }
    let bad = vectors("bad");
    assert!(bad.len() >= 59);
    for (name, vector) in &bad {
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let pieces = vector["pieces"].as_array().unwrap().iter().map(|piece| match piece["of"].as_str() {
            Some(of) => file(&good[of])[number(&piece["from"])..number(&piece["to"])].to_vec(),
            None => hex::decode(piece["hex"].as_str().unwrap()).unwrap(),
        });
        let error = failed(open(pieces.collect::<Vec<_>>().concat(), &vector["k"]).await, ErrorKind::File);
        assert_eq!(Some(error.code().as_str()), vector["error"].as_str(), "{name}: {error}");
        assert!(error.what_to_do().is_some(), "{name}");
    }
}

/// 256 MiB through a pipe, from the writer into the reader. The address space of the test is not limited, so the most
/// memory that it ever had is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_need_constant_memory() {
    const LENGTH: u64 = 256 << 20;
    let acme = Acme::start().await;
    let client = acme.client();
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let before = peak();
    let (reader, writer) = io::pipe().unwrap();
    let request = client.encrypt_stream("orders", io::repeat(7).take(LENGTH), writer);
    // The pipe ends when the writer is dropped.
    let encrypted = tokio::spawn(async move { request.await.map(drop) });
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let counted = client.decrypt_stream(reader, Count(0)).await.unwrap();
    encrypted.await.unwrap().unwrap();
    assert_eq!(counted.0, LENGTH);
    // The other tests of this program run beside it, and take less than this, too.
    let grown = peak() - before;
    assert!(grown < LENGTH / 2, "{grown} bytes for a file of {LENGTH}");
}
