//! The process's environment, which libraries read wherever they like.

use crate::NotHardened;

/// Removes these variables from the process's environment. Returns those that were set. Called first thing in `main`.
///
/// # Errors
/// Removes nothing once the process has a second thread, or where the system does not tell how many it has.
pub fn remove_variables(names: &[&'static str]) -> Result<Vec<&'static str>, NotHardened> {
    let set: Vec<_> = names.iter().copied().filter(|name| std::env::var_os(name).is_some()).collect();
    if !set.is_empty() && !is_only_thread() {
        return Err(NotHardened::NotAvailable);
    }
    for name in &set {
        // SAFETY: No other thread exists that could read or write the environment meanwhile, and this one makes none.
        unsafe { std::env::remove_var(name) };
    }
    Ok(set)
}

#[cfg(all(target_os = "linux", not(miri)))]
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[cfg(any(not(target_os = "linux"), miri))]
const fn is_only_thread() -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::remove_variables;

    #[test]
    fn nothing_is_removed_beside_another_thread() {
        let path = std::env::var_os("PATH").unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        assert!(remove_variables(&["PATH"]).is_err());
        drop(end);
        other.join().unwrap().unwrap_err();
        assert_eq!(std::env::var_os("PATH").unwrap(), path);
        assert_eq!(remove_variables(&["CLAVIGER_NO_SUCH_VARIABLE"]), Ok(Vec::new()));
    }
}
