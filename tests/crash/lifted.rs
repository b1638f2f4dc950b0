//! Revocations of the journal that were lifted since: a start does not apply them again. The kill
//! file's slots and the intent are written here, as a crash, a late sync or a restored copy leaves
//! them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use claviger_test_support::{Client, Gateway, Started, Tune, log_end, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::disagree::{Copy, DATABASE, accepting, starts_plainly};
use crate::load::text;
use crate::run;

/// The kinds of revocation in the kill file (`docs/audit-format.md`).
pub const DISABLE: u8 = 1;
const SEVER: u8 = 2;
const SUSPEND: u8 = 4;

/// How the last run ends.
#[derive(Clone, Copy)]
enum End {
    Clean,
    Killed,
}

impl End {
    const BOTH: [Self; 2] = [Self::Clean, Self::Killed];

    fn of(self, started: Started) {
        match self {
            Self::Clean => assert!(started.terminate(), "an end in order"),
            Self::Killed => started.kill(),
        }
    }
}

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lifted::an_older_kill_file_does_not_cut_anew", || run(older_kill_file())),
        Trial::test("lifted::an_entry_that_nothing_lifted_is_applied", || run(standing_entry())),
        Trial::test("lifted::a_cut_holds_in_an_older_store_whose_numbers_go_on", || run(older_store())),
        Trial::test("lifted::a_late_intent_does_not_cut_anew", || run(late_intent())),
    ]
}

/// A tenant with a key and a second connection, and a second tenant, each revoked and lifted once.
async fn furnished(gateway: &Gateway) -> Started {
    let started = gateway.serve(&Tune::default());
    let client = started.with_tenant("acme").await;
    let other = json!({"name": "other", "provider": "local", "settings": {}});
    client.post("/v1/connections", &other).await.expect_status(201);
    key(&client, "first", "embedded").await;
    for path in [
        "/v1/keys/first/disable",
        "/v1/keys/first/enable",
        "/v1/connections/other/sever",
        "/v1/connections/other/restore",
    ] {
        client.post_empty(path).await.expect_status(200);
    }
    started.with_tenant("globex").await;
    for path in ["/v1/tenants/globex/suspend", "/v1/tenants/globex/resume"] {
        started.operator().post_empty(path).await.expect_status(200);
    }
    started
}

async fn key(client: &Client, name: &str, connection: &str) {
    let key = json!({"name": name, "connection": connection});
    client.post("/v1/keys", &key).await.expect_status(201);
}

async fn state(started: &Started) -> String {
    text(&started.tenant("acme").get("/v1/keys/first").await.expect_status(200)["state"])
}

/// Whether the second tenant is served.
async fn tenant_state(started: &Started) -> String {
    text(&started.operator().get("/v1/tenants/globex").await.expect_status(200)["state"])
}

/// The last record of a change with this verb.
fn record_of(gateway: &Gateway, verb: &str, kind: &str) -> Value {
    let all = records(&gateway.data());
    let found = all
        .into_iter()
        .rfind(|record| record["change"]["verb"] == verb && record["kind"] == kind);
    found.expect("the record")
}

fn superseded(gateway: &Gateway) -> Vec<Value> {
    let all = records(&gateway.data()).into_iter();
    all.filter(|record| record["result"] == "superseded").collect()
}

/// Writes a revocation of the record's object into a slot of the kill file. Slots of earlier builds
/// have 0 for the number.
pub fn write_slot(gateway: &Gateway, slot: u64, kind: u8, record: &Value, lifts: u64) {
    let mut bytes = [0; 64];
    let id = |value: &Value| hex::decode(text(value)).expect("an id");
    bytes[0] = kind;
    bytes[8..24].copy_from_slice(&id(&record["tenant"]));
    bytes[24..40].copy_from_slice(&id(&record["change"]["id"]));
    bytes[40..48].copy_from_slice(&1_i64.to_be_bytes());
    bytes[48..56].copy_from_slice(&lifts.to_be_bytes());
    let check = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&check.to_be_bytes());
    let file = File::options()
        .write(true)
        .open(gateway.data().join("cuts.kill"))
        .expect("the kill file");
    file.write_all_at(&bytes, 64 * (1 + slot)).expect("written");
}

pub fn kill_file_is_empty(gateway: &Gateway) -> bool {
    let bytes = fs::read(gateway.data().join("cuts.kill")).expect("the kill file");
    bytes[64..].iter().all(|byte| *byte == 0)
}

async fn older_kill_file() {
    for end in End::BOTH {
        let gateway = Gateway::new(crate::BINARY);
        end.of(furnished(&gateway).await);
        write_slot(&gateway, 0, DISABLE, &record_of(&gateway, "disable", "outcome"), 0);
        write_slot(&gateway, 1, SEVER, &record_of(&gateway, "sever", "outcome"), 0);
        write_slot(&gateway, 2, SUSPEND, &record_of(&gateway, "suspend", "outcome"), 0);

        let started = gateway.serve(&Tune::default());
        assert_eq!(state(&started).await, "enabled");
        assert_eq!(tenant_state(&started).await, "active");
        key(&started.tenant("acme"), "second", "other").await;
        assert!(started.terminate());
        assert!(kill_file_is_empty(&gateway));
        let told = superseded(&gateway);
        let changes: Vec<_> = told
            .iter()
            .map(|record| (text(&record["change"]["verb"]), record["change"]["lifts"].clone()))
            .collect();
        assert_eq!(changes, ["disable", "sever", "suspend"].map(|verb| (verb.to_owned(), json!(0))));
        starts_plainly(&gateway);
        assert_eq!(superseded(&gateway).len(), 3, "each is told once");
    }
}

async fn standing_entry() {
    for end in End::BOTH {
        let gateway = Gateway::new(crate::BINARY);
        end.of(furnished(&gateway).await);
        let record = record_of(&gateway, "disable", "outcome");
        write_slot(&gateway, 0, DISABLE, &record, 1);
        let started = gateway.serve(&Tune::default());
        assert_eq!(state(&started).await, "disabled");
        started.tenant("acme").post_empty("/v1/keys/first/enable").await.expect_status(200);
        end.of(started);
        assert!(kill_file_is_empty(&gateway));
        // The same file once more.
        write_slot(&gateway, 0, DISABLE, &record, 1);
        let started = gateway.serve(&Tune::default());
        assert_eq!(state(&started).await, "enabled");
        assert!(started.terminate());
        starts_plainly(&gateway);
    }
}

async fn older_store() {
    for end in End::BOTH {
        let gateway = Gateway::new(crate::BINARY);
        let started = gateway.serve(&Tune::default());
        key(&started.with_tenant("acme").await, "first", "embedded").await;
        assert!(started.terminate());
        let copy = Copy::of(&gateway.data(), &DATABASE);
        let started = gateway.serve(&Tune::default());
        let client = started.tenant("acme");
        for path in ["/v1/keys/first/disable", "/v1/keys/first/enable", "/v1/keys/first/disable"] {
            client.post_empty(path).await.expect_status(200);
        }
        end.of(started);
        copy.restore(&gateway.data());
        let record = record_of(&gateway, "disable", "intent");
        assert_eq!(record["change"]["lifts"], 1);

        let started = gateway.serve(&accepting());
        assert_eq!(state(&started).await, "disabled");
        started.tenant("acme").post_empty("/v1/keys/first/enable").await.expect_status(200);
        end.of(started);
        // The store has counted on from the log's number, so this one is over.
        write_slot(&gateway, 0, DISABLE, &record, 1);
        let started = gateway.serve(&Tune::default());
        assert_eq!(state(&started).await, "enabled");
        assert!(started.terminate());
        starts_plainly(&gateway);
    }
}

/// Appends the record to the log as a commit of its own; returns its number.
pub fn append(gateway: &Gateway, mut record: Value) -> usize {
    let number = records(&gateway.data())
        .iter()
        .filter(|other| other["tenant"] == record["tenant"])
        .count();
    record["sequence"] = json!(number);
    let body = serde_json::to_vec(&record).expect("JSON");
    let (path, end) = log_end(&gateway.data());
    let length = u32::try_from(body.len()).expect("a length") | 1 << 31;
    let check = crc32c::crc32c(&body);
    let frame = [&length.to_be_bytes()[..], &check.to_be_bytes(), &body].concat();
    // Over the zeros at the end of the file.
    let log = File::options().write(true).open(path).expect("the log");
    log.write_all_at(&frame, end).expect("written");
    number
}

/// An intent that became durable after its revocation went on without it, and after what lifted
/// that. `lifts` is absent as in the records of earlier builds, older than the object's, or not.
async fn late_intent() {
    for end in End::BOTH {
        for verb in ["disable", "suspend"] {
            for (lifts, is_lifted) in [(None, true), (Some(0), true), (Some(1), false)] {
                late(end, verb, lifts, is_lifted).await;
            }
        }
    }
}

async fn late(end: End, verb: &str, lifts: Option<u64>, is_lifted: bool) {
    let gateway = Gateway::new(crate::BINARY);
    end.of(furnished(&gateway).await);
    let mut intent = record_of(&gateway, verb, "intent");
    let change = intent["change"].as_object_mut().expect("a change");
    assert_eq!(change["lifts"], 0);
    match lifts {
        Some(lifts) => drop(change.insert("lifts".to_owned(), json!(lifts))),
        None => drop(change.remove("lifts")),
    }
    let number = append(&gateway, intent.clone());
    let assert_states = async |started: &Started| {
        let expected = match (verb, is_lifted) {
            (_, true) => ("enabled", "active"),
            ("disable", false) => ("disabled", "active"),
            (_, false) => ("enabled", "suspended"),
        };
        let found = (state(started).await, tenant_state(started).await);
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{verb} at {lifts:?}");
    };

    let started = gateway.serve(&Tune::default());
    assert_states(&started).await;
    assert!(started.terminate());
    let all = records(&gateway.data());
    let outcome = all
        .iter()
        .find(|record| record["tenant"] == intent["tenant"] && record["intent"] == number);
    let result = if is_lifted { "superseded" } else { "success" };
    assert_eq!(outcome.expect("an outcome")["result"], result);
    starts_plainly(&gateway);
    assert_states(&gateway.serve(&Tune::default())).await;
}
