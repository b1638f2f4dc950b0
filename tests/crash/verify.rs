//! The checks after a restart: everything that was answered is still true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use claviger_test_support::{Client, Started, records_from};
use serde_json::{Value, json};

use crate::load::{Shared, create_request, text, world};
use crate::world::Blob;

/// The audit log as read so far.
#[derive(Default)]
pub struct Record {
    place: u64,
    next: BTreeMap<String, u64>,
    /// Intents without an outcome yet, by tenant and sequence number.
    open: BTreeSet<(String, u64)>,
    /// Whether a record reports a lost part.
    lost: bool,
    /// `restarted` records of unclean stops.
    pub unclean: u64,
}

impl Record {
    /// Reads the new records and returns them. Panics at a gap in the sequence numbers that no lost part explains.
    pub fn read_on(&mut self, data: &Path) -> Vec<Value> {
        let (records, place) = records_from(data, self.place);
        self.place = place;
        self.lost |= records.iter().any(|record| !record["lost"].is_null());
        for record in &records {
            let tenant = text(&record["tenant"]);
            let sequence = record["sequence"].as_u64().expect("a number");
            let next = self.next.entry(tenant.clone()).or_insert(0);
            assert!(
                sequence == *next || (self.lost && sequence > *next),
                "a gap in the record of tenant {tenant}"
            );
            *next = sequence + 1;
            match record["kind"].as_str().expect("a kind") {
                "intent" => assert!(self.open.insert((tenant, sequence))),
                "outcome" => {
                    if let Some(intent) = record["intent"].as_u64() {
                        assert!(self.open.remove(&(tenant, intent)), "a second outcome: {record}");
                    }
                }
                "restarted" if record["cause"] == "unclean_stop" => self.unclean += 1,
                "withheld" | "aggregate" | "restarted" => {}
                other => panic!("{other}: {record}"),
            }
        }
        records
    }

    /// Panics if an intent has no outcome: after a start none may be open.
    pub fn assert_nothing_open(&self) {
        assert!(self.open.is_empty(), "intents without outcome: {:?}", self.open);
    }
}

/// Every answer since the last check has its record where its header says, with its request id.
pub fn recorded(shared: &Shared, new: &[Value]) {
    let mut places = BTreeMap::new();
    for record in new {
        let place = format!(
            "{}/{}/{}#{}",
            text(&record["installation"]),
            text(&record["node"]),
            text(&record["tenant"]),
            record["sequence"]
        );
        places.insert(place, record);
    }
    for answered in world(shared).answered.drain(..) {
        let record = places
            .get(&answered.index)
            .unwrap_or_else(|| panic!("answered and not recorded: {}", answered.index));
        assert_eq!(
            record["request_id"],
            answered.request_id.as_str(),
            "another request stands at {}",
            answered.index
        );
        assert_eq!(record["result"] == "success", answered.success, "{record}");
    }
}

/// All other checks after a restart.
pub async fn holds(shared: &Shared, started: &Started, client: &Client) {
    switches(shared, client).await;
    rotations(shared, client).await;
    tokens(shared, started).await;
    keys(shared, client).await;
}

async fn switches(shared: &Shared, client: &Client) {
    let names: Vec<String> = world(shared).switched.keys().cloned().collect();
    for name in names {
        let key = client.get(&format!("/v1/keys/{name}")).await.expect_status(200);
        let disabled = key["state"] == "disabled";
        let blobs: Vec<Blob> = {
            let mut world = world(shared);
            let switch = world.switched.get_mut(&name).expect("the key is in the model");
            if switch.pending.take().is_none() {
                assert_eq!(disabled, switch.disabled, "{name} was answered otherwise");
            }
            switch.disabled = disabled;
            world.blobs.iter().filter(|blob| blob.key == name).cloned().collect()
        };
        for blob in blobs {
            let answer = client
                .post("/v1/unwrap", &json!({"wrapped": blob.wrapped, "context": blob.context}))
                .await;
            if disabled {
                answer.expect_problem(409, "key_disabled");
            } else {
                assert_eq!(answer.expect_status(200)["plaintext"], blob.plaintext);
            }
        }
    }
}

/// The primary version is the answered one, or the next if a rotate had no answer. The gateway's
/// versions are the provider's.
pub async fn rotations(shared: &Shared, client: &Client) {
    let names: Vec<String> = world(shared).rotated.keys().cloned().collect();
    for name in names {
        let primary = client.get(&format!("/v1/keys/{name}")).await.expect_status(200)["primary_version"]
            .as_u64()
            .expect("a number");
        {
            let mut world = world(shared);
            let rotated = world.rotated.get_mut(&name).expect("the key is in the model");
            let next = rotated.answered + u64::from(rotated.pending);
            assert!(
                (rotated.answered..=next).contains(&primary),
                "{name} has version {primary}, answered was {}",
                rotated.answered
            );
            (rotated.answered, rotated.pending) = (primary, false);
        }
        let versions = client.list(&format!("/v1/keys/{name}/versions")).await;
        let numbers: Vec<u64> = versions
            .iter()
            .map(|version| version["number"].as_u64().expect("a number"))
            .collect();
        assert_eq!(numbers, (1..=primary).collect::<Vec<_>>(), "the versions of {name}");
        for version in &versions {
            assert_eq!(version["provider_version"], version["number"].to_string().as_str());
            assert_eq!(version["state"], "enabled");
        }
        let made = client
            .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
            .await
            .expect_status(200);
        assert_eq!(made["version"], primary);
    }
}

async fn tokens(shared: &Shared, started: &Started) {
    let tokens = std::mem::take(&mut world(shared).tokens);
    for token in tokens {
        let answer = started.operator().with_token(&token.text).get("/v1/keys?page_size=1").await;
        match token.revoked {
            Some(true) => drop(answer.expect_problem(401, "unauthenticated")),
            Some(false) => drop(answer.expect_status(200)),
            None => assert!(matches!(answer.status, 200 | 401), "{}: {}", token.id, answer.text),
        }
    }
}

/// The list has every key that was answered, and none that was never requested. A creation
/// without an answer can be repeated once, and its key then wraps.
async fn keys(shared: &Shared, client: &Client) {
    let listed = list(client).await;
    let unanswered: Vec<(String, String)> = {
        let world = world(shared);
        let known = |name: &String| {
            world.plain.contains(name)
                || world.rotated.contains_key(name)
                || world.switched.contains_key(name)
                || world.created.contains_key(name)
        };
        for name in listed.keys() {
            assert!(known(name), "nobody asked for key {name}");
        }
        for (name, created) in &world.created {
            if let Some(id) = &created.id {
                assert_eq!(listed.get(name), Some(id), "key {name} was answered");
            }
        }
        let unanswered = world.created.iter().filter(|(_, created)| created.id.is_none());
        unanswered.map(|(name, created)| (name.clone(), created.once.clone())).collect()
    };
    for (name, once) in unanswered {
        let id = text(&client.send(create_request(client, &name, &once)).await.expect_status(201)["id"]);
        if let Some(there) = listed.get(&name) {
            assert_eq!(there, &id, "the repeated request made a second key {name}");
        }
        client
            .post(&format!("/v1/keys/{name}/data-keys"), &json!({}))
            .await
            .expect_status(200);
        world(shared).created.get_mut(&name).expect("in the model").id = Some(id);
    }
}

async fn list(client: &Client) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut path = "/v1/keys?page_size=1000".to_owned();
    loop {
        let page = client.get(&path).await.expect_status(200);
        for key in page["items"].as_array().expect("a list") {
            assert!(all.insert(text(&key["name"]), text(&key["id"])).is_none(), "a key twice: {key}");
        }
        match page["next_page_token"].as_str() {
            Some(token) => path = format!("/v1/keys?page_size=1000&page_token={token}"),
            None => return all,
        }
    }
}

/// Unwraps these wrapped keys, a thousand at a time.
pub async fn opens(client: &Client, blobs: &[Blob]) {
    for chunk in blobs.chunks(1000) {
        let items: Vec<Value> = chunk
            .iter()
            .map(|blob| json!({"wrapped": blob.wrapped, "context": blob.context}))
            .collect();
        let answer = client.post("/v1/batch/unwrap", &json!({"items": items})).await.expect_status(200);
        for (item, blob) in answer["items"].as_array().expect("a list").iter().zip(chunk) {
            assert_eq!(item["plaintext"], blob.plaintext.as_str(), "a blob of key {}: {item}", blob.key);
        }
    }
}
