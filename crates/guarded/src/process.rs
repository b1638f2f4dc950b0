//! Hardening of the process as a whole.

use crate::{Hardening, NotHardened};

/// Forbids core dumps and, on Linux, that another process of the same user attaches to this
/// one or reads its memory. Called once, first thing in `main`. Each measure is reported;
/// none is fatal.
///
/// Child processes inherit the limit on core dumps. A process that calls `exec` becomes dumpable again.
pub fn harden_process() -> Vec<Hardening> {
    vec![
        Hardening {
            name: "core_limit",
            result: core_limit(),
        },
        Hardening {
            name: "not_dumpable",
            result: not_dumpable(),
        },
    ]
}

#[cfg(not(miri))]
fn core_limit() -> Result<(), NotHardened> {
    // Hard and soft: nothing in this process can raise it again.
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid `rlimit` that outlives the call; the call only reads it.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    if status == 0 { Ok(()) } else { Err(NotHardened::last()) }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn not_dumpable() -> Result<(), NotHardened> {
    let off: libc::c_ulong = 0;
    // SAFETY: `PR_SET_DUMPABLE` takes one number and no pointer.
    let status = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, off, off, off, off) };
    if status == 0 { Ok(()) } else { Err(NotHardened::last()) }
}

#[cfg(miri)]
fn core_limit() -> Result<(), NotHardened> {
    Err(NotHardened::NotAvailable)
}

#[cfg(any(not(target_os = "linux"), miri))]
fn not_dumpable() -> Result<(), NotHardened> {
    Err(NotHardened::NotAvailable)
}
