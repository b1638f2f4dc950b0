//! The gateway's own memory, after the cache's age and with its connections closed. The
//! locked arena must hold nothing; what other regions hold is listed for the threat model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use claviger_test_support::{Gateway, Started, Tune};
use serde_json::json;

use crate::BINARY;
use crate::forms::{Canaries, Found, Search, Sort};
use crate::operations::{Blob, Caller};

/// Requests of other keys after the canaries, on connections of their own.
const FURTHER: usize = 500;
/// Bytes read at once.
const CHUNK: usize = 4 << 20;
/// The cache's age here.
const AGE: Duration = Duration::from_secs(5);

/// One mapping of the process.
struct Mapping {
    from: u64,
    to: u64,
    name: String,
    /// Locked, not in core dumps, not in child processes: the arena's alone.
    arena: bool,
}

/// Whether this process may read a child's memory although that forbids it to others.
pub fn readable() -> bool {
    let gateway = Gateway::new(BINARY);
    let started = gateway.serve(&Tune::default());
    let from = mappings(&started).first().map_or(0, |mapping| mapping.from);
    memory(&started).is_some_and(|memory| memory.read_at(&mut [0; 8], from).is_ok())
}

fn memory(started: &Started) -> Option<File> {
    File::open(format!("/proc/{}/mem", started.pid())).ok()
}

/// The readable mappings, with their flags (proc_pid_smaps(5)).
fn mappings(started: &Started) -> Vec<Mapping> {
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", started.pid())).unwrap_or_default();
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split_whitespace().any(|one| one == flag);
            if let Some(mapping) = all.last_mut() {
                mapping.arena = has("lo") && has("dd") && has("dc");
                if !has("rd") || has("io") || has("pf") {
                    all.pop();
                }
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let Some((from, to)) = words.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else {
            continue;
        };
        let name = words.nth(4).map_or_else(|| "[anonymous]".to_owned(), str::to_owned);
        all.push(Mapping {
            from,
            to,
            name,
            arena: false,
        });
    }
    all
}

/// Where hits are counted: the kind of mapping, not its address.
fn region(mapping: &Mapping) -> String {
    if mapping.arena {
        return "locked arena".to_owned();
    }
    match mapping.name.as_str() {
        name if name.starts_with('/') => name.rsplit('/').next().unwrap_or(name).to_owned(),
        name => name.to_owned(),
    }
}

struct Region {
    bytes: u64,
    found: Found,
}

fn look(started: &Started, search: &Search) -> BTreeMap<String, Region> {
    let memory = memory(started).expect("it was readable before");
    let mut regions = BTreeMap::new();
    let mut mappings = mappings(started);
    // What may expire while this looks comes first.
    mappings.sort_by_key(|mapping| !mapping.arena);
    for mapping in mappings {
        let entry = regions.entry(region(&mapping)).or_insert(Region {
            bytes: 0,
            found: Found::new(),
        });
        entry.bytes += mapping.to - mapping.from;
        let mut at = mapping.from;
        while at < mapping.to {
            let left = usize::try_from(mapping.to - at).unwrap_or(usize::MAX);
            let mut chunk = vec![0; left.min(CHUNK)];
            // The kernel's own pages say no.
            if memory.read_exact_at(&mut chunk, at).is_err() {
                break;
            }
            for (what, count) in search.find(&chunk) {
                *entry.found.entry(what).or_insert(0) += count;
            }
            let length = chunk.len() as u64;
            // A form may lie across two chunks; one of the overlap may count twice.
            let overlap = search.longest() as u64;
            at += if at + length < mapping.to { length - overlap } else { length };
        }
    }
    regions
}

fn in_arena(regions: &BTreeMap<String, Region>) -> usize {
    regions.get("locked arena").map_or(0, |region| region.found.values().sum())
}

fn print(title: &str, regions: &BTreeMap<String, Region>) {
    println!("\n{title}\n{:<28} {:>10}  hits", "region", "KiB");
    for (name, region) in regions {
        let hits: Vec<String> = region
            .found
            .iter()
            .map(|((sort, form), count)| format!("{sort:?} {form} {count}"))
            .collect();
        let hits = if hits.is_empty() { "0".to_owned() } else { hits.join(", ") };
        println!("{name:<28} {:>10}  {hits}", region.bytes / 1024);
    }
}

async fn further(started: &Started) {
    let client = started.tenant("acme");
    for _ in 0..FURTHER {
        let body = json!({"plaintext": false});
        client.post("/v1/keys/others/data-keys", &body).await.expect_status(200);
    }
}

pub async fn search() {
    let gateway = Gateway::new(&crate::measured());
    let age = format!("{}s", AGE.as_secs());
    let tune = Tune::default()
        .set("CLAVIGER_CACHE__MAX_AGE", &age)
        .set("CLAVIGER_CACHE__MAX_IDLE", &age);
    let started = gateway.serve(&tune);
    let mut canaries = Canaries::default();
    let client = started.with_tenant("acme").await;
    {
        let mut caller = Caller::new(&started, client.clone(), &mut canaries);
        let blobs: Vec<Blob> = caller.operations().await;
        caller.errors(&blobs).await;
        caller.tokens().await;
        for blob in &blobs {
            caller.opens(blob).await;
        }
    }
    let search = canaries.search();
    // While they are cached they are found there: the search looks at the right place.
    let cached = look(&started, &search);
    print("while cached, connections open", &cached);
    assert!(in_arena(&cached) > 0, "nothing is cached in the locked arena");

    drop(client);
    let expired = Instant::now() + AGE + Duration::from_secs(1);
    tokio::time::sleep_until(expired.into()).await;
    let after = look(&started, &search);
    print("after the age and one second, connections closed", &after);
    assert_eq!(in_arena(&after), 0, "the locked arena holds what has expired");

    further(&started).await;
    let last = look(&started, &search);
    print(&format!("after {FURTHER} further requests"), &last);
    assert_eq!(in_arena(&last), 0, "the locked arena holds what has expired");
    let keys = |region: &Region| region.found.keys().any(|(sort, _)| *sort != Sort::Context);
    let left: Vec<&String> = last.iter().filter(|(_, region)| keys(region)).map(|(name, _)| name).collect();
    println!(
        "\nregions that hold key material at the end: {left:?} ({} canaries)",
        canaries.len()
    );
    assert!(started.terminate());
}
