//! How long a start takes after a kill, by the length of the log.
//!
//! A start after a kill reads what was written since the sidecar. That is written anew by each start, and then
//! every 64 MiB. Each measured start therefore follows on almost as many bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certs::Certs;
use crate::drive::{self, Load, Target};
use crate::servers::{Claviger, Keys};
use crate::{Plan, report};

/// Bytes of records before a kill: with some more, less than 64 MiB.
const UNREAD: f64 = 50e6;
/// The most that a start may take until `/readyz` says that it is ready.
const BOUND: Duration = Duration::from_millis(500);
/// Items of a batch: a record each.
const BATCH: usize = 100;

/// The starts on one log.
struct Row {
    records: f64,
    bytes: f64,
    took: Vec<Duration>,
}

/// Measures starts on a log of real records, and on one that closed segments without content make longer.
pub async fn run(plan: &Plan, certs: &Arc<Certs>, folder: &Path) -> bool {
    let gateway = Claviger::start(&plan.claviger, folder, certs);
    let keys = Keys { blobs: BATCH, ..Keys::ONE };
    let single = gateway.unwraps("starts", keys).await;
    let mut batched = gateway.batched(&single);
    let mut written = gateway.syncs().await;
    while written.records < plan.log.records as f64 {
        eprintln!("{:.0} records are written", written.records);
        load(&batched);
        written = gateway.syncs().await;
    }
    let (gateway, took) = starts(plan, gateway, &mut batched).await;
    let each = written.bytes / written.records;
    let bytes = gateway.log_bytes() as f64;
    let real = Row {
        records: bytes / each,
        bytes,
        took,
    };
    let gateway = gateway.restarted_after(|data| super::long::lengthen(data, plan.log.many_records as f64 * each));
    let (gateway, took) = starts(plan, gateway, &mut batched).await;
    let bytes = gateway.log_bytes() as f64;
    let long = Row {
        records: bytes / each,
        bytes,
        took,
    };
    tell(&[real, long])
}

/// Kills the gateway and starts it again, as often as the plan has rounds.
async fn starts(plan: &Plan, mut gateway: Claviger, batched: &mut Target) -> (Claviger, Vec<Duration>) {
    gateway = gateway.restarted_after(|_| ());
    *batched = gateway.at(batched);
    let mut all = Vec::new();
    for round in 0..plan.rounds {
        report::progress(round, "a start after a kill", 0);
        load(batched);
        let before = gateway.syncs().await.bytes;
        while gateway.syncs().await.bytes - before < UNREAD {
            load(batched);
        }
        let took;
        (gateway, took) = gateway.killed_and_started().await;
        *batched = gateway.at(batched);
        all.push(took);
    }
    (gateway, all)
}

fn load(batched: &Target) {
    let load = Load {
        connections: 4,
        warm_up: Duration::ZERO,
        time: Duration::from_millis(300),
    };
    tokio::task::block_in_place(|| drive::run(batched, load));
}

/// Prints the starts. Returns whether all were fast enough.
fn tell(rows: &[Row]) -> bool {
    println!(
        "\n### Start after a kill\n\nFrom the start of the process until `/readyz` returns 200, after {:.0} MB of records that the sidecar lacks.",
        UNREAD / 1e6
    );
    println!(
        "\n| records in the log | GB | median ms | longest ms (less than {}) |\n|---|---|---|---|",
        BOUND.as_millis()
    );
    for row in rows {
        let millis = row.took.iter().map(|took| took.as_secs_f64() * 1e3);
        let longest = millis.clone().fold(0.0, f64::max);
        let median = report::median(millis.collect());
        println!("| {:.0} | {:.2} | {median:.0} | {longest:.0} |", row.records, row.bytes / 1e9);
    }
    let holds = rows.iter().flat_map(|row| &row.took).all(|took| *took < BOUND);
    if !holds {
        println!("\nA start took too long.");
    }
    holds
}
