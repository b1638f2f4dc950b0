//! Cases that are known to fail on one server, each with its reason.

use std::any::Any;
use std::panic::{UnwindSafe, catch_unwind};

/// An expected failure.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// A part of the failure's message, so that no other failure is mistaken for it.
    pub says: &'static str,
    /// Why the case fails.
    pub reason: &'static str,
}

/// Runs a case that fails by panicking. A case with a known difference must fail with the known
/// message: otherwise the server was fixed, or fails in another way.
///
/// # Errors
/// Why the case failed.
#[allow(clippy::print_stderr, reason = "reports the known difference")]
pub fn expect(known: Option<Known>, case: impl FnOnce() + UnwindSafe) -> Result<(), String> {
    match (catch_unwind(case), known) {
        (Ok(()), None) => Ok(()),
        (Err(panic), None) => Err(message(panic.as_ref())),
        (Ok(()), Some(known)) => Err(format!(
            "a known difference no longer occurs, so remove it from the table: {}",
            known.reason
        )),
        (Err(panic), Some(known)) => {
            let seen = message(panic.as_ref());
            if seen.contains(known.says) {
                eprintln!("known difference: {}", known.reason);
                Ok(())
            } else {
                Err(format!("not the known difference ({}): {seen}", known.reason))
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
