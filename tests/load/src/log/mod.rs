//! The audit log on a disk: what a commit costs, the throughput that each mode of durability leaves, and the
//! time of a start after a kill.

mod commits;
mod long;
mod starts;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certs::Certs;
use crate::scenarios::measure;
use crate::servers::{Claviger, Keys};
use crate::{Plan, report};

/// The modes of `audit.durability`.
const SYNCED: &str = "power-loss";
const WRITTEN: &str = "process-crash";

/// Measures all of it. Returns whether every start was fast enough.
pub async fn run(plan: &Plan, certs: &Arc<Certs>) -> bool {
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    tokio::task::block_in_place(|| commits::run(plan, folder.path()));
    throughput(plan, certs, folder.path()).await;
    starts::run(plan, certs, folder.path()).await
}

/// Cached unwraps of one data key in both modes.
async fn throughput(plan: &Plan, certs: &Arc<Certs>, folder: &Path) {
    let in_mode = |mode: &str| {
        let variable = ("CLAVIGER_AUDIT__DURABILITY".to_owned(), mode.to_owned());
        Claviger::start_with(&plan.claviger, folder, certs, &[variable])
    };
    let gateways = [in_mode(SYNCED), in_mode(WRITTEN)];
    let synced = gateways[0].unwraps("few", Keys::ONE).await;
    let written = gateways[1].unwraps("few", Keys::ONE).await;
    let before = [gateways[0].syncs().await, gateways[1].syncs().await];
    let targets = [(SYNCED, &synced), (WRITTEN, &written)];
    let rows = measure(plan, &targets, &plan.connections, Duration::from_millis(800));
    report::durability(&rows, SYNCED, WRITTEN);
    for ((mode, gateway), before) in [SYNCED, WRITTEN].iter().zip(&gateways).zip(before) {
        println!("\n`{mode}`:");
        report::syncs(before, gateway.syncs().await);
    }
}
