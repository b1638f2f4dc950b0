#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where an expectation fails")]

mod calls;
mod data;
mod failures;

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use clap::{CommandFactory, Parser};
use serde_json::Value;
use tempfile::TempDir;

use super::{Cli, Exit, Output, Terminal, dispatch};
use crate::client::Failure;

/// What the server got: method, path with query, headers that matter, body.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

type Answers = Arc<dyn Fn(&Seen) -> (u16, Value) + Send + Sync>;

/// A server that notes what it is asked and answers what the test says.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

async fn server(answers: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> Server {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(note)
        .with_state((Arc::clone(&seen), Arc::new(answers) as Answers));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { address, seen }
}

async fn note(State((seen, answers)): State<(Arc<Mutex<Vec<Seen>>>, Answers)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let header = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let one = Seen {
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers.iter().map(header).collect(),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    };
    let (status, body) = answers(&one);
    seen.lock().unwrap().push(one);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

impl Server {
    /// Runs a command line against the server.
    async fn run(&self, line: &[&str]) -> (Result<(), Failure>, String) {
        self.run_at(line, false).await
    }

    async fn run_at(&self, line: &[&str], is_terminal: bool) -> (Result<(), Failure>, String) {
        let cli = Cli::try_parse_from(["claviger", "--address", &self.address].iter().chain(line)).unwrap();
        let mut out = Vec::new();
        let mut terminal = Terminal {
            out: &mut out,
            is_terminal,
            output: cli.output,
        };
        let done = dispatch(cli.command, cli.connect, &mut terminal).await;
        (done, String::from_utf8(out).unwrap())
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().pop().unwrap()
    }
}

fn folder_with(name: &str, content: &[u8]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn the_commands_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_token_is_no_argument_and_what_was_tried_is_not_repeated() {
    for line in [
        &["claviger", "--token", "clv_secret", "keys", "list"][..],
        &["claviger", "keys", "list", "--token=clv_secret"],
    ] {
        let message = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(message.contains("--token") && !message.contains("clv_secret"), "{message}");
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused_before_anything_is_sent() {
    for line in [
        &["data-key", "k", "--bytes", "33"][..],
        &["data-key", "k", "--without-plaintext", "--out", "f"],
        &["keys", "create", "k"],
        &["keys", "create", "k", "--connection", "c", "--spec", "des"],
        &["keys", "create", "k", "--connection", "c", "--cache", "[1]"],
        &["keys", "list", "--limit", "0"],
        &["connections", "create", "c", "--provider", "other"],
        &["tokens", "create", "p", "--expires-in", "90d"],
        &["keys", "update", "k", "--allow-export", "perhaps"],
        &["tokens", "create", "p", "--expires-in", "90", "--operation", "Unwrap"],
        &["wrap", "k", "--context", "no-value"],
        &["keys", "list", "--timeout", "1.5s"],
    ] {
        assert!(Cli::try_parse_from(["claviger"].iter().chain(line)).is_err(), "{line:?}");
    }
}

#[tokio::test]
async fn check_config_says_what_it_read_and_what_is_wrong() {
    let server = Server {
        address: "http://127.0.0.1:1".to_owned(),
        seen: Arc::default(),
    };
    let (folder, good) = folder_with("good.toml", b"");
    let root_key = folder.path().join("root.key");
    crate::store::sealing::RootKey::generate_to_file(&root_key).unwrap();
    fs::write(&good, format!("storage.root_key.file = {root_key:?}")).unwrap();
    let (done, out) = server.run(&["check-config", "--config", &good]).await;
    done.unwrap();
    assert!(out.contains("listen         127.0.0.1:8420"), "{out}");
    let (_folder, bad) = folder_with("bad.toml", b"x = 1\ny = 2");
    let failure = server.run(&["check-config", "--config", &bad]).await.0.unwrap_err();
    assert_eq!(Exit::of(&failure), Exit::Usage);
    assert!(
        failure.to_string().contains("bad.toml:1:1:") && failure.to_string().contains("bad.toml:2:1:"),
        "{failure}"
    );
}

#[test]
fn output_is_a_table_unless_json_is_asked_for() {
    assert_eq!(Cli::try_parse_from(["claviger", "keys", "list"]).unwrap().output, Output::Table);
    assert_eq!(
        Cli::try_parse_from(["claviger", "keys", "list", "--output", "json"])
            .unwrap()
            .output,
        Output::Json
    );
}
