//! What the gateway adds to a call of a PKCS#11 module, and how its unwraps grow with the sessions. The token is one of
//! SoftHSM, which computes on the machine's own cores.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_test_support::softhsm::{PIN, configuration, declared, import};
use claviger_test_support::{Gateway, Started, text_of, token};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Plan;
use crate::certs::Certs;
use crate::drive::{Ask, Target};
use crate::report::{self, quantile};
use crate::scenarios::measure;
use crate::servers::headers;

/// The most that the gateway may add to the module's own call, at the median, in microseconds.
const ADDED: f64 = 300.0;
/// The part of the cores from which on more sessions cannot help.
const FULL: f64 = 0.9;
/// Connections that unwrap at once where sessions are compared.
const CONNECTIONS: usize = 16;
/// The bits of a tag of AES-GCM.
const TAG_BITS: u64 = 128;
/// The length of an initialization vector, in bytes.
const IV: usize = 12;

const ONE: &str = "1 session";
const MANY: &str = "8 sessions";
const EMBEDDED: &str = "embedded provider";

/// A gateway with a token of its own, and the targets that unwrap through it.
struct Tried {
    target: Target,
    /// With a key of the embedded provider: what the gateway takes without a helper.
    embedded: Target,
    folder: tempfile::TempDir,
    _gateway: Gateway,
    _started: Started,
}

/// Measures all of it. Returns whether the bounds hold.
pub async fn run(plan: &Plan, certs: &Arc<Certs>) -> bool {
    let one = tried(plan, certs, 1).await;
    let many = tried(plan, certs, 8).await;
    let mut direct = Vec::new();
    let mut rows = Vec::new();
    let targets = [(MANY, &many.target), (EMBEDDED, &many.embedded)];
    // In turn, so that a drift of the machine meets both alike.
    for round in 0..plan.rounds {
        report::progress(round, "the module itself", 1);
        direct.push(direct_in_child(one.folder.path(), plan.seconds));
        let single = Plan { rounds: 1, ..plan.clone() };
        rows.extend(measure(&single, &targets, &[1], Duration::from_millis(800)));
    }
    let scaled = measure(
        plan,
        &[(ONE, &one.target), (MANY, &many.target)],
        &[CONNECTIONS],
        Duration::from_millis(800),
    );
    report::softhsm(&rows, (MANY, EMBEDDED), report::median(direct), ADDED) & report::sessions(&scaled, ONE, MANY, FULL)
}

/// A gateway whose log is written before its answers, and synced later: what is measured is not the disk. Its connection
/// has this many sessions.
async fn tried(plan: &Plan, certs: &Arc<Certs>, sessions: usize) -> Tried {
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    let tune = declared(folder.path(), &["bank"], &["hsm"], PIN);
    let file = configuration(folder.path());
    let text = std::fs::read_to_string(&file).expect("a file") + &format!("adopt_any = true\nsessions = {sessions}\n");
    std::fs::write(file, text).expect("a file");
    import(folder.path(), "hyok", &[7; 32]);
    let tune = tune
        .over_tls(&certs.server, &certs.server_key, certs.client_config())
        .set("CLAVIGER_AUDIT__DURABILITY", "process-crash");
    let gateway = Gateway::new_in(plan.claviger.to_str().expect("a path in UTF-8"), folder.path(), &tune);
    let started = gateway.serve(&tune);
    let operator = started.tenant("bank");
    let local = json!({"name": "embedded", "provider": "local", "settings": {}});
    operator.post("/v1/connections", &local).await.expect_status(201);
    let unwraps = token(&operator, "application", &["Unwrap"], None).await;
    let target = async |name: &str, key: Value| {
        operator.post("/v1/keys", &key).await.expect_status(201);
        let made = operator
            .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
            .await
            .expect_status(200);
        let ask = Ask {
            uri: format!("/v1/keys/{name}/unwrap").parse().expect("a path"),
            headers: headers(Some(("authorization", format!("Bearer {}", text_of(&unwraps))))),
            body: json!({"wrapped": made["wrapped"]}).to_string().into(),
            answer: None,
        };
        Target {
            address: started.address(),
            pid: started.pid(),
            tls: certs.client_config(),
            asks: Arc::new([ask]),
        }
    };
    let held = json!({"name": "held", "connection": "hsm", "provider_key": "01"});
    let ours = json!({"name": "ours", "connection": "embedded", "cache": {"enabled": false}});
    Tried {
        target: target("held", held).await,
        embedded: target("ours", ours).await,
        folder,
        _gateway: gateway,
        _started: started,
    }
}

/// The median of the module's own decryption, in microseconds: of this program, with the environment that the module wants.
fn direct_in_child(folder: &Path, seconds: u64) -> f64 {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["direct-pkcs11", "--seconds", &seconds.to_string(), "--module"])
        .arg(std::env::var_os("CLAVIGER_TEST_SOFTHSM_MODULE").expect("CLAVIGER_TEST_SOFTHSM_MODULE"))
        .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.trim().parse().expect("a number")
}

/// Decrypts with the imported key of the only token, as the gateway's helper does, and prints the median in microseconds.
pub fn direct(module: &Path, seconds: u64) {
    let context = Pkcs11::new(module).expect("a module");
    context
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .expect("it is initialized");
    let slots = context.get_slots_with_token().expect("slots").into_iter();
    let mut named = slots.filter(|slot| {
        let info = context.get_token_info(*slot).expect("a token");
        info.label().trim_end() == "hyok"
    });
    let session = context.open_ro_session(named.next().expect("the token")).expect("a session");
    session.login(UserType::User, Some(&AuthPin::from(PIN))).expect("a login");
    let key = session.find_objects(&[Attribute::Id(vec![1])]).expect("objects")[0];
    let aad = [5; 64];
    let call = |iv: &mut [u8], encrypts: bool, text: &[u8]| {
        let parameters = GcmParams::new(iv, &aad, TAG_BITS.into()).expect("parameters");
        let mechanism = Mechanism::AesGcm(parameters);
        let done = match encrypts {
            true => session.encrypt(&mechanism, key, text),
            false => session.decrypt(&mechanism, key, text),
        };
        done.expect("the module's answer")
    };
    let wrapped = call(&mut [9; IV], true, &[3; 32]);
    let mut times = Histogram::<u64>::new(3).expect("bounds that hold");
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let begun = Instant::now();
        let opened = call(&mut [9; IV], false, &wrapped);
        times.record(begun.elapsed().as_nanos() as u64).expect("a time");
        assert_eq!(opened, [3; 32]);
    }
    println!("{}", quantile(&times, 0.5) / 1e3);
}
