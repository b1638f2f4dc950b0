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
    assert!(degraded(&started).await.unwrap().contains(" lack a usable secret file"));
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

/// A provider, the settings of a connection, of which some are in files whose names follow `%`, and their content.
type OfProvider = (&'static str, &'static str, Vec<(&'static str, String)>);

fn of_each_provider() -> Vec<OfProvider> {
    let issued = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    let text = |name, content: &str| vec![(name, content.to_owned())];
    vec![
        (
            "aws",
            "{ region = 'eu-central-1', auth = { static = { access_key_id = 'AKIAIOSFODNN7EXAMPLE', secret_access_key = %aws } } }",
            text("aws", "secret"),
        ),
        (
            "azure",
            "{ vault = 'https://acme.vault.azure.net/', auth = { client_secret = { directory = '11111111-2222-3333-4444-555555555555', \
             client_id = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee', secret = %azure } } }",
            text("azure", "secret"),
        ),
        (
            "gcp",
            "{ key_ring = 'projects/p/locations/global/keyRings/r', auth = { token = %gcp } }",
            text("gcp", "ya29.token"),
        ),
        (
            "vault",
            "{ address = 'http://127.0.0.1:1', auth = { approle = { role_id = 'gateway', secret_id = %vault } } }",
            text("vault", "secret"),
        ),
        (
            "xks",
            "{ address = 'https://127.0.0.1:1', region = 'eu-central-1', auth = { sigv4 = { access_key_id = 'CLAVIGERFAKEXKSPROXY', \
             secret_access_key = %xks } } }",
            text("xks", "FirstSecretOfTheFakeXksProxyOnlyForTests0123"),
        ),
        (
            "kmip",
            "{ address = '127.0.0.1:1', auth = { cert = { certificate = %certificate, key = %key } } }",
            vec![("certificate", issued.cert.pem()), ("key", issued.signing_key.serialize_pem())],
        ),
        (
            "pkcs11",
            "{ module = '/nowhere/module.so', token = { label = 'acme' }, pin = %pin }",
            text("pin", "31415926"),
        ),
    ]
}

/// What is missing at the start, for each provider; the others are served.
#[tokio::test]
async fn a_missing_file_is_told_of_each_provider_and_stops_nobody_else() {
    let bench = Bench::new();
    let file = |name: &str| bench.gateway.token_file().with_extension(format!("secret-{name}"));
    let (mut config, all) = (TENANTS.to_owned(), of_each_provider());
    for (provider, settings, files) in &all {
        let settings = files.iter().fold((*settings).to_owned(), |settings, (name, _)| {
            settings.replace(&format!("%{name}"), &format!("{{ file = {:?} }}", file(name)))
        });
        config +=
            &format!("[[connections]]\ntenants = [\"acme\"]\nname = \"{provider}\"\nprovider = \"{provider}\"\nsettings = {settings}\n");
    }
    let started = bench.serve(&config);
    let (acme, globex) = (started.tenant("acme"), started.tenant("globex"));
    let key = json!({"name": "orders", "connection": "embedded"});
    globex.post("/v1/keys", &key).await.expect_status(201);
    globex.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    assert!(degraded(&started).await.unwrap().contains(" lack a usable secret file"));
    let log = started.output();
    for (provider, _, files) in &all {
        let told = acme.get(&format!("/v1/connections/{provider}")).await;
        let problem = told.expect_problem(424, "connection_misconfigured");
        let missing = file(files[0].0);
        assert!(problem.to_string().contains(missing.to_str().unwrap()), "{provider}: {problem}");
        assert!(log.contains(missing.to_str().unwrap()), "{provider}: {log}");
    }

    for (name, content) in all.iter().flat_map(|(_, _, files)| files) {
        std::fs::write(file(name), content).unwrap();
    }
    for (provider, _, _) in &all {
        let healed = async {
            while acme.get(&format!("/v1/connections/{provider}")).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let healed = tokio::time::timeout(Duration::from_secs(30), healed).await;
        assert!(healed.is_ok(), "{provider}: {}", started.output());
        let made = acme.get(&format!("/v1/connections/{provider}")).await.expect_status(200);
        assert_eq!((&made["problem"], &made["managed_by"]), (&Value::Null, &json!("config")));
    }
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
