//! The file of `claviger dev --env-file`: the variables that clients of the gateway read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;

use super::deliver::Destination;
use super::terminal::cannot_write;
use crate::client::Failure;
use crate::io_reason::IoReason;

/// The first line. A file with another one is somebody else's and is not replaced.
const FIRST_LINE: &str = "# Written by claviger dev, and replaced by it.\n";

/// Opens the file's destination. It gets its name once it is written.
///
/// # Errors
/// [`Failure::Usage`] for a file that something else wrote, or that cannot be read or written.
pub(super) fn open(path: &Path) -> Result<Destination, Failure> {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FIRST_LINE.len() as u64).read_to_end(&mut begin));
    match read {
        Ok(_) if begin == FIRST_LINE.as_bytes() => Destination::open(path, false, true),
        Ok(_) => Err(Failure::Usage(format!(
            "{} was not written by claviger dev: name another file",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Destination::open(path, false, true),
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
pub(super) fn write(to: Destination, address: SocketAddr, token_file: &Path, tenant: &str) -> Result<(), Failure> {
    let content = content(address, token_file, tenant);
    to.write_with(|file| file.write_all(content.as_bytes()).map_err(|error| cannot_write(&error)))
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
