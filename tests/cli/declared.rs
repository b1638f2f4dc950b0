//! Tenants, connections and keys that the configuration declares.

use std::path::PathBuf;

use claviger_test_support::{Gateway, Started, Tune, records, text_of, token};
use serde_json::{Value, json};

pub const DECLARED: &str = r#"
[[tenants]]
name = "acme"
id = "00112233445566778899aabbccddeeff"
[[tenants]]
name = "globex"

[[connections]]
tenants = ["acme", "globex"]
name = "embedded"
provider = "local"

[[keys]]
tenant = "acme"
name = "orders"
connection = "embedded"
id = "0123456789abcdef0123456789abcdef"
"#;

pub struct Bench {
    pub gateway: Gateway,
    file: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        let gateway = Gateway::new(crate::BINARY);
        let file = gateway.token_file().with_extension("toml");
        Self { gateway, file }
    }

    pub fn tune(&self, text: &str) -> Tune {
        std::fs::write(&self.file, text).unwrap();
        let arguments = vec!["--config".to_owned(), self.file.to_str().unwrap().to_owned()];
        Tune {
            arguments,
            ..Tune::default()
        }
    }

    pub fn serve(&self, text: &str) -> Started {
        self.gateway.serve(&self.tune(text))
    }

    /// What a start that must be refused says.
    fn refused(&self, text: &str) -> String {
        match self.gateway.try_serve(&self.tune(text)) {
            Ok(_) => panic!("it started"),
            Err(log) => log,
        }
    }
}

/// Declared keys are made beside the serving.
pub async fn key(started: &Started, name: &str) -> Value {
    let client = started.tenant("acme");
    for _ in 0..1000 {
        let answer = client.get(&format!("/v1/keys/{name}")).await;
        if answer.status == 200 {
            return answer.expect_status(200);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the key {name} is not made:\n{}", started.output());
}

#[tokio::test]
async fn what_is_missing_is_made_once_and_recorded() {
    let bench = Bench::new();
    let started = bench.serve(DECLARED);
    let made = key(&started, "orders").await;
    assert_eq!(made["id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(
        (made["managed_by"].as_str(), made["tenant"].as_str()),
        (Some("config"), Some("00112233445566778899aabbccddeeff"))
    );
    for tenant in ["acme", "globex"] {
        let connection = started.tenant(tenant).get("/v1/connections/embedded").await.expect_status(200);
        assert_eq!(connection["managed_by"], "config");
    }
    let wrapped = started
        .tenant("acme")
        .post("/v1/keys/orders/data-keys", &json!({}))
        .await
        .expect_status(200);
    assert!(started.terminate());
    let by_start = |record: &&Value| record["authn"] == "configuration" && record["kind"] == "outcome";
    let before = records(&bench.gateway.data());
    let made: Vec<&str> = before
        .iter()
        .filter(by_start)
        .map(|record| record["operation"].as_str().unwrap())
        .collect();
    assert_eq!(
        made,
        [
            "ManageTenants",
            "ManageTenants",
            "CreateConnection",
            "CreateConnection",
            "CreateKey"
        ]
    );

    let started = bench.serve(DECLARED);
    let body = json!({"wrapped": wrapped["wrapped"]});
    started.tenant("acme").post("/v1/unwrap", &body).await.expect_status(200);
    assert!(started.terminate());
    let after = records(&bench.gateway.data());
    assert_eq!(after.iter().filter(by_start).count(), made.len(), "nothing was made twice");
}

#[tokio::test]
async fn a_state_is_never_changed_and_the_api_leaves_the_rest_alone() {
    let bench = Bench::new();
    let started = bench.serve(DECLARED);
    key(&started, "orders").await;
    let client = started.tenant("acme");
    let move_it = json!({"spec": "rsa-3072"});
    client
        .post("/v1/keys/orders/rotate", &move_it)
        .await
        .expect_problem(409, "managed_by_config");
    for path in ["/v1/keys/orders", "/v1/connections/embedded"] {
        client.delete(path).await.expect_problem(409, "managed_by_config");
    }
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    started
        .tenant("globex")
        .post_empty("/v1/connections/embedded/sever")
        .await
        .expect_status(200);
    assert!(started.terminate());

    let started = bench.serve(DECLARED);
    assert_eq!(key(&started, "orders").await["state"], "disabled");
    let connection = started.tenant("globex").get("/v1/connections/embedded").await.expect_status(200);
    assert_eq!(connection["state"], "severed");
}

#[tokio::test]
async fn what_differs_is_told_and_left_alone() {
    let bench = Bench::new();
    let started = bench.serve(DECLARED);
    key(&started, "orders").await;
    started
        .tenant("globex")
        .post("/v1/keys", &json!({"name": "own", "connection": "embedded"}))
        .await
        .expect_status(201);
    assert!(started.terminate());

    let other = DECLARED.replace("id = \"0123456789abcdef0123456789abcdef\"", "spec = \"rsa-3072\"")
        + "[[keys]]\ntenant = \"globex\"\nname = \"own\"\nconnection = \"embedded\"\n";
    let started = bench.serve(&other);
    let mut text = String::new();
    for _ in 0..1000 {
        text = started.operator().get("/metrics").await.text;
        if text.contains("claviger_declared_drift 2") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(text.contains("claviger_declared_drift 2"), "{text}");
    let said = started.output();
    assert!(
        said.contains("\"differs_in\":\"spec\"") && said.contains("created over the API"),
        "{said}"
    );
    assert_eq!(key(&started, "orders").await["spec"], "aes-256");
}

#[test]
fn what_cannot_be_made_is_told_before_anything_is_served() {
    let bench = Bench::new();
    let connection = |tenant: &str, settings: &str| {
        format!("[[connections]]\ntenants = [\"{tenant}\"]\nname = \"kms\"\nprovider = \"local\"\nsettings = {settings}\n")
    };
    let said = bench.refused(&connection("nobody", "{}"));
    assert!(said.contains("`kms`") && said.contains("[[tenants]]"), "{said}");
    let tenant = "[[tenants]]\nname = \"acme\"\n";
    let secret = bench.file.with_extension("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let said = bench.refused(&format!(
        "{tenant}{}",
        connection("acme", &format!("{{ surprise = {{ file = {secret:?} }} }}"))
    ));
    assert!(said.contains("/settings") && !said.contains("hunter2"), "{said}");
    // A secret file that is missing, for a tenant that is not declared either.
    let said = bench.refused(&connection("nobody", "{ surprise = { file = \"absent\" } }"));
    assert!(said.contains("[[tenants]]"), "{said}");
}

/// A connection of `acme` whose token is in a file, beside one of `globex` that needs none.
fn with_secret_file(secret: &std::path::Path) -> String {
    format!(
        "[[tenants]]\nname = \"acme\"\n[[tenants]]\nname = \"globex\"\n\
         [[connections]]\ntenants = [\"acme\"]\nname = \"bao\"\nprovider = \"vault\"\n\
         settings = {{ address = \"http://127.0.0.1:1\", auth = {{ token = {{ file = {secret:?} }} }} }}\n\
         [[connections]]\ntenants = [\"globex\"]\nname = \"embedded\"\nprovider = \"local\"\n\
         [[keys]]\ntenant = \"globex\"\nname = \"orders\"\nconnection = \"embedded\"\n\
         [egress]\nallow = [\"127.0.0.0/8\"]\nallow_plain_http = true\n"
    )
}

async fn part(started: &Started, name: &str) -> Option<Value> {
    let ready = started.operator().get("/readyz").await.expect_status(200);
    assert_eq!(ready["ready"], true, "{ready}");
    let parts = ready["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).cloned()
}

#[tokio::test]
async fn a_missing_secret_file_of_one_tenant_stops_nobody_else_and_heals() {
    let bench = Bench::new();
    let secret = bench.file.with_extension("secret");
    let started = bench.serve(&with_secret_file(&secret));
    let (acme, globex) = (started.tenant("acme"), started.tenant("globex"));
    for _ in 0..1000 {
        if globex.get("/v1/keys/orders").await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    globex.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);

    // It is told where it is looked for, with what to do; the path only in the operator's log.
    let told = part(&started, "declared_connections").await.unwrap();
    assert!(told["state"].as_str().unwrap().starts_with("1 lack a usable secret file"), "{told}");
    assert!(
        !told.to_string().contains("secret\"") && !told.to_string().contains("acme"),
        "{told}"
    );
    let log = started.output();
    assert!(
        log.contains("lacks a usable secret file") && log.contains(secret.to_str().unwrap()),
        "{log}"
    );
    let key = json!({"name": "orders", "connection": "bao"});
    let issued = token(&acme, "own", &["ReadConnection", "CheckConnection", "CreateKey"], None).await;
    // The operator reads which file it is, and the tenant does not.
    for (client, is_named) in [(&acme, true), (&acme.with_token(text_of(&issued)), false)] {
        for answer in [
            client.get("/v1/connections/bao").await,
            client.post_empty("/v1/connections/bao/check").await,
            client.post("/v1/keys", &key).await,
        ] {
            let problem = answer.expect_problem(424, "connection_misconfigured");
            assert!(problem["what_to_do"].as_str().unwrap().contains("operator"), "{problem}");
            assert_eq!(problem.to_string().contains(secret.to_str().unwrap()), is_named, "{problem}");
        }
    }
    let (code, said) = command(&bench, &started, &["--tenant", "acme", "connections", "get", "bao"]);
    assert!(code == 1 && said.contains("what to do"), "{said}");
    let (code, said) = command(&bench, &started, &["plan"]);
    assert!(code == 1 && said.contains("connection acme/bao: failed"), "{said}");
    // Who may not read connections learns nothing of it.
    started
        .tenant("globex")
        .get("/v1/connections/bao")
        .await
        .expect_problem(404, "not_found");

    std::fs::write(&secret, "s.token\n").unwrap();
    let healed = async {
        while acme.get("/v1/connections/bao").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), healed)
        .await
        .expect("the connection is made");
    let made = acme.get("/v1/connections/bao").await.expect_status(200);
    assert_eq!((&made["problem"], &made["managed_by"]), (&Value::Null, &json!("config")));
    assert_eq!(part(&started, "declared_connections").await, None);
    assert!(started.terminate());

    // Later it works with the secret that was read before, and says so.
    std::fs::remove_file(&secret).unwrap();
    let started = bench.serve(&with_secret_file(&secret));
    let acme = started.tenant("acme");
    let shown = acme.get("/v1/connections/bao").await.expect_status(200);
    assert_eq!(shown["problem"]["code"], "connection_misconfigured", "{shown}");
    assert!(shown["problem"]["what_to_do"].as_str().unwrap().contains("operator"), "{shown}");
    // Nobody listens at its address: the secret is there.
    acme.post("/v1/keys", &key).await.expect_problem(503, "provider_unavailable");
    std::fs::write(&secret, "s.token\n").unwrap();
    let (code, said) = command(&bench, &started, &["apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(acme.get("/v1/connections/bao").await.expect_status(200)["problem"], Value::Null);
}

/// A command of ours with the operator's token: how it ended, and all that it wrote.
pub fn command(bench: &Bench, started: &Started, arguments: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(crate::BINARY);
    command
        .env_clear()
        .env("CLAVIGER_ADDRESS", format!("http://{}", started.address()))
        .env("CLAVIGER_TOKEN_FILE", bench.gateway.token_file())
        .args(arguments);
    let ended = crate::support::ended(&mut command, b"");
    (ended.code, ended.text() + &ended.err)
}

#[tokio::test]
async fn what_is_declared_later_is_planned_and_applied_without_a_restart() {
    let bench = Bench::new();
    let started = bench.serve("[[tenants]]\nname = \"acme\"\n");
    assert_eq!(command(&bench, &started, &["plan"]), (0, "1 as declared\n".to_owned()));

    // The gateway reads the file anew.
    bench.tune(DECLARED);
    let planned = "! tenant acme: differs (id)\n+ tenant globex: missing\n+ connection acme/embedded: missing\n\
                   + connection globex/embedded: missing\n+ key acme/orders: missing\n0 as declared\n";
    assert_eq!(command(&bench, &started, &["plan"]), (0, planned.to_owned()));
    let before = records(&bench.gateway.data());
    let one = started.operator().post_empty("/v1/declared/plan").await.expect_status(200);
    assert_eq!(one["steps"].as_array().unwrap().len(), 5, "a plan changes nothing: {one}");
    let after = records(&bench.gateway.data());
    let planned: Vec<_> = after[before.len()..].iter().map(|record| &record["operation"]).collect();
    assert_eq!(planned, ["ManageTenants"], "it is one act of the operator's");

    assert_eq!(command(&bench, &started, &["apply"]), (0, planned_as_made()));
    assert_eq!(key(&started, "orders").await["managed_by"], "config");
    let done = "! tenant acme: differs (id)\n4 as declared\n";
    assert_eq!(command(&bench, &started, &["apply"]), (0, done.to_owned()));

    // Neither touches a state.
    let client = started.tenant("acme");
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    client.post_empty("/v1/connections/embedded/sever").await.expect_status(200);
    assert_eq!(command(&bench, &started, &["apply"]), (0, done.to_owned()));
    assert_eq!(client.get("/v1/keys/orders").await.expect_status(200)["state"], "disabled");

    // What fails is told by itself, and the rest is done.
    bench.tune(&format!(
        "{DECLARED}[[keys]]\ntenant = \"acme\"\nname = \"lost\"\nconnection = \"nowhere\"\n\
         [[keys]]\ntenant = \"globex\"\nname = \"late\"\nconnection = \"embedded\"\n"
    ));
    let (code, said) = command(&bench, &started, &["apply"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("! key acme/lost: failed (not_found:") && said.contains("+ key globex/late: made"),
        "{said}"
    );

    // A file that cannot be used changes nothing; its mistakes are told, its values are not.
    bench.tune(&format!("{DECLARED}hunter2 = \"hunter2\"\n"));
    let (code, said) = command(&bench, &started, &["apply"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("check-config") && !said.contains("\"hunter2\""), "{said}");
    bench.tune(DECLARED);
    client.post("/v1/principals", &json!({"name": "ci"})).await.expect_status(201);
    let token = json!({"operations": ["CreateKey"]});
    let token = client.post("/v1/principals/ci/tokens", &token).await.expect_status(201);
    let theirs = started.operator().with_token(token["token"].as_str().unwrap());
    for act in ["plan", "apply"] {
        let refused = theirs.post_empty(&format!("/v1/declared/{act}")).await;
        refused.expect_problem(403, "permission_denied");
    }
}

#[tokio::test]
async fn a_suspended_tenant_s_keys_are_made_once_it_is_resumed() {
    let bench = Bench::new();
    let tenants = "[[tenants]]\nname = \"acme\"\nid = \"00112233445566778899aabbccddeeff\"\n";
    let started = bench.serve(tenants);
    let operator = started.operator();
    operator.post_empty("/v1/tenants/acme/suspend").await.expect_status(200);
    assert!(started.terminate());

    // The start makes none, and is no failure; neither does an apply, which says why.
    let started = bench.serve(DECLARED);
    let (operator, acme) = (started.operator(), started.tenant("acme"));
    let ran = async {
        loop {
            let ready = started.operator().get("/readyz").await.expect_status(200);
            let jobs = ready["jobs"].as_array().unwrap();
            let job = jobs.iter().find(|job| job["name"] == "declared_keys").unwrap().clone();
            if !job["last_run"].is_null() {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    assert_eq!(ran.await["failing"], false);
    acme.get("/v1/keys/orders").await.expect_problem(404, "not_found");
    let applied = operator.post_empty("/v1/declared/apply").await.expect_status(200);
    let step = &applied["steps"][0];
    assert_eq!((&step["kind"], &step["result"]), (&json!("key"), &json!("failed")), "{applied}");
    assert!(step["detail"].as_str().unwrap().contains("suspended"), "{applied}");
    acme.get("/v1/keys/orders").await.expect_problem(404, "not_found");

    operator.post_empty("/v1/tenants/acme/resume").await.expect_status(200);
    let applied = operator.post_empty("/v1/declared/apply").await.expect_status(200);
    assert_eq!(applied["steps"][0]["result"], "made", "{applied}");
    assert_eq!(key(&started, "orders").await["managed_by"], "config");
}

/// The steps of `DECLARED` after the tenant, carried out.
fn planned_as_made() -> String {
    "! tenant acme: differs (id)\n+ tenant globex: made\n+ connection acme/embedded: made\n+ connection globex/embedded: made\n\
     + key acme/orders: made\n0 as declared\n"
        .to_owned()
}

#[tokio::test]
async fn a_declared_key_comes_back_as_it_was_detached() {
    let bench = Bench::new();
    let started =
        bench.serve("[[tenants]]\nname = \"acme\"\n[[connections]]\ntenants = [\"acme\"]\nname = \"embedded\"\nprovider = \"local\"\n");
    let client = started.tenant("acme");
    let body = json!({"name": "orders", "connection": "embedded"});
    let made = client.post("/v1/keys", &body).await.expect_status(201);
    client.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    client.delete("/v1/keys/orders").await.expect_status(204);
    let (code, listed) = command(&bench, &started, &["--tenant", "acme", "keys", "list", "--state", "detached"]);
    let provider_key = made["provider_key"].as_str().unwrap();
    assert!(
        code == 0 && listed.contains(provider_key) && listed.contains("PROVIDER KEY"),
        "{listed}"
    );

    bench.tune(&format!(
        "[[tenants]]\nname = \"acme\"\n[[connections]]\ntenants = [\"acme\"]\nname = \"embedded\"\nprovider = \"local\"\n\
         [[keys]]\ntenant = \"acme\"\nname = \"declared\"\nconnection = \"embedded\"\nprovider_key = \"{provider_key}\"\n"
    ));
    let (code, said) = command(&bench, &started, &["apply"]);
    assert!(code == 0 && said.contains("+ key acme/declared: made"), "{said}");
    let back = key(&started, "declared").await;
    assert_eq!((&back["id"], &back["state"]), (&made["id"], &json!("disabled")));
}

#[test]
fn a_key_with_a_misspelt_connection_is_told_which_is_missing() {
    let bench = Bench::new();
    let started = bench.serve("");
    bench.tune(&DECLARED.replace("connection = \"embedded\"", "connection = \"embeded\""));
    for verb in ["plan", "apply"] {
        let (code, said) = command(&bench, &started, &[verb]);
        assert_eq!(code, 1, "{said}");
        let line = said.lines().find(|line| line.contains("key acme/orders")).unwrap();
        assert!(
            line.contains("has no connection `embeded`") && line.contains("[[connections]]"),
            "{said}"
        );
        assert!(!said.contains("tenant does not exist"), "{said}");
    }
}
