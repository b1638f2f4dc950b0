//! The command `dev`: runs a gateway on loopback and walks through its API once, as a client.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf, absolute};

use claviger_provider::Secret;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::env_file;
use super::init::{create_private, write_line};
use super::serve::{EndSignals, not_started};
use super::serving::DevArgs;
use super::terminal::{Terminal, cannot_write};
use crate::boot::{BootError, StartOptions, init, start};
use crate::client::{Call, Client, Failure, Problem, Settings, Token};
use crate::config::Config;
use crate::io_reason::IoReason;
use crate::store::sealing::RootKey;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::start_log;

/// Variable with the root key as text. Without it, `dev` creates a root key's file.
const ROOT_KEY: &str = "CLAVIGER_ROOT_KEY";
/// Tenant of the walk.
const TENANT: &str = "dev";

/// Starts the gateway, walks through its API, prints commands to copy, and serves until a signal.
/// With `--once` it ends after the walk.
pub(super) async fn run(args: &DevArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let variables = args.env_file.as_deref().map(env_file::open).transpose()?;
    let temporary = match args.data_dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("claviger-dev-")
                .tempdir()
                .map_err(|error| local("a folder", &error))?,
        ),
    };
    let folder = args
        .data_dir
        .clone()
        .or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned()))
        .unwrap_or_default();
    let config = configuration(&folder, args.port)?;
    start_log(&config.telemetry).map_err(|_| Failure::Local("the log was started twice".to_owned()))?;
    args.proxies.report();
    let metrics = Metrics::install().map_err(|_| Failure::Local("the metrics were started twice".to_owned()))?;

    let exists = folder.join("claviger.db").exists();
    let token = init(&config, options()?, exists).await.map_err(|error| not_started(&error))?;
    // Absolute: the commands to copy are run elsewhere.
    let token_file = absolute(folder.join("admin.token")).map_err(|error| local("the token's file", &error))?;
    // An older token has expired or expires soon.
    let _ = std::fs::remove_file(&token_file);
    write_line(&mut create_private(&token_file)?, &token).map_err(|error| local("the token's file", &error))?;

    let mut end = EndSignals::take()?;
    let serving = start(
        &config,
        StartOptions {
            dev: true,
            metrics: Some(metrics),
            ..options()?
        },
    )
    .await
    .map_err(|error| match error {
        BootError::Listen {
            address,
            kind: ErrorKind::AddrInUse,
        } => Failure::Local(format!(
            "{address} is in use: name another port with --port, or --port 0 for any free one"
        )),
        other => not_started(&other),
    })?;
    let address = serving.local_addr();
    if let Some(file) = variables {
        // Before the line that says that it serves.
        env_file::write(file, address, &token_file, TENANT)?;
    }
    say(
        terminal,
        &format!("claviger dev: serving on http://{address}, data in {}\n\n", folder.display()),
    )?;
    let walked = walk(terminal, address, &token).await;
    if walked.is_ok() && !args.once {
        say(terminal, &copyable(address, &token_file))?;
        end.wait().await;
    }
    serving.stop().await;
    walked
}

fn options() -> Result<StartOptions, Failure> {
    let root_key = match std::env::var(ROOT_KEY) {
        Ok(text) => Some(RootKey::from_text(&text).map_err(|error| Failure::Usage(error.to_string()))?),
        Err(_) => None,
    };
    Ok(StartOptions {
        root_key,
        ..StartOptions::default()
    })
}

/// The default configuration with this data folder and this loopback port, and readable logs.
fn configuration(folder: &Path, port: u16) -> Result<Config, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let path = |path: PathBuf| path.display().to_string();
    let given = [
        ("CLAVIGER_SERVER__LISTEN".to_owned(), listen.to_string()),
        ("CLAVIGER_STORAGE__DATA_DIR".to_owned(), path(folder.to_owned())),
        ("CLAVIGER_STORAGE__ROOT_KEY__FILE".to_owned(), path(folder.join("root.key"))),
        // For a key server in dev mode on this host.
        ("CLAVIGER_EGRESS__ALLOW".to_owned(), "127.0.0.0/8,::1".to_owned()),
        ("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP".to_owned(), "true".to_owned()),
        ("CLAVIGER_TELEMETRY__LOG_FORMAT".to_owned(), "human".to_owned()),
        (
            "CLAVIGER_TELEMETRY__LOG_LEVEL".to_owned(),
            std::env::var("CLAVIGER_TELEMETRY__LOG_LEVEL").unwrap_or_else(|_| "warn".to_owned()),
        ),
    ];
    Config::load(None, given.into_iter()).map_err(|errors| Failure::Usage(errors.to_string()))
}

/// Walks through the API and prints one line for each step.
async fn walk(terminal: &mut Terminal<'_>, address: SocketAddr, token: &Secret) -> Result<(), Failure> {
    let client = |tenant: Option<&str>| {
        let address = Url::parse(&format!("http://{address}")).map_err(|_| Failure::Local("the address is no URL".to_owned()))?;
        let token = Token::parse(token).map_err(|error| Failure::Local(error.to_string()))?;
        Client::new(Settings {
            address,
            token: Some(token),
            tenant: tenant.map(str::to_owned),
            justification: None,
            authorities: None,
            timeout: None,
            allow_plain_http: false,
        })
    };
    let operator = client(None)?;
    let gateway = client(Some(TENANT))?;
    // A permanent folder may have them from an earlier run.
    created(operator.send(post(&["tenants"], json!({"name": TENANT}))).await)?;
    created(
        gateway
            .send(post(
                &["connections"],
                json!({"name": "embedded", "provider": "local", "settings": {}}),
            ))
            .await,
    )?;
    let name = format!("walk-{}", claviger_provider::KeyId::random());
    let context = json!({"table": "orders"});

    let key = gateway
        .send(post(&["keys"], json!({"name": name, "connection": "embedded"})))
        .await?
        .body;
    step(terminal, "key", &format!("{name}, version {}", key["primary_version"]))?;

    let made = gateway
        .send(post(&["keys", &name, "data-keys"], json!({"context": context})))
        .await?
        .body;
    let (plaintext, wrapped) = (made["plaintext"].clone(), made["wrapped"].clone());
    let size = wrapped.as_str().map_or(0, str::len);
    step(
        terminal,
        "data key",
        &format!("32 bytes, wrapped in {size} characters, bound to {context}"),
    )?;

    let unwrap = || post(&["unwrap"], json!({"wrapped": wrapped, "context": context}));
    let opened = gateway.send(unwrap()).await?.body;
    ensure(
        opened["plaintext"] == plaintext && opened["cached"] == json!(false),
        "the provider returned another key",
    )?;
    step(terminal, "unwrap", "the provider opened it")?;
    let opened = gateway.send(unwrap()).await?.body;
    ensure(
        opened["plaintext"] == plaintext && opened["cached"] == json!(true),
        "the cache returned another key, or none",
    )?;
    step(terminal, "unwrap again", "from the cache")?;

    let rotated = gateway.send(Call::new(Method::POST, &["keys", &name, "rotate"])).await?.body;
    ensure(rotated["primary_version"] == json!(2), "rotate created no version 2")?;
    step(terminal, "rotate", "version 2 is now used to wrap")?;
    let old = gateway
        .send(post(&["keys", &name, "unwrap"], json!({"wrapped": wrapped, "context": context})))
        .await?
        .body;
    ensure(old["plaintext"] == plaintext, "the old wrapped key does not open after rotate")?;
    step(terminal, "unwrap old", "the key wrapped with version 1 still opens")?;

    let again = gateway
        .send(post(&["keys", &name, "rewrap"], json!({"wrapped": wrapped, "context": context})))
        .await?
        .body;
    ensure(
        again["changed"] == json!(true) && again["version"] == json!(2),
        "rewrap did not move the wrapped key to version 2",
    )?;
    let opened = gateway
        .send(post(&["unwrap"], json!({"wrapped": again["wrapped"], "context": context})))
        .await?
        .body;
    ensure(opened["plaintext"] == plaintext, "the rewrapped key opens to another data key")?;
    step(terminal, "rewrap", "now wrapped with version 2, the same data key")?;

    gateway.send(Call::new(Method::POST, &["keys", &name, "disable"])).await?;
    ensure(
        refused_as(gateway.send(unwrap()).await, "key_disabled"),
        "a disabled key still unwraps",
    )?;
    step(terminal, "disable", "unwrap is refused immediately, cache included")?;
    say(terminal, "\nAll steps passed.\n")
}

fn post(path: &[&str], body: Value) -> Call {
    Call::new(Method::POST, path).json(body)
}

/// Accepts that the object exists already.
fn created<T>(result: Result<T, Failure>) -> Result<(), Failure> {
    match result {
        Ok(_) => Ok(()),
        Err(Failure::Problem(problem)) if problem.code == "already_exists" => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn refused_as<T>(result: Result<T, Failure>, expected: &str) -> bool {
    matches!(result, Err(Failure::Problem(problem)) if matches!(problem.as_ref(), Problem { code, .. } if code == expected))
}

fn ensure(passed: bool, otherwise: &str) -> Result<(), Failure> {
    if passed {
        Ok(())
    } else {
        Err(Failure::Local(format!("the walk failed: {otherwise}")))
    }
}

fn step(terminal: &mut Terminal<'_>, name: &str, what: &str) -> Result<(), Failure> {
    say(terminal, &format!("  {name:<14}{what}\n"))
}

fn say(terminal: &mut Terminal<'_>, text: &str) -> Result<(), Failure> {
    terminal
        .out
        .write_all(text.as_bytes())
        .and_then(|()| terminal.out.flush())
        .map_err(|error| cannot_write(&error))
}

fn local(what: &str, error: &std::io::Error) -> Failure {
    Failure::Local(format!("{what} cannot be created ({})", IoReason(error.kind())))
}

/// Commands to copy. They read the token from its file, so that it is in no shell history.
fn copyable(address: SocketAddr, token_file: &Path) -> String {
    let file = token_file.display();
    let mut text = String::new();
    text.push_str("\nTo copy:\n");
    text.push_str(&format!(
        "  export CLAVIGER_ADDRESS=http://{address} CLAVIGER_TOKEN_FILE={file} CLAVIGER_TENANT=dev\n"
    ));
    text.push_str(&format!("  auth=\"Authorization: Bearer $(cat {file})\" at=http://{address}/v1\n"));
    text.push_str("  curl -sH \"$auth\" -H 'Claviger-Tenant: dev' -H 'Content-Type: application/json' $at/keys -d '{\"name\":\"orders\",\"connection\":\"embedded\"}'\n");
    text.push_str("  curl -sH \"$auth\" -H 'Claviger-Tenant: dev' -H 'Content-Type: application/json' $at/keys/orders/data-keys -d '{\"context\":{\"table\":\"orders\"}}'\n");
    text.push_str("  curl -sH \"$auth\" -H 'Claviger-Tenant: dev' -H 'Content-Type: application/json' $at/unwrap -d '{\"wrapped\":\"clv1...\",\"context\":{\"table\":\"orders\"}}'\n");
    text.push_str("  or, with these variables: claviger keys list\n");
    text.push_str(&format!("\nAPI documentation: http://{address}/docs. Press Ctrl-C to stop.\n"));
    text
}
