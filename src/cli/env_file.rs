//! The file of `claviger dev --env-file`: the variables that clients of the gateway read.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::client::Failure;
use crate::io_reason::IoReason;

/// The first line. A file with another one is somebody else's and is not replaced.
const FIRST_LINE: &str = "# Written by claviger dev, and replaced by it.\n";

/// Checks that [`write()`] may replace the file.
///
/// # Errors
/// [`Failure::Usage`] for a file that something else wrote, or that cannot be read.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FIRST_LINE.len() as u64).read_to_end(&mut begin));
    match read {
        Ok(_) if begin == FIRST_LINE.as_bytes() => Ok(()),
        Ok(_) => Err(Failure::Usage(format!(
            "{} was not written by claviger dev: name another file",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::Usage(format!(
            "{}: the file cannot be read ({})",
            path.display(),
            IoReason(error.kind())
        ))),
    }
}

/// Writes the variables, one a line, whole or not at all. The token itself is not among them.
///
/// # Errors
/// [`Failure::Local`] if the file cannot be written.
pub(super) fn write(path: &Path, address: SocketAddr, token_file: &Path, tenant: &str) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let written = NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(content(address, token_file, tenant).as_bytes())?;
        file.persist(path)?;
        Ok(())
    });
    written.map_err(|error| {
        Failure::Local(format!(
            "{}: the file cannot be written ({})",
            path.display(),
            IoReason(error.kind())
        ))
    })
}

fn content(address: SocketAddr, token_file: &Path, tenant: &str) -> String {
    let token_file = quoted(&token_file.display().to_string());
    format!("{FIRST_LINE}CLAVIGER_ADDRESS=http://{address}\nCLAVIGER_TOKEN_FILE={token_file}\nCLAVIGER_TENANT={tenant}\n")
}

/// Quotes what a shell would not take as one word. Other readers of such files take off the quotes, or do not need them
/// for what is usual in a path.
fn quoted(text: &str) -> String {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    match text.bytes().all(is_usual) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
