//! Hardening of a whole process, which is this test's own: once hardened, the kernel hides
//! parts of `/proc/self` from it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_guarded::harden_process;

#[test]
fn the_process_is_hardened_and_says_so() {
    let reports = harden_process();
    let taken: Vec<_> = reports.iter().map(|report| (report.name, report.result)).collect();
    assert_eq!(taken, [("core_limit", Ok(())), ("not_dumpable", Ok(()))]);

    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    // SAFETY: `PR_GET_DUMPABLE` takes no argument.
    let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    assert_eq!(dumpable, 0);
}
