//! A data folder of which several parts are gone or older at once: which flag a start asks for, what it says, and that
//! no record's number is given twice. `disagree`, `put_back`, `node` and `aside` have single parts in more detail.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use claviger_test_support::{Client, Gateway, Started, Tune, log_end, log_files, make_key, records};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::aside::{Saved, number};
use crate::disagree::{Copy, DATABASE, refused, starts_plainly};
use crate::load::text;
use crate::ready::{state_of, until_ran};
use crate::run;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lost::each_error_names_the_flag_that_helps_after_a_clean_stop", || {
            run(all_cases(true))
        }),
        Trial::test("lost::each_error_names_the_flag_that_helps_after_a_kill", || run(all_cases(false))),
        Trial::test("lost::records_that_another_copy_of_the_log_replaced_are_recorded_as_lost", || {
            run(another_branch(false))
        }),
        Trial::test("lost::another_copy_of_the_log_starts_beside_the_sidecar_of_the_store", || {
            run(another_branch(true))
        }),
        Trial::test("lost::the_revocations_of_a_shorter_copy_of_the_log_are_applied", || {
            run(shorter_branch())
        }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StorePart {
    Whole,
    Older,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogPart {
    Whole,
    Gone,
    GoneWithIndex,
    TailGone,
}

/// What is wrong with a folder.
#[derive(Debug, Clone, Copy)]
struct Case {
    store: StorePart,
    log: LogPart,
    node_gone: bool,
    kill_file_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags {
    rollback: bool,
    lost_log: bool,
}

const ROLLBACK: &str = "--accept-rollback";
const LOST_LOG: &str = "--accept-lost-log";

impl Flags {
    const NONE: Self = Self::of(false, false);
    const BOTH: Self = Self::of(true, true);

    const fn of(rollback: bool, lost_log: bool) -> Self {
        Self { rollback, lost_log }
    }

    fn tune(self) -> Tune {
        let given = [(self.rollback, ROLLBACK), (self.lost_log, LOST_LOG)];
        Tune {
            arguments: given
                .iter()
                .filter(|(given, _)| *given)
                .map(|(_, flag)| (*flag).to_owned())
                .collect(),
            ..plain()
        }
    }

    fn suffices(self, needed: Self) -> bool {
        (self.rollback || !needed.rollback) && (self.lost_log || !needed.lost_log)
    }
}

/// With a small reserve: the folder is copied often.
fn plain() -> Tune {
    Tune::default().set("CLAVIGER_AUDIT__DISK_RESERVE", "1MiB")
}

fn cases() -> impl Iterator<Item = Case> {
    use LogPart::{Gone, GoneWithIndex, TailGone, Whole};
    let stores = [StorePart::Whole, StorePart::Older, StorePart::Gone];
    stores.into_iter().flat_map(|store| {
        [Whole, Gone, GoneWithIndex, TailGone].into_iter().flat_map(move |log| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(node_gone, kill_file_gone)| Case {
                store,
                log,
                node_gone,
                kill_file_gone,
            })
        })
    })
}

impl Case {
    /// The flags that a start needs. After a clean stop the index has the last change, also one whose record is gone.
    fn needs(self, clean: bool) -> Flags {
        let is_noticed = match self.log {
            LogPart::Whole | LogPart::TailGone => true,
            LogPart::Gone => clean,
            LogPart::GoneWithIndex => false,
        };
        Flags {
            rollback: self.store == StorePart::Older && is_noticed,
            lost_log: self.log != LogPart::Whole || self.node_gone,
        }
    }

    fn apply(self, folder: &Folder) {
        let data = folder.gateway.data();
        folder.saved.put_back(&data);
        let remove = |name: &str| drop(fs::remove_file(data.join(name)));
        match self.store {
            StorePart::Whole => {}
            StorePart::Older => folder.older.restore(&data),
            StorePart::Gone => DATABASE.into_iter().for_each(remove),
        }
        match self.log {
            LogPart::Whole => {}
            LogPart::Gone | LogPart::GoneWithIndex => {
                for (_, file) in log_files(&data) {
                    fs::remove_file(file).expect("removed");
                }
                if self.log == LogPart::GoneWithIndex {
                    remove("audit.index");
                }
            }
            LogPart::TailGone => {
                let (file, end) = log_end(&data);
                let file = fs::File::options().write(true).open(file).expect("the log");
                file.set_len(end - TAIL).expect("cut");
            }
        }
        if self.node_gone {
            remove("node");
        }
        if self.kill_file_gone {
            remove("cuts.kill");
        }
    }
}

/// Less than the records behind the last change, in bytes.
const TAIL: u64 = 1500;

/// A record by its tenant and number.
type Numbered = BTreeMap<(String, u64), Value>;

fn numbered(data: &Path) -> Numbered {
    let mut all = Numbered::new();
    for record in records(data) {
        let number = record["sequence"].as_u64().expect("a number");
        let before = all.insert((text(&record["tenant"]), number), record);
        assert!(before.is_none(), "a number twice: {before:?}");
    }
    all
}

const TENANTS: [&str; 2] = ["acme", "globex"];

/// A data folder that stopped after two runs.
struct Folder {
    gateway: Gateway,
    saved: Saved,
    /// The store as it was between them.
    older: Copy,
    before: Numbered,
}

async fn data_keys(client: &Client) -> String {
    let made = client.post("/v1/keys/first/data-keys", &json!({})).await;
    let index = made.header("claviger-audit-index").to_owned();
    made.expect_status(200);
    index
}

/// Makes each tenant and its key.
async fn furnished() -> (Gateway, Started) {
    let gateway = Gateway::new(crate::BINARY);
    let started = gateway.serve(&plain());
    for tenant in TENANTS {
        make_key(&started.with_tenant(tenant).await, "first").await;
    }
    (gateway, started)
}

/// The second run makes a key, disables another, and then changes nothing.
async fn stopped(clean: bool) -> Folder {
    let (gateway, started) = furnished().await;
    make_key(&started.tenant("acme"), "other").await;
    assert!(started.terminate());
    let older = Copy::of(&gateway.data(), &DATABASE);
    let started = gateway.serve(&plain());
    let client = started.tenant("acme");
    client.post_empty("/v1/keys/other/disable").await.expect_status(200);
    make_key(&client, "later").await;
    for _ in 0..5 {
        for tenant in TENANTS {
            data_keys(&started.tenant(tenant)).await;
        }
    }
    // The store then knows the last record.
    until_ran(&started, "log_position").await;
    match clean {
        true => assert!(started.terminate()),
        false => started.kill(),
    }
    let data = gateway.data();
    Folder {
        saved: Saved::of(&data),
        before: numbered(&data),
        gateway,
        older,
    }
}

async fn all_cases(clean: bool) {
    let folder = stopped(clean).await;
    for case in cases() {
        if case.store == StorePart::Gone {
            without_store(&folder, case);
        } else {
            with_store(&folder, case, case.needs(clean)).await;
        }
    }
}

/// No flag makes a new store of the installation.
fn without_store(folder: &Folder, case: Case) {
    for flags in [Flags::NONE, Flags::BOTH] {
        case.apply(folder);
        let said = refused(&folder.gateway, &flags.tune());
        let expected = match case.log == LogPart::GoneWithIndex && case.kill_file_gone {
            true => "is not initialised",
            false => "there is no store beside it",
        };
        assert!(said.contains(expected), "{case:?} {flags:?}: {said}");
        assert!(!said.contains(ROLLBACK) && !said.contains(LOST_LOG), "{case:?} {flags:?}: {said}");
    }
}

async fn with_store(folder: &Folder, case: Case, needed: Flags) {
    for flags in [Flags::NONE, Flags::of(true, false), Flags::of(false, true), Flags::BOTH] {
        case.apply(folder);
        if flags.suffices(needed) {
            goes_on(folder, case, flags).await;
            return;
        }
        names_the_flag(folder, case, flags, needed);
        if needed == Flags::BOTH && flags == Flags::of(false, true) {
            // The loss is recorded by now: what is left is the older store.
            goes_on(folder, case, Flags::of(true, false)).await;
        }
    }
}

/// The error names the first flag that is missing, and no other, and says what it costs.
fn names_the_flag(folder: &Folder, case: Case, flags: Flags, needed: Flags) {
    let said = refused(&folder.gateway, &flags.tune());
    let (flag, other, cost) = match needed.lost_log && !flags.lost_log {
        true => (
            LOST_LOG,
            ROLLBACK,
            "The lost records stay lost, and a revocation that only they have is not applied again",
        ),
        false => (ROLLBACK, LOST_LOG, "does not open"),
    };
    for part in [flag, cost] {
        assert!(said.contains(part), "{case:?} {flags:?}: {part}: {said}");
    }
    if flag == LOST_LOG {
        // A start without the log of the backup loses its records, too.
        let before = said.split(LOST_LOG).next().expect("a text");
        assert!(before.contains("newest backup"), "{case:?} {flags:?}: {said}");
    }
    assert!(!said.contains(other), "{case:?} {flags:?}: {said}");
    if case.kill_file_gone {
        assert!(
            !folder.gateway.data().join("cuts.kill").exists(),
            "{case:?}: the next start misses it no more"
        );
    }
    if case.node_gone && !flags.lost_log {
        assert!(said.contains("node does not exist") && said.contains("echo "), "{case:?}: {said}");
        assert!(
            !folder.gateway.data().join("node").exists(),
            "{case:?}: a refused start writes no name"
        );
    }
}

async fn goes_on(folder: &Folder, case: Case, flags: Flags) {
    let (gateway, data) = (&folder.gateway, folder.gateway.data());
    let started = gateway.serve(&flags.tune());
    for tenant in TENANTS {
        let given = data_keys(&started.tenant(tenant)).await;
        let tenant = given.rsplit(['/', '#']).nth(1).expect("a tenant");
        let most = folder.before.keys().filter(|(of, _)| of == tenant).map(|(_, number)| *number).max();
        assert!(Some(number(&given)) > most, "{case:?}: {given} after {most:?}");
    }
    let client = started.tenant("acme");
    let later = client.get("/v1/keys/later").await;
    assert_eq!(later.status, if case.store == StorePart::Whole { 200 } else { 404 }, "{case:?}");
    // A revocation that the store lacks is in the log alone.
    let is_known = case.store == StorePart::Whole || matches!(case.log, LogPart::Whole | LogPart::TailGone);
    let other = client.get("/v1/keys/other").await.expect_status(200);
    assert_eq!(other["state"], if is_known { "disabled" } else { "enabled" }, "{case:?}");
    if case.kill_file_gone {
        assert!(state_of(&started, "kill_file").await != "ok", "{case:?}");
    }
    until_ran(&started, "audit_watch").await;
    let said = started.output();
    assert!(!said.contains("was changed by something else"), "its own work: {case:?}: {said}");
    assert!(started.terminate());
    reports_the_loss(folder, case, &data);
    starts_plainly(gateway);
}

/// What is lost is recorded before anything else, and each number has one record.
fn reports_the_loss(folder: &Folder, case: Case, data: &Path) {
    let after = numbered(data);
    for (number, record) in &after {
        if let Some(before) = folder.before.get(number) {
            assert_eq!(record, before, "{case:?}: a number is given twice");
        }
    }
    let is_new = |record: &Value| !folder.before.values().any(|before| before == record);
    let new: Vec<Value> = records(data).into_iter().filter(is_new).collect();
    let is_loss = |record: &Value| record["cause"] == "log_lost";
    let losses = new.iter().filter(|record| is_loss(record)).count();
    assert_eq!(losses, usize::from(case.log != LogPart::Whole), "{case:?}");
    if losses > 0 {
        let first = new.iter().find(|record| record["kind"] != "restarted" || is_loss(record));
        assert!(first.is_some_and(is_loss), "{case:?}: {first:?}");
    }
}

/// A copy of the folder went on, and its log is beside the store of the other one; or beside its sidecar, too, which has
/// a later change.
async fn another_branch(with_index: bool) {
    let (gateway, started) = furnished().await;
    assert!(started.terminate());
    let data = gateway.data();
    let saved = Saved::of(&data);
    let mut before = Vec::new();
    // Its change is between as many data keys.
    let branch = async |key: &str, [behind, ahead]: [usize; 2], disables: bool| {
        let started = gateway.serve(&plain());
        if disables {
            let disabled = started.tenant("globex").post_empty("/v1/keys/first/disable").await;
            disabled.expect_status(200);
        }
        for _ in 0..behind {
            data_keys(&started.tenant("acme")).await;
        }
        make_key(&started.tenant("acme"), key).await;
        for _ in 0..ahead {
            data_keys(&started.tenant("acme")).await;
        }
        assert!(started.terminate());
        numbered(&data)
    };
    before.push(branch("one", [if with_index { 10 } else { 5 }, 0], false).await);
    // Its store then has no older position than that change.
    starts_plainly(&gateway);
    let of_store = ["claviger.db", "claviger.db-wal", "claviger.db-shm", "store.run", "audit.index"];
    let newer = Copy::of(&data, &of_store[..of_store.len() - usize::from(!with_index)]);
    saved.put_back(&data);
    // Longer, so that something is at each place that the store knows.
    before.push(branch("another", if with_index { [0, 30] } else { [20, 0] }, true).await);
    newer.restore(&data);
    let said = refused(&gateway, &plain());
    assert!(said.contains(LOST_LOG) && !said.contains(ROLLBACK), "{said}");
    if !with_index {
        // The store lacks a change of the other branch that is behind all of its own.
        let said = refused(&gateway, &Flags::of(false, true).tune());
        assert!(said.contains(ROLLBACK) && !said.contains(LOST_LOG), "{said}");
    }
    let started = gateway.serve(&Flags::of(!with_index, true).tune());
    let client = started.tenant("acme");
    client.get("/v1/keys/one").await.expect_status(200);
    client.get("/v1/keys/another").await.expect_status(404);
    let disabled = started.tenant("globex").get("/v1/keys/first").await.expect_status(200);
    assert_eq!(disabled["state"], "disabled", "the log has the revocation");
    let given = data_keys(&client).await;
    let tenant = given.rsplit(['/', '#']).nth(1).expect("a tenant").to_owned();
    assert!(
        before.iter().all(|before| !before.contains_key(&(tenant.clone(), number(&given)))),
        "{given} is given twice"
    );
    assert!(records(&data).iter().any(|record| record["cause"] == "log_lost"));
    assert!(started.terminate());
    starts_plainly(&gateway);
}

/// As [`another_branch`], but all that the store knows is behind the end of the log, which looks like one that lost its end.
async fn shorter_branch() {
    let (gateway, started) = furnished().await;
    assert!(started.terminate());
    let data = gateway.data();
    let saved = Saved::of(&data);
    let started = gateway.serve(&plain());
    let disabled = started.tenant("globex").post_empty("/v1/keys/first/disable").await;
    disabled.expect_status(200);
    assert!(started.terminate());
    let shorter = Copy::of(&data, &["audit-00000000000000000000.log"]);
    saved.put_back(&data);
    let started = gateway.serve(&plain());
    for _ in 0..20 {
        data_keys(&started.tenant("acme")).await;
    }
    make_key(&started.tenant("acme"), "later").await;
    assert!(started.terminate());
    // Its store then has no older position than that change.
    starts_plainly(&gateway);
    shorter.restore(&data);
    let newer = Saved::of(&data);
    let of_store = Copy::of(&data, &DATABASE);
    for with_index in [true, false] {
        newer.put_back(&data);
        if !with_index {
            fs::remove_file(data.join("audit.index")).expect("removed");
        }
        let said = refused(&gateway, &plain());
        assert!(said.contains(LOST_LOG) && !said.contains(ROLLBACK), "{said}");
        let started = gateway.serve(&Flags::of(false, true).tune());
        started.tenant("acme").get("/v1/keys/later").await.expect_status(200);
        let disabled = started.tenant("globex").get("/v1/keys/first").await.expect_status(200);
        assert_eq!(disabled["state"], "disabled", "the log has the revocation (index: {with_index})");
        assert!(started.terminate());
        // As after a kill when the loss was recorded, and the store had no revocation yet.
        of_store.restore(&data);
        fs::remove_file(data.join("audit.index")).expect("removed");
        let started = gateway.serve(&plain());
        let disabled = started.tenant("globex").get("/v1/keys/first").await.expect_status(200);
        assert_eq!(disabled["state"], "disabled", "no later start applies it");
        // The output is that of all runs.
        let reconciled = |started: &Started| started.output().matches("are reconciled").count();
        let before = reconciled(&started);
        assert!(started.terminate());
        let started = gateway.serve(&plain());
        assert_eq!(reconciled(&started), before, "it is applied once");
        assert!(started.terminate());
    }
}
