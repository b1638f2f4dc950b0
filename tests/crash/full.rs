//! A full disk: everything except revocations stops while the disk reserve is whole, and resumes
//! when there is room again. Runs on a small tmpfs; without the right to mount one the cases are
//! reported as ignored.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use claviger_test_support::{Answer, Client, Gateway, Started, Tune, last_log_file, log_end, records};
use claviger_testkit::control::Request;
use libtest_mimic::Trial;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::held::Held;
use crate::load::text;
use crate::media::store;
use crate::ready::{log_state, until_sound, until_state};
use crate::run;
use crate::verify::Record;

/// The disk reserve of the audit log.
const RESERVE: u64 = 4 << 20;

/// How often a gateway starts on a full disk: the reserve gives room for the first two starts, the last
/// segment for the third.
const STARTS: usize = 3;

pub fn trials() -> Vec<Trial> {
    // The cases need the right to mount. Try it instead of guessing from the user id.
    let cannot = Small::mount().is_none();
    let trial = |name, test: fn() -> Result<(), libtest_mimic::Failed>| Trial::test(name, test).with_ignored_flag(cannot);
    vec![
        trial("full::ordinary_work_stops_before_the_reserve_and_resumes_with_room", || {
            run(stops_and_goes_on())
        }),
        trial("full::revocations_take_effect_and_survive_a_kill", || run(revocations_survive())),
        trial("full::a_gateway_starts_on_a_full_disk_and_takes_revocations", || {
            run(starts_on_a_full_disk())
        }),
        trial("full::an_outcome_that_a_start_could_not_record_is_recorded_by_the_next", || {
            run(outcome_follows())
        })
        .with_ignored_flag(cannot || !cfg!(feature = "testkit")),
        trial("full::an_enable_holds_although_the_kill_file_keeps_its_revocation", || {
            run(enable_outlives_the_kill_file())
        }),
    ]
}

/// A mounted tmpfs.
struct Small(PathBuf);

impl Small {
    /// Of 48 MiB.
    fn mount() -> Option<Self> {
        Self::mount_as(c"size=48m")
    }

    fn mount_as(options: &CStr) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let mounted = mount("tmpfs", &folder, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options);
        if mounted.is_err() {
            fs::remove_dir(&folder).expect("the folder is empty");
            return None;
        }
        Some(Self(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("the filler");
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            // Part of a block may be written before the disk is full.
            while file.write_all(&block).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the filler goes");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

fn tune() -> Tune {
    Tune::default().set("CLAVIGER_AUDIT__DISK_RESERVE", format!("{RESERVE}B"))
}

fn reserve(gateway: &Gateway) -> u64 {
    fs::metadata(gateway.data().join("audit.reserve")).map_or(0, |found| found.len())
}

/// The reserve is made after the start.
async fn until_reserved(gateway: &Gateway) {
    let end = Instant::now() + Duration::from_secs(20);
    while reserve(gateway) < RESERVE {
        assert!(Instant::now() < end, "the reserve is not made");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// From now on the disk takes no record, not even over the zeros that were written for it.
fn take_no_more(gateway: &Gateway, started: &Started) {
    let (_, end) = log_end(&gateway.data());
    started.limit_files(Some(end));
}

fn said(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or(""))
}

struct Furnished {
    keys: Vec<String>,
    blobs: Vec<(String, String)>,
    tokens: Vec<(String, String)>,
}

impl Furnished {
    async fn new(client: &Client, many: usize) -> Self {
        let mut all = Self {
            keys: Vec::new(),
            blobs: Vec::new(),
            tokens: Vec::new(),
        };
        client.post("/v1/principals", &json!({"name": "worker"})).await.expect_status(201);
        for number in 0..many {
            let name = format!("key-{number}");
            client
                .post("/v1/keys", &json!({"name": name, "connection": "embedded"}))
                .await
                .expect_status(201);
            let made = client
                .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
                .await
                .expect_status(200);
            all.keys.push(name);
            all.blobs.push((text(&made["wrapped"]), text(&made["plaintext"])));
            let token = client
                .post("/v1/principals/worker/tokens", &json!({"operations": ["ReadKey"]}))
                .await
                .expect_status(201);
            all.tokens.push((text(&token["id"]), text(&token["token"])));
        }
        all
    }

    async fn opens(&self, client: &Client, number: usize) -> Answer {
        client.post("/v1/unwrap", &json!({"wrapped": self.blobs[number].0})).await
    }
}

async fn stops_and_goes_on() {
    let small = Small::mount().expect("it was mounted before");
    let gateway = Gateway::new_in(crate::BINARY, &small.0, &tune());
    let started = gateway.serve(&tune());
    let client = started.with_tenant("acme").await;
    let furnished = Furnished::new(&client, 2).await;
    until_reserved(&gateway).await;
    assert_eq!(log_state(&started).await, (200, true, "sound".to_owned()));

    small.fill();
    // Found within a second, or by the first write that has no room.
    until_state(&started, &(503, false, "disk_full".to_owned())).await;
    for (method, path, body) in [
        ("POST", "/v1/keys/key-0/data-keys", Some(json!({}))),
        ("POST", "/v1/keys/key-0/wrap", Some(json!({"plaintext": "AAAA"}))),
        ("POST", "/v1/unwrap", Some(json!({"wrapped": furnished.blobs[0].0}))),
        ("POST", "/v1/keys/key-0/rotate", None),
        ("POST", "/v1/keys/key-0/enable", None),
        ("POST", "/v1/keys", Some(json!({"name": "more", "connection": "embedded"}))),
        ("GET", "/v1/keys", None),
    ] {
        let mut request = client.request(method.parse().expect("a method"), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let problem = client.send(request).await.expect_problem(503, "audit_unavailable");
        assert_eq!(problem["retryable"], true, "{path}");
    }
    assert_eq!(reserve(&gateway), RESERVE, "ordinary work used the reserve");
    assert_eq!(log_state(&started).await, (503, false, "disk_full".to_owned()));
    client.get("/healthz").await.expect_status(200);

    // A revocation may use the reserve.
    let revoked = client.post_empty("/v1/keys/key-1/disable").await;
    assert!(
        matches!(said(&revoked), (200, "") | (503, "effective_not_recorded")),
        "{}",
        revoked.text
    );

    small.make_room();
    until_sound(&started).await;
    assert_eq!(
        furnished.opens(&client, 0).await.expect_status(200)["plaintext"],
        furnished.blobs[0].1.as_str()
    );
    furnished.opens(&client, 1).await.expect_problem(409, "key_disabled");
    client
        .post("/v1/keys", &json!({"name": "more", "connection": "embedded"}))
        .await
        .expect_status(201);
    client.post_empty("/v1/keys/key-0/rotate").await.expect_status(200);
    assert_eq!(reserve(&gateway), RESERVE, "the reserve is whole again");
    assert!(started.terminate());

    let mut record = Record::default();
    let all = record.read_on(&gateway.data());
    record.assert_nothing_open();
    let told = all
        .iter()
        .find(|record| record["cause"] == "disk_full")
        .expect("a restarted record");
    assert!(told["unrecorded"].as_u64().is_some_and(|lost| lost > 0), "{told}");
    let disabled = all
        .iter()
        .filter(|record| record["operation"] == "Disable" && record["result"] == "success");
    assert_eq!(disabled.count(), 1, "the revocation has its record");
}

/// Revokes on a full disk, which takes records still, and on one that takes none: from then on
/// revocations go to the kill file.
async fn revocations_survive() {
    let small = Small::mount().expect("it was mounted before");
    let gateway = Gateway::new_in(crate::BINARY, &small.0, &tune());
    let started = gateway.serve(&tune());
    let client = started.with_tenant("acme").await;
    let furnished = Furnished::new(&client, 24).await;
    until_reserved(&gateway).await;
    client
        .post("/v1/connections", &json!({"name": "other", "provider": "local", "settings": {}}))
        .await
        .expect_status(201);

    let mut unrecorded = 0;
    let last = furnished.keys.len() - 1;
    for (number, key) in furnished.keys[..last].iter().enumerate() {
        small.fill();
        if number == last / 2 {
            assert_eq!(unrecorded, 0, "a full disk has room for the records of revocations");
            take_no_more(&gateway, &started);
        }
        let revoked = client.post_empty(&format!("/v1/keys/{key}/disable")).await;
        match said(&revoked) {
            (200, "") => {}
            (503, "effective_not_recorded") => unrecorded += 1,
            _ => panic!("{key}: {}", revoked.text),
        }
    }
    assert_eq!(unrecorded, last - last / 2);
    let revoked = &furnished.tokens[0];
    let path = format!("/v1/principals/worker/tokens/{}", revoked.0);
    let sever = client.post_empty("/v1/connections/other/sever").await;
    for revoked in [client.delete(&path).await, sever] {
        assert!(matches!(said(&revoked), (503, "effective_not_recorded")), "{}", revoked.text);
    }
    // Effective at once for responses that need no record.
    let used = client.with_token(&revoked.1).get("/v1/keys").await;
    used.expect_problem(401, "unauthenticated");

    // A start needs no room, and no help with it.
    started.kill();
    let started = gateway.serve(&tune());
    let used = started.operator().with_token(&revoked.1).get("/v1/keys").await;
    used.expect_problem(401, "unauthenticated");
    started.kill();
    small.make_room();
    let started = gateway.serve(&tune());
    let client = started.tenant("acme");
    hold(&furnished, &client).await;
    let more = client.post("/v1/keys", &json!({"name": "more", "connection": "other"})).await;
    more.expect_problem(409, "connection_severed");
    let all = records(&gateway.data());
    for (operation, many) in [("Disable", last), ("Sever", 1)] {
        let revocations = all
            .iter()
            .filter(|record| record["operation"] == operation && record["result"] == "success");
        let objects: std::collections::BTreeSet<_> = revocations.map(|record| text(&record["change"]["id"])).collect();
        assert_eq!(objects.len(), many, "each {operation} has its record");
    }
    // The revocations can be undone, durably.
    client.post_empty("/v1/keys/key-0/enable").await.expect_status(200);
    let last_revoked = format!("/v1/keys/{}", furnished.keys[last - 1]);
    client.post_empty(&format!("{last_revoked}/enable")).await.expect_status(200);
    assert!(started.terminate());
    let started = gateway.serve(&tune());
    let client = started.tenant("acme");
    for key in ["/v1/keys/key-0", &last_revoked] {
        assert_eq!(client.get(key).await.expect_status(200)["state"], "enabled");
    }
    assert!(started.terminate());
    let mut record = Record::default();
    record.read_on(&gateway.data());
    record.assert_nothing_open();
}

/// Starts again and again on a disk that is full to the last byte, each time with less that can be freed,
/// and revokes.
async fn starts_on_a_full_disk() {
    let small = Small::mount().expect("it was mounted before");
    let gateway = Gateway::new_in(crate::BINARY, &small.0, &tune());
    let mut started = gateway.serve(&tune());
    let client = started.with_tenant("acme").await;
    let furnished = Furnished::new(&client, STARTS + 1).await;
    until_reserved(&gateway).await;
    small.fill();
    for revoked in 0..STARTS {
        started.kill();
        small.fill();
        started = gateway.serve(&tune());
        let client = started.tenant("acme");
        let answer = client.post_empty(&format!("/v1/keys/key-{revoked}/disable")).await;
        assert!(
            matches!(said(&answer), (200, "") | (503, "effective_not_recorded")),
            "{}",
            answer.text
        );
        assert!(reserve(&gateway) < RESERVE, "the disk was not full");
    }
    started.kill();
    small.make_room();
    started = gateway.serve(&tune());
    until_reserved(&gateway).await;
    let client = started.tenant("acme");
    for number in 0..STARTS {
        furnished.opens(&client, number).await.expect_problem(409, "key_disabled");
    }
    furnished.opens(&client, STARTS).await.expect_status(200);
    assert!(started.terminate());
    let mut record = Record::default();
    record.read_on(&gateway.data());
    record.assert_nothing_open();
}

/// Two changes overlap, and the outcome of the first one, which is the last record, is lost in a crash. A start
/// that cannot record it must not forget that the store has the change.
async fn outcome_follows() {
    // `dev` has a disk reserve of 64 MiB.
    let small = Small::mount_as(c"size=160m").expect("a smaller one was mounted before");
    let (held, started, client) = Held::start_in(&small.0, "there").await;
    let going = held.rotate(&client, "rotate", &json!({})).await;
    let later = json!({"name": "later", "connection": "embedded"});
    client.post("/v1/keys", &later).await.expect_status(201);
    let mut fake = held.control().await;
    fake.tell(&Request::Clear).await.expect("the gate opens");
    let rotated = going.await.expect("the request ends").expect("an answer");
    assert_eq!(rotated.expect_status(200)["primary_version"], 2);
    started.kill();
    let lost = lose_last_record(&held.gateway.data()).await;
    assert_eq!(
        (&lost["kind"], &lost["change"]["verb"]),
        (&json!("outcome"), &json!("rotate")),
        "{lost}"
    );
    let outcome = || {
        let mut all = records(&held.gateway.data()).into_iter();
        all.find(|record| record["tenant"] == lost["tenant"] && record["intent"] == lost["intent"])
    };

    fs::copy(held.gateway.data().join("admin.token"), held.gateway.token_file()).expect("the token");
    // More than the disk has.
    let started = held.gateway.serve(&Tune::default().set("CLAVIGER_AUDIT__DISK_RESERVE", "1TiB"));
    assert_eq!(outcome(), None);
    started.kill();
    let started = held.again();
    assert_eq!(outcome().expect("an outcome")["result"], "success");
    let key = started.tenant("acme").get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 2);
}

/// Takes the last record off the log of a stopped gateway, which nothing else knows of then.
async fn lose_last_record(data: &Path) -> Value {
    let path = last_log_file(data);
    let mut bytes = fs::read(&path).expect("the log");
    let mut end = 1 + bytes.iter().position(|byte| *byte == b'\n').expect("a header line");
    let mut last = end..end;
    while let Some(length) = bytes[end..].first_chunk().map(|length| u32::from_be_bytes(*length) & 0x7fff_ffff)
        && length > 0
    {
        last = end..end + 8 + length as usize;
        end = last.end;
    }
    let record = serde_json::from_slice(&bytes[last.start + 8..last.end]).expect("a record");
    bytes[last].fill(0);
    fs::write(&path, bytes).expect("written");
    let mut store = store(data).await;
    sqlx::query("UPDATE nodes SET log_position = NULL, log_crc = NULL")
        .execute(&mut store)
        .await
        .expect("the row changes");
    store.close().await.expect("the store is closed");
    record
}

/// A disable that only memory and kill file have is enabled by the same process. A kill file that
/// could not be written then, as on a dying disk, must not disable the key at the next start.
async fn enable_outlives_the_kill_file() {
    let small = Small::mount().expect("it was mounted before");
    let gateway = Gateway::new_in(crate::BINARY, &small.0, &tune());
    let started = gateway.serve(&tune());
    let client = started.with_tenant("acme").await;
    let furnished = Furnished::new(&client, 24).await;
    until_reserved(&gateway).await;
    let kill_file = gateway.data().join("cuts.kill");
    let empty = fs::read(&kill_file).expect("the kill file");
    let mut revoked = Vec::new();
    small.fill();
    take_no_more(&gateway, &started);
    for key in &furnished.keys {
        let answer = client.post_empty(&format!("/v1/keys/{key}/disable")).await;
        if said(&answer) == (503, "effective_not_recorded") && fs::read(&kill_file).expect("the kill file") != empty {
            revoked.push(key);
        }
        if revoked.len() == 2 {
            break;
        }
    }
    assert_eq!(revoked.len(), 2, "the records were written");
    let kept = fs::read(&kill_file).expect("the kill file");
    small.make_room();
    started.limit_files(None);
    until_sound(&started).await;
    let [enabled, disabled] = [revoked[0], revoked[1]];
    client.post_empty(&format!("/v1/keys/{enabled}/enable")).await.expect_status(200);
    started.kill();
    fs::write(&kill_file, kept).expect("written");

    let started = gateway.serve(&tune());
    let client = started.tenant("acme");
    for (key, state) in [(enabled, "enabled"), (disabled, "disabled")] {
        assert_eq!(client.get(&format!("/v1/keys/{key}")).await.expect_status(200)["state"], state);
    }
    assert!(started.terminate());
    assert!(records(&gateway.data()).iter().any(|record| record["result"] == "superseded"));
}

async fn hold(furnished: &Furnished, client: &Client) {
    let last = furnished.keys.len() - 1;
    for number in 0..last {
        furnished.opens(client, number).await.expect_problem(409, "key_disabled");
    }
    let opened = furnished.opens(client, last).await.expect_status(200);
    assert_eq!(opened["plaintext"], furnished.blobs[last].1.as_str());
    for (place, (_, token)) in furnished.tokens.iter().enumerate() {
        let answer = client.with_token(token).get("/v1/keys?page_size=1").await;
        if place == 0 {
            answer.expect_problem(401, "unauthenticated");
        } else {
            answer.expect_status(200);
        }
    }
}
