//! What is measured against what.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certs::Certs;
use crate::drive::{self, Load, Sample, Target};
use crate::report::{self, Row};
use crate::servers::{Bare, Claviger, Kes, Keys, OpenBao};
use crate::{Part, Plan};

/// The context at KES and Transit: as long as what the gateway binds.
const CONTEXT: [u8; 150] = [b'c'; 150];
/// Under load before it is measured.
const WARM_UP: Duration = Duration::from_millis(800);
/// Under load before it is measured, where caches have thousands of entries to fill.
const LONG_WARM_UP: Duration = Duration::from_secs(3);
/// Items of a batch.
const BATCH: usize = 100;

/// The names in the tables.
const CLAVIGER: &str = "Claviger";
const BARE: &str = "bare axum";
const KES: &str = "KES";
const TRANSIT: &str = "OpenBao Transit";

/// Everything that the plan asks for. Returns whether every bound of the parts `hostile`, `external`, `softhsm`, `log` and `keys` holds.
pub async fn run(plan: &Plan) -> bool {
    // Servers are told their files by whole paths, wherever they run.
    let disk = plan
        .disk
        .canonicalize()
        .and_then(tempfile::tempdir_in)
        .expect("a folder on the disk");
    let certs = Arc::new(Certs::make(disk.path()));
    if plan.parts.contains(&Part::Keys) {
        report::begin(plan.rounds, plan.seconds);
        return crate::keys::run(plan, &certs).await;
    }
    if plan.parts.contains(&Part::Softhsm) {
        report::begin(plan.rounds, plan.seconds);
        return crate::softhsm::run(plan, &certs).await;
    }
    if plan.parts.contains(&Part::Log) {
        report::begin(plan.rounds, plan.seconds);
        return crate::log::run(plan, &certs).await;
    }
    if plan.parts.iter().any(|part| !matches!(part, Part::Hostile | Part::External)) {
        beside_others(plan, &certs, disk.path()).await;
    }
    let severed = !plan.parts.contains(&Part::External) || crate::external::run(plan, &certs).await;
    let withstood = !plan.parts.contains(&Part::Hostile) || crate::hostile::run(plan, &certs).await;
    severed && withstood
}

/// The gateway beside what a user would take instead.
async fn beside_others(plan: &Plan, certs: &Arc<Certs>, disk: &Path) {
    let gateway = Claviger::start(&plan.claviger, disk, certs);
    let cached = gateway.unwraps("few", Keys::ONE).await;
    let openbao = match &plan.openbao {
        Some(binary) => Some(OpenBao::start(binary, disk, certs).await),
        None => None,
    };
    report::begin(plan.rounds, plan.seconds);
    if plan.parts.contains(&Part::Cached) {
        let first = &cached.asks[0];
        let answer = first.answer.as_ref().expect("an answer");
        let bare = Bare::start(disk, certs, first.body.clone(), answer.len()).await;
        let kes = match &plan.kes {
            Some(binary) => Some(Kes::start(binary, disk, certs, &CONTEXT).await),
            None => None,
        };
        let transit = match &openbao {
            Some(openbao) => Some(openbao.decrypts("cached", &CONTEXT).await),
            None => None,
        };
        let mut targets = vec![(CLAVIGER, &cached), (BARE, &bare.target)];
        targets.extend(kes.as_ref().map(|kes| (KES, &kes.target)));
        targets.extend(transit.as_ref().map(|transit| (TRANSIT, transit)));
        let before = gateway.syncs().await;
        let rows = measure(plan, &targets, &plan.connections, WARM_UP);
        report::cached(&rows, CLAVIGER, BARE, &[KES, TRANSIT], first.body.len(), answer.len());
        report::syncs(before, gateway.syncs().await);
    }
    if let (true, Some(openbao)) = (plan.parts.contains(&Part::Miss), &openbao) {
        misses(plan, certs, &gateway, openbao).await;
    }
    if plan.parts.contains(&Part::Batch) {
        let keys = Keys { blobs: BATCH, ..Keys::ONE };
        let single = gateway.unwraps("batch", keys).await;
        let batched = gateway.batched(&single);
        let targets = [("single calls", &single), ("batches of 100", &batched)];
        let rows = measure(plan, &targets, &[1, 16], WARM_UP);
        report::batch(&rows, "single calls", "batches of 100", BATCH);
    }
    if plan.parts.contains(&Part::Many) {
        many(plan, certs, &gateway, &cached).await;
    }
}

async fn misses(plan: &Plan, certs: &Arc<Certs>, gateway: &Claviger, openbao: &OpenBao) {
    let memory = tempfile::tempdir_in(&plan.memory).expect("a folder in memory");
    let in_memory = Claviger::start(&plan.claviger, memory.path(), certs);
    let policy = "path \"transit/*\" { capabilities = [\"create\", \"read\", \"update\"] }\n\
                  path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }";
    let token = openbao.token("claviger", policy).await;
    let synced = gateway.misses("missing", &openbao.url(), &token).await;
    let unsynced = in_memory.misses("missing", &openbao.url(), &token).await;
    let direct = openbao.decrypts("direct", &CONTEXT).await;
    const DIRECT: &str = "Transit itself";
    const SYNCED: &str = "Claviger over it";
    const UNSYNCED: &str = "Claviger over it, log in memory";
    let targets = [(DIRECT, &direct), (SYNCED, &synced), (UNSYNCED, &unsynced)];
    let rows = measure(plan, &targets, &[1, 16], WARM_UP);
    report::misses(&rows, DIRECT, SYNCED, UNSYNCED);
}

async fn many(plan: &Plan, certs: &Arc<Certs>, old: &Claviger, old_target: &Target) {
    const FEW: &str = "1 tenant, 1 key, 1 wrapped key";
    const LONG: &str = "the same after a long log";
    const MANY: &str = "100 tenants, 1000 keys, 10000 wrapped keys";
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    let fresh = Claviger::start(&plan.claviger, folder.path(), certs);
    let few = fresh.unwraps("few", Keys::ONE).await;
    let crowded = Claviger::start(&plan.claviger, folder.path(), certs);
    let keys = Keys {
        tenants: 100,
        keys: 10,
        blobs: 10,
    };
    let crowd = crowded.unwraps("many", keys).await;
    let targets = [(FEW, &few), (LONG, old_target), (MANY, &crowd)];
    let rows = measure(plan, &targets, &[64], LONG_WARM_UP);
    report::many(&rows, FEW, &[LONG, MANY], old.log_bytes(), old.syncs().await.records);
}

/// Each target in turn, round after round, for each number of connections.
pub fn measure(plan: &Plan, targets: &[(&'static str, &Target)], connections: &[usize], warm_up: Duration) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in connections {
        let load = Load {
            connections: *connections,
            warm_up,
            time: Duration::from_secs(plan.seconds),
        };
        let mut samples: Vec<Vec<Sample>> = targets.iter().map(|_| Vec::new()).collect();
        for round in 0..plan.rounds {
            for ((name, target), samples) in targets.iter().zip(&mut samples) {
                report::progress(round, name, *connections);
                samples.push(tokio::task::block_in_place(|| drive::run(target, load)));
            }
        }
        for ((name, _), samples) in targets.iter().zip(samples) {
            rows.push(Row {
                name,
                connections: *connections,
                samples,
            });
        }
    }
    rows
}
