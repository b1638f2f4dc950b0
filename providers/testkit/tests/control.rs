//! The control port, as tests in another process use it.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{OpContext, Provider, TenantId};
use claviger_testkit::control::{Client, Request, serve};
use claviger_testkit::{FakeConfig, FakeProvider, FakeServer, Fault, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn probe(provider: &FakeProvider) -> bool {
    let cx = OpContext::for_system("test", TenantId::random(), Duration::from_secs(30));
    provider.probe(&cx, &[]).await.is_ok()
}

#[tokio::test]
async fn faults_are_planned_and_the_journal_read_from_outside() {
    let server = FakeServer::new();
    let provider = FakeProvider::new(Arc::clone(&server), FakeConfig::default());
    let control = serve(loopback(), Arc::clone(&server)).await.unwrap();
    let mut client = Client::connect(control.address()).await.unwrap();

    let plan = Plan {
        op: Some("probe".into()),
        fault: Fault::Denied,
        times: Some(NonZeroU32::MIN),
    };
    client.tell(&Request::Plan(plan)).await.unwrap();
    assert_eq!((probe(&provider).await, probe(&provider).await), (false, true));
    let journal = client.journal().await.unwrap();
    assert_eq!((journal.of("probe"), journal.struck), (2, 1));
    client.tell(&Request::ResetJournal).await.unwrap();
    assert_eq!(client.journal().await.unwrap().total(), 0);

    client.tell(&Request::MakeKey { id: "theirs".into() }).await.unwrap();
    let disable = Request::ChangeState {
        id: "theirs".into(),
        enabled: false,
    };
    client.tell(&disable).await.unwrap();
    client.tell(&Request::RotateKey { id: "theirs".into() }).await.unwrap();
    client.tell(&Request::RemoveKey { id: "theirs".into() }).await.unwrap();
    let refused = client.tell(&disable).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.to_string()),
        (ErrorKind::InvalidInput, "no such key".into())
    );
}

#[tokio::test]
async fn a_connection_can_be_for_a_named_server() {
    let server = FakeServer::new();
    let [first, named] = [Arc::clone(&server), server.named("a")].map(|server| FakeProvider::new(server, FakeConfig::default()));
    let control = serve(loopback(), server).await.unwrap();
    let mut client = Client::connect(control.address()).await.unwrap();
    client.tell(&Request::Server { name: "a".into() }).await.unwrap();
    let plan = Plan {
        op: None,
        fault: Fault::Denied,
        times: None,
    };
    client.tell(&Request::Plan(plan)).await.unwrap();
    assert_eq!((probe(&first).await, probe(&named).await), (true, false));
    assert_eq!(client.journal().await.unwrap().of("probe"), 1);
    let mut other = Client::connect(control.address()).await.unwrap();
    let journal = other.journal().await.unwrap();
    assert_eq!((journal.of("probe"), journal.struck), (1, 0));
}

#[tokio::test]
async fn the_wire_is_what_the_documentation_says() {
    let server = FakeServer::new();
    let control = serve(loopback(), Arc::clone(&server)).await.unwrap();
    let mut stream = TcpStream::connect(control.address()).await.unwrap();
    let lines: [&[u8]; 4] = [
        b"{\"do\": \"plan\", \"op\": \"unwrap_key\", \"fault\": {\"kind\": \"hang\"}, \"times\": 2}\n",
        b"{\"do\": \"plan\", \"fault\": {\"kind\": \"throttled\", \"retry_after_ms\": 10}}\n",
        b"{\"do\": \"plan\", \"fault\": {\"kind\": \"explodes\"}}\n",
        b"{\"do\": \"clear\"}\n",
    ];
    for line in lines {
        stream.write_all(line).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut responses = String::new();
    stream.read_to_string(&mut responses).await.unwrap();
    let ok: Vec<_> = responses.lines().map(|line| line.starts_with("{\"ok\":true")).collect();
    assert_eq!(ok, [true, true, false, true], "{responses}");
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let control = serve(loopback(), FakeServer::new()).await.unwrap();
    let mut stream = TcpStream::connect(control.address()).await.unwrap();
    // The server may close the connection before everything is written.
    let _sent = stream.write_all(&vec![b' '; 1 << 20]).await;
    let mut response = Vec::new();
    let _ended = stream.read_to_end(&mut response).await;
    assert!(response.is_empty());
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let error = serve(SocketAddr::from(([0, 0, 0, 0], 0)), FakeServer::new()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
