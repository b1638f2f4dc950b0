//! Starts the gateway on a state, and compares what it shows with what was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::Value;

use super::disk::Disk;
use super::step::{ABSENT, Answered, Expected, Given, Step, World, allow, client_id, read, unwrap};
use crate::load::text;
use crate::verify::Record;

/// What a client knows when the gateway ends.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    /// What could be read before the first step.
    pub before: &'k World,
    pub steps: &'k [Step],
    /// The answer to each step so far; `None` where the gateway ended instead. The next step may
    /// have been under way.
    pub answers: &'k [Option<Answered>],
    pub given: &'k Given,
}

/// Where states are unpacked: in memory, if the machine has such a folder, since nobody tests the syncs of
/// these gateways.
pub fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

/// A gateway whose folder has this state.
pub fn unpacked(disk: &Disk) -> Gateway {
    let gateway = Gateway::empty_in(crate::BINARY, &memory());
    disk.write(gateway.folder());
    gateway
}

/// Starts the gateway, which must need no help, and compares.
pub async fn holds(gateway: &Gateway, known: Known<'_>, again: bool) {
    let started = tokio::task::block_in_place(|| gateway.serve(&Tune::default()));
    compare(gateway, &started, known).await;
    started.kill();
    if again {
        let started = tokio::task::block_in_place(|| gateway.serve(&Tune::default()));
        compare(gateway, &started, known).await;
        assert!(tokio::task::block_in_place(|| started.terminate()), "an end in order");
    }
}

async fn compare(gateway: &Gateway, started: &Started, known: Known<'_>) {
    let mut record = Record::default();
    let records = record.read_on(&gateway.data());
    record.assert_nothing_open();
    let results = results(&records);
    known.recorded(&records, &results);
    let world = read(started, known.given).await;
    let expected = known.expected();
    let names: BTreeSet<&String> = world.keys().chain(expected.keys()).collect();
    for name in names {
        let found = value(&world, name);
        let allowed = expected.get(name).cloned().unwrap_or_else(|| BTreeSet::from([ABSENT.to_owned()]));
        assert!(allowed.contains(found), "{name} is {found}, not {allowed:?}");
    }
    known.claimed(&world, &results);
    if world.contains_key("tenant/acme") {
        unwrap(&started.tenant("acme"), known.given, known.answers.len(), &world).await;
    }
    for (number, (step, answer)) in known.steps.iter().zip(known.answers).enumerate() {
        if answer.as_ref().is_some_and(|answer| answer.status < 300) {
            step.repeat(number, started, known.given).await;
        }
    }
}

/// A member's value. A token that was never issued is refused like one that was revoked.
fn value<'w>(world: &'w World, name: &str) -> &'w str {
    let found = world.get(name).map_or(ABSENT, String::as_str);
    if name.starts_with("token/") && found == ABSENT {
        "refused"
    } else {
        found
    }
}

/// The result of each step that has one in the log.
fn results(records: &[Value]) -> BTreeMap<String, String> {
    let mut intents = BTreeMap::new();
    let mut results = BTreeMap::new();
    for record in records {
        let step = record["client_request_id"].as_str().map(str::to_owned);
        let tenant = text(&record["tenant"]);
        match record["kind"].as_str() {
            Some("intent") => {
                if let Some(step) = step {
                    intents.insert((tenant, record["sequence"].as_u64()), step);
                }
            }
            Some("outcome") => {
                let of_intent = || intents.get(&(tenant, record["intent"].as_u64())).cloned();
                if let Some(step) = step.or_else(of_intent) {
                    results.insert(step, text(&record["result"]));
                }
            }
            _ => {}
        }
    }
    results
}

impl Known<'_> {
    /// What the answers promise.
    fn expected(&self) -> Expected {
        let before = self.before.iter();
        let mut expected: Expected = before
            .map(|(name, value)| (name.clone(), BTreeSet::from([value.clone()])))
            .collect();
        for (step, answer) in self.steps.iter().zip(self.answers) {
            match answer {
                Some(answer) if answer.takes_effect() => {
                    for (name, value) in &step.changes {
                        expected.insert(name.clone(), BTreeSet::from([value.clone()]));
                    }
                }
                // What the embedded provider made of a rotate that the store could not take is found later.
                Some(answer) if answer.status == 500 && step.name().ends_with("/rotate") => allow(&mut expected, Some(step)),
                Some(answer) if !answer.is_unknown() => {}
                _ => allow(&mut expected, Some(step)),
            }
        }
        allow(&mut expected, self.steps.get(self.answers.len()));
        // A token that does not exist is refused.
        for (name, values) in &mut expected {
            if name.starts_with("token/") && values.remove(ABSENT) {
                values.insert("refused".to_owned());
            }
        }
        for name in self.given.tokens.keys() {
            let values = expected.entry(format!("token/{name}"));
            values.or_insert_with(|| BTreeSet::from(["refused".to_owned()]));
        }
        expected
    }

    /// Each answer that names a record has it, and no record names a step that was not begun.
    fn recorded(&self, records: &[Value], results: &BTreeMap<String, String>) {
        let mut places = BTreeMap::new();
        for record in records {
            let [installation, node, tenant] = ["installation", "node", "tenant"].map(|name| text(&record[name]));
            places.insert(format!("{installation}/{node}/{tenant}#{}", record["sequence"]), record);
        }
        for (step, answer) in self.steps.iter().zip(self.answers) {
            let Some(answer) = answer else { continue };
            if answer.index.is_empty() {
                let may_lack_one = answer.status >= 500 || step.is_batch();
                assert!(may_lack_one, "{} has no record: {answer:?}", step.name());
                continue;
            }
            let found = places.get(&answer.index);
            let record = found.unwrap_or_else(|| panic!("{} is not recorded: {answer:?}", step.name()));
            assert_eq!(
                record["request_id"],
                answer.request.as_str(),
                "another request is at {}",
                answer.index
            );
            assert_eq!(
                record["result"] == "success",
                answer.status < 300,
                "{} was answered {answer:?}: {record}",
                step.name()
            );
        }
        for (number, answer) in self.answers.iter().enumerate() {
            let result = results.get(&client_id(number));
            if answer.as_ref().is_some_and(|answer| answer.status < 500) {
                let success = answer.as_ref().is_some_and(|answer| answer.status < 300);
                assert_eq!(
                    result.map(String::as_str) == Some("success"),
                    success,
                    "step {number}: {answer:?}, {result:?}"
                );
            }
        }
        for number in self.answers.len() + 1..self.steps.len() {
            assert!(!results.contains_key(&client_id(number)), "step {number} was not begun");
        }
    }

    /// What the log says about steps without an answer, or with one that leaves it open, is true.
    fn claimed(&self, world: &World, results: &BTreeMap<String, String>) {
        for (number, step) in self.steps.iter().enumerate().take(self.answers.len() + 1) {
            let Some(result) = results.get(&client_id(number)) else { continue };
            for (name, to) in &step.changes {
                let later = self.steps.iter().enumerate().take(self.answers.len() + 1).skip(number + 1);
                if later.flat_map(|(_, step)| &step.changes).any(|(other, _)| other == name) {
                    continue;
                }
                let has = value(world, name) == to || (to == ABSENT && !world.contains_key(name));
                if result == "success" {
                    assert!(
                        has,
                        "the log says that {} succeeded, but {name} is {}",
                        step.name(),
                        value(world, name)
                    );
                }
            }
        }
    }
}

impl Answered {
    /// Whether the answer says that the step took effect, whatever happens.
    fn takes_effect(&self) -> bool {
        self.status < 300 || self.code == "effective_not_recorded"
    }

    /// Whether the answer leaves open what a start will find.
    fn is_unknown(&self) -> bool {
        matches!(
            self.code.as_str(),
            "effective_in_memory_only" | "audit_unavailable" | "deadline_exceeded"
        )
    }
}
