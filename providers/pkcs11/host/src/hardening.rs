//! The protection of the helper's memory.

use claviger_guarded::harden_process;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};

/// Forbids core dumps and reading by other processes, and keeps all memory out of swap. Returns what does not
/// hold, with the reason.
pub(crate) fn harden() -> Vec<String> {
    let mut missing: Vec<String> = harden_process()
        .into_iter()
        .filter_map(|measure| measure.result.err().map(|why| format!("{}: {why}", measure.name)))
        .collect();
    // Under a limit, memory that is taken later could not be locked, and would be refused to the module.
    let limit = getrlimit(Resource::Memlock).current;
    if let Some(limit) = limit {
        missing.push(format!(
            "locked_memory: the limit of locked memory is {limit} bytes, and must be unlimited (LimitMEMLOCK=infinity)"
        ));
    } else if let Err(why) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        missing.push(format!("locked_memory: {why}"));
    }
    missing
}
