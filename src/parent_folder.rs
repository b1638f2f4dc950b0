//! The folder that contains a file: its name must be durable there before the file counts.

use std::fs::File;
use std::io;
use std::path::Path;

/// The folder that contains this path.
pub fn of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Makes the entries of the folder that contains this path durable.
///
/// # Errors
/// The file system's.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(of(path)).and_then(|folder| folder.sync_all())
}
