//! Secret files of declared connections that exist, and whose content cannot be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_test_support::Started;
use serde_json::{Value, json};

use super::declared::{Bench, command};

const TENANTS: &str = "[[tenants]]\nname = \"acme\"\n[[tenants]]\nname = \"globex\"\n\
                       [[connections]]\ntenants = [\"globex\"]\nname = \"embedded\"\nprovider = \"local\"\n\
                       [egress]\nallow = [\"127.0.0.0/8\"]\nallow_plain_http = true\n";

/// A connection of `acme` to a server that nobody runs.
fn connection(name: &str, auth: &str) -> String {
    let settings = format!("{{ address = \"http://127.0.0.1:1\", auth = {auth} }}");
    format!("[[connections]]\ntenants = [\"acme\"]\nname = \"{name}\"\nprovider = \"vault\"\nsettings = {settings}\n")
}

fn with_token(name: &str, file: &Path) -> String {
    connection(name, &format!("{{ token = {{ file = {file:?} }} }}"))
}

async fn degraded(started: &Started) -> Option<String> {
    let ready = started.operator().get("/readyz").await.expect_status(200);
    let parts = ready["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "declared_connections")?;
    Some(part["state"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn unusable_content_degrades_its_connection_alone_and_heals() {
    let bench = Bench::new();
    let contents: [&[u8]; 4] = [b"", b"\xff\xfe\n", b"two hunter2 words\n", b"{\"token\": \"hunter2\n"];
    let mut config = TENANTS.to_owned();
    let mut files: Vec<(String, PathBuf)> = contents
        .iter()
        .enumerate()
        .map(|(number, content)| {
            let (name, file) = (
                format!("bao-{number}"),
                bench.gateway.token_file().with_extension(format!("secret-{number}")),
            );
            std::fs::write(&file, content).unwrap();
            config += &with_token(&name, &file);
            (name, file)
        })
        .collect();
    // Nobody writes to it, so that a plain read would wait for ever.
    let pipe = bench.gateway.token_file().with_extension("secret-pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    config += &with_token("bao-pipe", &pipe);
    files.push(("bao-pipe".to_owned(), pipe));
    let started = bench.serve(&config);
    let (acme, globex) = (started.tenant("acme"), started.tenant("globex"));
    let key = json!({"name": "orders", "connection": "embedded"});
    globex.post("/v1/keys", &key).await.expect_status(201);
    assert!(degraded(&started).await.unwrap().starts_with("some lack a usable secret file"));
    let log = started.output();
    let (_, planned) = command(&bench, &started, &["plan"]);
    for (name, file) in &files {
        let file = file.to_str().unwrap();
        let told = acme.get(&format!("/v1/connections/{name}")).await;
        let problem = told.expect_problem(424, "connection_misconfigured");
        assert!(problem["what_to_do"].as_str().unwrap().contains("operator"), "{problem}");
        // The operator reads which file it is.
        assert!(problem.to_string().contains(file), "{problem}");
        assert!(log.contains(file), "{file} in {log}");
        assert!(
            planned.contains(&format!("acme/{name}: failed")) && planned.contains(file),
            "{planned}"
        );
    }
    assert!(!log.contains("hunter2") && !planned.contains("hunter2"), "{log}\n{planned}");

    for (_, file) in &files {
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, "s.token\n").unwrap();
    }
    let healed = async {
        while degraded(&started).await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), healed)
        .await
        .expect("the connections are made");
    for (name, _) in &files {
        let made = acme.get(&format!("/v1/connections/{name}")).await.expect_status(200);
        assert_eq!((&made["problem"], &made["managed_by"]), (&Value::Null, &json!("config")));
    }
    assert!(started.terminate());

    // One that exists works with what was read before.
    std::fs::write(&files[0].1, "two words\n").unwrap();
    let started = bench.serve(&config);
    let acme = started.tenant("acme");
    let shown = acme.get("/v1/connections/bao-0").await.expect_status(200);
    assert_eq!(shown["problem"]["code"], "connection_misconfigured", "{shown}");
    let key = json!({"name": "orders", "connection": "bao-0"});
    // Nobody listens at its address, so the stored secret was about to be used.
    acme.post("/v1/keys", &key).await.expect_problem(503, "provider_unavailable");
    std::fs::write(&files[0].1, "s.token\n").unwrap();
    let (code, said) = command(&bench, &started, &["apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(degraded(&started).await, None);
}

#[test]
fn a_mistake_of_the_configuration_beside_it_stops_the_start() {
    let bench = Bench::new();
    let file = bench.gateway.token_file().with_extension("secret");
    std::fs::write(&file, "two hunter2 words\n").unwrap();
    // The role's id is missing.
    let auth = format!("{{ approle = {{ secret_id = {{ file = {file:?} }} }} }}");
    let config = format!("{TENANTS}{}", connection("bao", &auth));
    let said = bench.gateway.try_serve(&bench.tune(&config)).err().expect("it must not start");
    assert!(said.contains("role_id") && !said.contains("hunter2"), "{said}");
}
