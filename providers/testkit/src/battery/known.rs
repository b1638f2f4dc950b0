//! A case that is known to end otherwise on one server, and why that is right or theirs.

use std::any::Any;
use std::panic::{UnwindSafe, catch_unwind};

/// How a case ends otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Words of the failure, so that no other failure is taken for it.
    pub says: &'static str,
    /// Why it is so.
    pub reason: &'static str,
}

/// Runs a case that fails by panicking. One with a known difference has to fail in its words:
/// otherwise the server was mended, or fails in another way.
///
/// # Errors
/// Why the case failed.
#[allow(clippy::print_stderr, reason = "a known difference says what was seen")]
pub fn expect(known: Option<Known>, case: impl FnOnce() + UnwindSafe) -> Result<(), String> {
    match (catch_unwind(case), known) {
        (Ok(()), None) => Ok(()),
        (Err(panic), None) => Err(words(panic.as_ref())),
        (Ok(()), Some(known)) => Err(format!(
            "a known difference no longer occurs, so it is to be taken from the table: {}",
            known.reason
        )),
        (Err(panic), Some(known)) => {
            let said = words(panic.as_ref());
            if said.contains(known.says) {
                eprintln!("known difference: {}", known.reason);
                Ok(())
            } else {
                Err(format!("not the known difference ({}): {said}", known.reason))
            }
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without words".to_owned())
}
