//! A wrapped key is opened without us, by the provider's own command line, exactly as
//! `claviger inspect` prints.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::Tune;
use serde_json::{Value, json};

use crate::openbao::Server;
use crate::world::{World, folder_of, good, variable};
use crate::{Boxed, Case};

/// One provider's way out. Another provider is another row.
struct Way {
    name: &'static str,
    provider: &'static str,
    needs: &'static [&'static str],
    settings: fn() -> Value,
    /// What the gateway needs to be led there.
    tune: fn() -> Tune,
    /// Whether its keys can be rotated there.
    rotates: bool,
    /// Whether another installation may adopt the key as it is, without a proof of ownership that
    /// the stand-in for the provider cannot give.
    elsewhere: bool,
    /// The specifications of keys to leave from.
    specs: &'static [&'static str],
    /// Where the provider's tool is, under which name, and how its user is logged in.
    tool: fn() -> Tool,
}

struct Tool {
    /// The program, and its name in what is printed; none where the tool is a package of Python's.
    program: Option<(PathBuf, &'static str)>,
    login: Vec<(&'static str, String)>,
}

/// A Python with the package `cryptography`.
const PYTHON: &str = "CLAVIGER_TEST_PYTHON";

const WAYS: &[Way] = &[
    Way {
        name: "openbao",
        provider: "vault",
        needs: &[
            "CLAVIGER_TEST_OPENBAO_ADDRESS",
            "CLAVIGER_TEST_OPENBAO_TOKEN",
            "CLAVIGER_TEST_OPENBAO_CLI",
            PYTHON,
        ],
        settings: || Server::Dev.settings(&json!({"token": Server::Dev.token()})),
        tune: Tune::default,
        rotates: true,
        elsewhere: true,
        specs: &["aes-256", "rsa-3072"],
        tool: || bao("CLAVIGER_TEST_OPENBAO_CLI", Server::Dev),
    },
    Way {
        name: "openbao-tls",
        provider: "vault",
        needs: &[
            "CLAVIGER_TEST_OPENBAO_TLS_ADDRESS",
            "CLAVIGER_TEST_OPENBAO_TLS_TOKEN",
            "CLAVIGER_TEST_OPENBAO_TLS_CLI",
            "CLAVIGER_TEST_OPENBAO_TLS_FOLDER",
            PYTHON,
        ],
        settings: || Server::Tls.settings(&json!({"token": Server::Tls.token()})),
        tune: Tune::default,
        rotates: true,
        elsewhere: true,
        specs: &["aes-256"],
        tool: || bao("CLAVIGER_TEST_OPENBAO_TLS_CLI", Server::Tls),
    },
    Way {
        name: "moto",
        provider: "aws",
        needs: &["CLAVIGER_TEST_MOTO_ADDRESS", AWSCLI, PYTHON],
        settings: aws_settings,
        tune: || aws_tune("CLAVIGER_TEST_MOTO_ADDRESS"),
        rotates: true,
        elsewhere: false,
        // Its RSA encryption is none.
        specs: &["aes-256"],
        tool: || aws("CLAVIGER_TEST_MOTO_ADDRESS"),
    },
    Way {
        name: "localstack",
        provider: "aws",
        needs: &["CLAVIGER_TEST_LOCALSTACK_ADDRESS", AWSCLI, PYTHON],
        settings: aws_settings,
        tune: || aws_tune("CLAVIGER_TEST_LOCALSTACK_ADDRESS"),
        // It lists no rotations, so none can be told.
        rotates: false,
        elsewhere: false,
        specs: &["aes-256", "rsa-3072"],
        tool: || aws("CLAVIGER_TEST_LOCALSTACK_ADDRESS"),
    },
    Way {
        name: "azure-vault",
        provider: "azure",
        needs: AZURE_NEEDS,
        settings: || azure_settings(&variable(AZURE), None),
        tune: azure_tune,
        rotates: true,
        elsewhere: false,
        specs: &["rsa-3072"],
        tool: azure,
    },
    Way {
        name: "azure-hsm",
        provider: "azure",
        needs: AZURE_NEEDS,
        settings: || azure_settings(&azure_hsm(), None),
        tune: azure_tune,
        rotates: true,
        elsewhere: false,
        specs: &["aes-256", "rsa-3072"],
        tool: azure,
    },
    Way {
        name: "azure-hsm-gcm",
        provider: "azure",
        needs: AZURE_NEEDS,
        settings: || azure_settings(&azure_hsm(), Some("A256GCM")),
        tune: azure_tune,
        rotates: true,
        elsewhere: false,
        specs: &["aes-256"],
        tool: azure,
    },
    Way {
        name: "fake-google",
        provider: "gcp",
        needs: &[GOOGLE, GOOGLE_PYTHON, PYTHON],
        settings: google_settings,
        tune: google_tune,
        rotates: true,
        elsewhere: true,
        specs: &["aes-256", "rsa-3072"],
        tool: google,
    },
];

/// The fake of Google, and a Python with Google's own client.
const GOOGLE: &str = "CLAVIGER_TEST_FAKE_GOOGLE_ADDRESS";
const GOOGLE_PYTHON: &str = "CLAVIGER_TEST_GOOGLE_PYTHON";

/// A key ring that the fake's user makes: it lives as long as the fake.
fn google_settings() -> Value {
    static RING: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let ring = RING.get_or_init(|| {
        let name = format!("leaving-{}", std::process::id());
        let place = "projects/claviger-test/locations/europe-west3/keyRings";
        let mut command = Command::new("curl");
        command.args([
            "-sf",
            "--noproxy",
            "*",
            "-X",
            "POST",
            "-d",
            "{}",
            "-H",
            "Authorization: Bearer owner",
        ]);
        command.arg(format!("{}/v1/{place}?keyRingId={name}", variable(GOOGLE)));
        good(command, "");
        format!("{place}/{name}")
    });
    json!({"key_ring": ring, "auth": {"token": "ya29.of-nobody"}})
}

fn google_tune() -> Tune {
    Tune::default()
        .set("CLAVIGER_PROVIDERS__GCP__KMS_ENDPOINT", variable(GOOGLE))
        // The fake draws each RSA key when it is asked, which takes seconds on a busy machine.
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "10s")
}

/// Google's client finds its user's credentials where it always does: in the file that a variable
/// names. It signs its own tokens with the key in there.
fn google() -> Tool {
    static FILE: std::sync::OnceLock<(tempfile::TempDir, String)> = std::sync::OnceLock::new();
    let (_, file) = FILE.get_or_init(|| {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let account = json!({
            "type": "service_account", "project_id": "claviger-test", "private_key_id": "1", "private_key": key.serialize_pem(),
            "client_email": "user@claviger-test.iam.gserviceaccount.com", "token_uri": format!("{}/token", variable(GOOGLE)),
        });
        std::fs::write(&path, account.to_string()).unwrap();
        let shown = path.to_str().unwrap().to_owned();
        (folder, shown)
    });
    Tool {
        program: None,
        login: vec![
            ("PYTHONPATH", packages(GOOGLE_PYTHON)),
            ("GOOGLE_APPLICATION_CREDENTIALS", file.clone()),
        ],
    }
}

/// The packages of a Python, for another one of the same version.
fn packages(python: &str) -> String {
    let mut command = Command::new(variable(python));
    command.args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')"]);
    good(command, "")
}

/// The fake of Azure, its authority's certificate, and a Python with Microsoft's client.
const AZURE: &str = "CLAVIGER_TEST_FAKE_AZURE_ADDRESS";
const AZURE_CA: &str = "CLAVIGER_TEST_FAKE_AZURE_CA";
const AZURE_PYTHON: &str = "CLAVIGER_TEST_AZURE_PYTHON";
const AZURE_NEEDS: &[&str] = &[AZURE, AZURE_CA, AZURE_PYTHON, PYTHON];
pub const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";
pub const APPLICATION: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

/// Its Managed HSM is the same port by another name.
fn azure_hsm() -> String {
    variable(AZURE).replace("127.0.0.1", "localhost")
}

fn azure_settings(vault: &str, aes_algorithm: Option<&str>) -> Value {
    let ca = std::fs::read_to_string(variable(AZURE_CA)).unwrap();
    let application = json!({"directory": DIRECTORY, "client_id": APPLICATION, "secret": "any"});
    let mut settings = json!({"vault": vault, "ca": ca, "auth": {"client_secret": application}});
    if let Some(word) = aes_algorithm {
        settings["aes_algorithm"] = json!(word);
    }
    settings
}

fn azure_tune() -> Tune {
    Tune::default()
        .set("CLAVIGER_PROVIDERS__AZURE__VAULTS", variable(AZURE))
        .set("CLAVIGER_PROVIDERS__AZURE__MANAGED_HSMS", azure_hsm())
        .set("CLAVIGER_PROVIDERS__AZURE__AUTHORITY", variable(AZURE))
        // The fake draws each RSA key when it is asked, which takes seconds on a busy machine.
        .set("CLAVIGER_PROVIDERS__ATTEMPT_TIMEOUT", "9s")
}

/// Microsoft's client as a package of the Python that runs what is printed, and its user logged in
/// by the variables that it reads.
fn azure() -> Tool {
    Tool {
        program: None,
        login: vec![
            ("PYTHONPATH", packages(AZURE_PYTHON)),
            ("AZURE_TENANT_ID", DIRECTORY.to_owned()),
            ("AZURE_CLIENT_ID", APPLICATION.to_owned()),
            ("AZURE_CLIENT_SECRET", "any".to_owned()),
            ("REQUESTS_CA_BUNDLE", variable(AZURE_CA)),
            ("NO_PROXY", "*".to_owned()),
        ],
    }
}

/// AWS's own command line.
const AWSCLI: &str = "CLAVIGER_TEST_AWSCLI";
/// Of nobody: the stand-ins look at no signature.
const ACCESS_KEY: [&str; 2] = ["AKIAIOSFODNN7EXAMPLE", "secret"];

/// Of nobody in one region.
pub fn aws_settings() -> Value {
    let key = json!({"access_key_id": ACCESS_KEY[0], "secret_access_key": ACCESS_KEY[1]});
    json!({"region": "eu-central-1", "auth": {"static": key}})
}

fn aws_tune(address: &'static str) -> Tune {
    let address = variable(address);
    Tune::default()
        .set("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", &address)
        .set("CLAVIGER_PROVIDERS__AWS__STS_ENDPOINT", &address)
}

/// The tool as its user has it, led to the stand-in by the one variable that AWS itself needs not.
fn aws(address: &'static str) -> Tool {
    Tool {
        program: Some((variable(AWSCLI).into(), "aws")),
        login: vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY[0].to_owned()),
            ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY[1].to_owned()),
            ("AWS_ENDPOINT_URL", variable(address)),
        ],
    }
}

fn bao(cli: &'static str, server: Server) -> Tool {
    Tool {
        program: Some((variable(cli).into(), "bao")),
        login: vec![("VAULT_TOKEN", server.token())],
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for way in WAYS {
        for spec in way.specs {
            for (form, run) in [
                ("a_data_key", data_key as fn(&'static Way, &'static str) -> Boxed),
                ("bytes_of_a_caller", bytes),
            ] {
                let name = format!("leaving::{}::{spec}::{form}", way.name);
                cases.push(Case::new(name, way.needs, move || run(way, spec)));
            }
        }
        if way.elsewhere {
            cases.push(Case::new(
                format!("leaving::{}::another_installation", way.name),
                way.needs,
                move || Box::pin(another_installation(way)),
            ));
        }
    }
    cases
}

const CONTEXT: [&str; 2] = ["--context", "table=it's $HOME; `id`"];

async fn world(way: &Way, spec: &str) -> World {
    let world = World::new((way.tune)()).await;
    world.connect(way.provider, &(way.settings)()).await;
    world.key("orders", json!({"spec": spec})).await;
    world
}

fn data_key(way: &'static Way, spec: &'static str) -> Boxed {
    Box::pin(async move {
        let world = world(way, spec).await;
        let blob = world.folder().join("blob");
        let plain = world.folder().join("plain");
        let (blob, plain) = (blob.to_str().unwrap(), plain.to_str().unwrap());
        let make = ["data-key", "orders", "--out", plain, "--wrapped-out", blob];
        world.claviger(&[&make[..], &CONTEXT].concat());
        if way.rotates {
            // An older version opens as well.
            world.claviger(&["keys", "rotate", "orders"]);
        }
        let opened = run_as_printed(&world, way, blob);
        assert_eq!(std::fs::read(opened.join("k")).unwrap(), std::fs::read(plain).unwrap());
    })
}

fn bytes(way: &'static Way, spec: &'static str) -> Boxed {
    Box::pin(async move {
        let world = world(way, spec).await;
        let body = json!({"plaintext": STANDARD.encode([0, 255, b'\'', b'\n']), "context": {"table": "it's $HOME; `id`"}});
        let made = world.client.post("/v1/keys/orders/wrap", &body).await.expect_status(200);
        let blob = world.folder().join("blob");
        std::fs::write(&blob, made["wrapped"].as_str().unwrap()).unwrap();
        let opened = run_as_printed(&world, way, blob.to_str().unwrap());
        assert_eq!(std::fs::read(opened.join("plaintext")).unwrap(), [0, 255, b'\'', b'\n']);
    })
}

/// Runs what `inspect` prints under its heading, in a folder of its own without a gateway: the folder.
fn run_as_printed(world: &World, way: &Way, blob: &str) -> PathBuf {
    let shown = world.claviger(&[&["inspect", "--in", blob][..], &CONTEXT].concat());
    let (_, rest) = shown.split_once("\nwithout Claviger\n").expect("a way out");
    let (script, _) = rest.split_once("\non another installation\n").expect("the other heading");
    let folder = world.folder().join("opened");
    let programs = world.folder().join("programs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(&programs).unwrap();
    let tool = (way.tool)();
    if let Some((program, name)) = &tool.program {
        std::os::unix::fs::symlink(program, programs.join(name)).unwrap();
    }
    let system = std::env::var("PATH").unwrap();
    let path = [&programs, &folder_of(PYTHON)].map(|folder| folder.to_str().unwrap().to_owned());
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env("PATH", format!("{}:{system}", path.join(":")))
        .env("HOME", world.folder())
        .envs(tool.login)
        .current_dir(&folder)
        .args(["-eu", "-s"]);
    good(command, script);
    folder
}

/// The commands for another installation, run on one.
async fn another_installation(way: &'static Way) {
    let spec = way.specs[0];
    let lost = world(way, spec).await;
    let made = lost
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": {"a": "b"}}))
        .await
        .expect_status(200);
    let body = json!({"wrapped": made["wrapped"]});
    let shown = lost.client.post("/v1/inspect", &body).await.expect_status(200);
    let lines: Vec<&str> = shown["on_another_installation"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    drop(lost);

    let gateway = claviger_test_support::Gateway::new(crate::BINARY);
    let started = gateway.serve(
        &(way.tune)()
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true"),
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("settings.json"), (way.settings)().to_string()).unwrap();
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env(
            "PATH",
            format!("{}:{}", folder_of_binary().display(), std::env::var("PATH").unwrap()),
        )
        .env("CLAVIGER_ADDRESS", format!("http://{}", started.address()))
        .env("CLAVIGER_TOKEN_FILE", gateway.token_file())
        .current_dir(folder.path())
        .args(["-eu", "-s"]);
    good(command, &lines.join("\n"));
    let opened = started
        .tenant(crate::world::TENANT)
        .post("/v1/unwrap", &json!({"wrapped": made["wrapped"], "context": {"a": "b"}}))
        .await
        .expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
}

fn folder_of_binary() -> PathBuf {
    std::path::Path::new(crate::BINARY).parent().unwrap().to_owned()
}
