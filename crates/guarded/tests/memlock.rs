//! An arena in a process that may lock no memory. It has the process to itself, since limits
//! belong to the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_guarded::{Arena, ArenaConfig, ArenaError, NotHardened};

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up the right to lock over the limit (`CAP_IPC_LOCK`), which root has, together with
/// all other capabilities of this thread.
fn drop_capabilities() {
    // `_LINUX_CAPABILITY_VERSION_3`, which takes two sets; pid 0 is the calling thread.
    let header = CapabilityHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [CapabilitySet::default(); 2];
    // SAFETY: both structures have the layout of `capset(2)` and outlive the call, which
    // only reads them.
    let status = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(status, 0);
}

/// The limit at first. Nothing raises it again.
const MOST: u64 = 200 << 10;

fn limit(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: MOST,
    };
    // SAFETY: `limit` outlives the call, which only reads it.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    assert_eq!(status, 0);
}

/// Bytes of this process that the kernel says are locked.
fn locked() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[test]
fn takes_what_may_be_locked_or_works_unlocked_and_reports_it() {
    limit(MOST);
    drop_capabilities();
    let arena = Arena::new(ArenaConfig::default());
    assert_eq!((arena.capacity(), locked()), (192 << 10, 192 << 10), "whole steps of 64 KiB");
    assert!(
        arena.hardening().iter().all(|report| report.result.is_ok()),
        "{:?}",
        arena.hardening()
    );
    let values: Vec<_> = (0..48).map(|_| arena.store(&[1; 4096]).unwrap()).collect();
    assert_eq!(arena.store(&[1]).unwrap_err(), ArenaError::Full);
    drop((arena, values));

    limit(60 << 10);
    let arena = Arena::new(ArenaConfig::default());
    let reports = arena.hardening();
    assert_eq!((arena.capacity(), locked()), (64 << 10, 0));
    assert_eq!(reports[0].name, "memory_locked");
    assert!(matches!(reports[0].result, Err(NotHardened::Refused(_))), "{reports:?}");
    assert!(reports[1..].iter().all(|report| report.result.is_ok()), "{reports:?}");

    let value = arena.store(b"kept all the same").unwrap();
    assert_eq!(value.copy().unwrap(), b"kept all the same");
    value.wipe();
    assert_eq!(value.copy(), None);
}
