//! An arena in a process that may lock no memory. It has the process to itself, since limits
//! belong to the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use claviger_guarded::{Arena, ArenaConfig, NotHardened};

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

#[test]
fn works_unlocked_and_reports_it() {
    drop_capabilities();
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call, which only reads it.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) };
    assert_eq!(status, 0);

    let arena = Arena::new(ArenaConfig::default());
    let reports = arena.hardening();
    assert_eq!(reports[0].name, "memory_locked");
    assert!(matches!(reports[0].result, Err(NotHardened::Refused(_))), "{reports:?}");
    assert!(reports[1..].iter().all(|report| report.result.is_ok()), "{reports:?}");

    let value = arena.store(b"kept all the same").unwrap();
    assert_eq!(value.with(<[u8]>::to_vec).unwrap(), b"kept all the same");
    value.wipe();
    assert_eq!(value.with(<[u8]>::to_vec), None);
}
