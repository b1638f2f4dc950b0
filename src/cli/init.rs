//! The command `init`: creates the data folder and the first administrator's token.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use claviger_provider::Secret;

use super::serve::not_started;
use super::serving::InitArgs;
use super::terminal::{Terminal, cannot_write};
use crate::boot::{StartOptions, init};
use crate::client::Failure;
use crate::io_reason::IoReason;

/// Initialises the data folder and writes the token to its file or to a terminal.
pub(super) async fn run(args: &InitArgs, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let config = args.config.load().map_err(|errors| Failure::Usage(errors.to_string()))?;
    if args.token_out.is_none() && !terminal.is_terminal {
        return Err(Failure::Usage(
            "standard output is not a terminal: write the token to a file with --token-out FILE".to_owned(),
        ));
    }
    // Create the file first, because a token that cannot be written would be lost.
    let file = args.token_out.as_deref().map(create_private).transpose()?;
    let token = match init(&config, StartOptions::default(), args.new_token).await {
        Ok(token) => token,
        Err(error) => {
            if let Some(path) = &args.token_out {
                // Remove the empty file. If that fails, it stays empty.
                let _ = std::fs::remove_file(path);
            }
            return Err(not_started(&error));
        }
    };
    let say = |out: &mut dyn Write, text: &str| out.write_all(text.as_bytes()).map_err(|error| cannot_write(&error));
    match (file, &args.token_out) {
        (Some(mut file), Some(path)) => {
            write_line(&mut file, &token).map_err(|error| Failure::Local(format!("{}: {}", path.display(), IoReason(error.kind()))))?;
            say(
                terminal.out,
                &format!("The administrator's token is in {}. It is valid for 24 hours.\n", path.display()),
            )?;
        }
        (Some(_), None) | (None, Some(_) | None) => {
            write_line(terminal.out, &token).map_err(|error| cannot_write(&error))?;
            say(
                terminal.out,
                "This is the administrator's token. It is shown only once and is valid for 24 hours.\n",
            )?;
        }
    }
    say(
        terminal.out,
        "Next: claviger serve. Then, with the token's file in CLAVIGER_TOKEN_FILE: claviger tenants create NAME.\n\
         Tokens that outlive this one: claviger tokens create --kind standing (docs/access.md shows whole examples).\n",
    )
}

/// Creates a new file that only its owner may read.
pub(super) fn create_private(path: &Path) -> Result<std::fs::File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            Failure::Usage(match error.kind() {
                ErrorKind::AlreadyExists => format!("{} exists: name a file that does not", path.display()),
                kind => format!("{}: the file cannot be created ({})", path.display(), IoReason(kind)),
            })
        })
}

pub(super) fn write_line(out: &mut dyn Write, token: &Secret) -> std::io::Result<()> {
    out.write_all(token.expose())?;
    out.write_all(b"\n")?;
    out.flush()
}
