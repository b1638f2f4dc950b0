//! A listener on a Unix socket.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use claviger::listener::{Drained, Listener};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::setup::{PATIENCE, app, limits, read_to_close};

#[tokio::test]
async fn it_serves_the_processes_of_its_user_and_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let running = Listener::bind_unix(&path, limits()).await.unwrap().serve(app());
    assert_eq!(running.local_addr(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_close(&mut stream).await;
    let user = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert!(answer.contains(&format!("{user} false HTTP/1.1")), "{answer}");

    assert_eq!(running.drain(PATIENCE).await, Drained::Complete);
    assert!(!path.exists(), "the file goes with the listener");
}

#[tokio::test]
async fn it_takes_the_place_of_a_dead_listener_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    // Dropping the standard library's listener leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let living = Listener::bind_unix(&path, limits()).await.unwrap().serve(app());
    let second = Listener::bind_unix(&path, limits()).await;
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    drop(living);

    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    assert!(Listener::bind_unix(&file, limits()).await.is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
